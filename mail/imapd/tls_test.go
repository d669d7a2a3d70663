package imapd_test

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// overTLS serves the world's mail with a certificate; a password is taken under TLS only.
func (w *world) overTLS(implicit bool) string {
	w.t.Helper()
	cert, err := certs.SelfSigned("c", []string{"mail.example.test"}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert.CertPEM, cert.KeyPEM)
	if err != nil {
		w.t.Fatal(err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}}
	set := model.DefaultSettings()
	set.Services.PlainLogin = "never" // as it is for everybody but this machine
	srv := &imapd.Server{Store: w.store, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{
		Protocol: wire.IMAP{}, Limits: wire.Limits{MaxConns: 100, MaxPerIP: 100}, ImplicitTLS: implicit,
		TLS: func(*tls.ClientHelloInfo) (*tls.Config, error) { return conf, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	go srv.Serve(l)
	w.t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// With implicit TLS the greeting offers what may be done under TLS: a client that believes it, as it may,
// would otherwise not log in at all.
func TestGreetingUnderTLS(t *testing.T) {
	c, err := tls.Dial("tcp", newWorld(t).overTLS(true), &tls.Config{InsecureSkipVerify: true})
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

// TestStartTLS: nothing that came before TLS is done under it, a login in clear is refused, and COMPRESS
// works above TLS.
func TestStartTLS(t *testing.T) {
	// covers: R6.21 I.19
	w := newWorld(t)
	w.deliver("anna", mail)
	raw, err := net.Dial("tcp", w.overTLS(false))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(time.Minute))
	c := &client{w: w, c: raw, r: bufio.NewReader(raw)}
	if hi := c.line(); !strings.Contains(hi, "STARTTLS") || !strings.Contains(hi, "LOGINDISABLED") || strings.Contains(hi, "AUTH=") {
		t.Errorf("%q", hi)
	}
	c.gets("NO [PRIVACYREQUIRED]", "LOGIN anna secret")
	c.gets("NO [PRIVACYREQUIRED]", "AUTHENTICATE PLAIN AGFubmEAc2VjcmV0")
	c.gets("BAD log in first", "COMPRESS DEFLATE")
	io.WriteString(raw, "s STARTTLS\r\ni LOGIN anna secret\r\n") // the second put in by somebody on the way
	c.until("s")
	under := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if err := under.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.c, c.r = under, bufio.NewReader(under)
	c.gets("BAD log in first", "SELECT INBOX") // and no answer to i comes before
	c.gets("BAD", "STARTTLS")
	if out := c.ok("CAPABILITY"); strings.Contains(out, "STARTTLS") || !strings.Contains(out, "AUTH=PLAIN") {
		t.Error(out)
	}
	c.ok("LOGIN anna secret")
	io.WriteString(under, "z COMPRESS DEFLATE\r\n")
	c.until("z")
	flat, err := flate.NewWriter(under, 6)
	if err != nil {
		t.Fatal(err)
	}
	c.c, c.r = flushing{under, flat}, bufio.NewReader(flate.NewReader(under))
	c.gets("BAD", "STARTTLS")
	c.ok("SELECT INBOX")
	c.gets("hello world", "FETCH 1 BODY[]")
}
