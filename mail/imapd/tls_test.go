package imapd_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/wire"
)

// With implicit TLS the greeting offers what may be done under TLS: a client that believes it, as it may,
// would otherwise not log in at all.
func TestGreetingUnderTLS(t *testing.T) {
	cert, err := certs.SelfSigned("c", []string{"mail.example.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert.CertPEM, cert.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}}
	set := model.DefaultSettings()
	set.Services.PlainLogin = "never" // as it is for everybody but this machine
	srv := &imapd.Server{Store: &store.Store{}, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{
		Protocol: wire.IMAP{}, Limits: wire.Limits{MaxConns: 100, MaxPerIP: 100}, ImplicitTLS: true,
		TLS: func(*tls.ClientHelloInfo) (*tls.Config, error) { return conf, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { l.Close() })
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	hi, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(hi, "AUTH=PLAIN") || strings.Contains(hi, "LOGINDISABLED") || strings.Contains(hi, "STARTTLS") {
		t.Errorf("%v %q", err, hi)
	}
	io.WriteString(c, "a LOGOUT\r\n")
}
