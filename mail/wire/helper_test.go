package wire

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCert is one certificate for all tests.
var testCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.test"},
		DNSNames: []string{"mx.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func testTLS(*tls.ClientHelloInfo) (*tls.Config, error) {
	return &tls.Config{Certificates: []tls.Certificate{testCert()}}, nil
}

// backend remembers the messages that Data read to a proper end.
type backend struct {
	mu       sync.Mutex
	slow     bool // read through go-smtp's reader, not through Body
	swallow  bool // accept a message whatever its reader says
	messages []string
	froms    []string
	rcpts    []string
	paths    []string
	facts    []BodyFacts
	fail     error
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{b: b, g: FromSMTP(c.Conn())}, nil
}

type session struct {
	b *backend
	g *SMTPConn
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.froms = append(s.b.froms, from)
	return s.b.fail
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.rcpts = append(s.b.rcpts, to)
	if s.g != nil {
		s.b.paths = append(s.b.paths, s.g.Path())
	}
	if strings.HasPrefix(to, "no") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	if s.g != nil && !s.b.slow {
		r = s.g.Body(r)
	}
	all, err := io.ReadAll(r)
	if err != nil && !s.b.swallow {
		return err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if err == nil {
		s.b.messages = append(s.b.messages, string(all))
		if s.g != nil {
			s.b.facts = append(s.b.facts, s.g.BodyFacts())
		}
	}
	return nil
}

func (s *session) AuthMechanisms() []string { return []string{"PLAIN"} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != "u" || pass != "p" {
			return errors.New("no")
		}
		return nil
	}), nil
}

func (b *backend) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.messages...)
}

// serve runs go-smtp behind the gate until the test ends.
func serve(t testing.TB, be *backend, sc *SMTPConfig, cfg Config) *Listener {
	t.Helper()
	if sc.Hostname == "" {
		sc.Hostname = "mx.test"
	}
	cfg.Protocol = SMTP(sc)
	l, err := Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(be)
	srv.MaxLineLength = 0
	srv.AllowInsecureAuth = true
	srv.ErrorLog = log.New(io.Discard, "", 0)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		for _, c := range l.Conns() {
			c.Abort(ReasonShutdown)
		}
		<-done
	})
	return l
}

// peer is a raw client.
type peer struct {
	net.Conn
	r *bufio.Reader
	t testing.TB
}

func dial(t testing.TB, l *Listener) *peer {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return &peer{Conn: c, r: bufio.NewReader(c), t: t}
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// reply reads a whole reply.
func (p *peer) reply() string {
	p.t.Helper()
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String() + "(" + err.Error() + ")"
		}
		if len(line) < 4 || line[3] != '-' {
			return b.String()
		}
	}
}

func (p *peer) want(prefix string) string {
	p.t.Helper()
	got := p.reply()
	if !strings.HasPrefix(got, prefix) {
		p.t.Fatalf("reply %q, want %q", got, prefix)
	}
	return got
}

func (p *peer) do(cmd, prefix string) string {
	p.t.Helper()
	p.send(cmd + "\r\n")
	return p.want(prefix)
}

// closed asserts that the server ended the connection.
func (p *peer) closed() {
	p.t.Helper()
	b, err := io.ReadAll(p.r)
	if len(b) > 0 {
		p.t.Fatalf("more output: %q", b)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		p.t.Fatal("connection still open")
	}
}

func (p *peer) envelope() {
	p.t.Helper()
	p.do("MAIL FROM:<a@x.test>", "250 2.1.0")
	p.do("RCPT TO:<b@x.test>", "250 2.1.5")
}

func (p *peer) hello() string {
	p.t.Helper()
	p.want("220 mx.test ")
	return p.do("EHLO me.test", "250-mx.test\r\n")
}

func (p *peer) startTLS() {
	p.t.Helper()
	p.do("STARTTLS", "220 2.0.0")
	p.upgrade()
}

func (p *peer) upgrade() {
	p.t.Helper()
	c := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.Conn, p.r = c, bufio.NewReader(c)
}

// syncBuffer is a log target that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
