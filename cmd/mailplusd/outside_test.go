package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// outside is another mail server: it keeps what it gets and refuses whom it is told to.
type outside struct {
	t      *testing.T
	port   int
	mu     sync.Mutex
	refuse map[string]bool // recipients
	got    []letter
}

type letter struct{ from, to, text string }

func startOutside(t *testing.T) *outside {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{t: t, port: l.Addr().(*net.TCPAddr).Port, refuse: map[string]bool{}}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &outsideSession{o: o}, nil }))
	srv.Domain, srv.EnableDSN = "outside.example", true
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return o
}

// use sends all of a daemon's mail for other servers to this one.
func (o *outside) use(d *process) {
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1")
	d.ok("relay", "set", "--mode", "single", "--tls", "none", "--host", "127.0.0.1", "--port", fmt.Sprint(o.port))
}

func (o *outside) all() []letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

// wait returns the first letter to an address.
func (o *outside) wait(d *process, to string) letter {
	o.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for _, l := range o.all() {
			if l.to == to {
				return l
			}
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("nothing for %s; there is %+v\n%s\n%s", to, o.all(), d.ok("queue", "list", "-o", "wide"), tail(d.log.String()))
		}
	}
}

// count is how many letters went to an address.
func (o *outside) count(to string) (n int) {
	for _, l := range o.all() {
		if l.to == to {
			n++
		}
	}
	return n
}

type outsideSession struct {
	o *outside
	l letter
}

func (s *outsideSession) Mail(from string, _ *smtp.MailOptions) error { s.l.from = from; return nil }
func (s *outsideSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	if s.o.refuse[to] {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
	}
	s.l.to = strings.TrimSpace(s.l.to + " " + to)
	return nil
}
func (s *outsideSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.l.text = string(b)
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.o.got = append(s.o.got, s.l)
	return nil
}
func (s *outsideSession) Reset()        { s.l = letter{} }
func (s *outsideSession) Logout() error { return nil }

// mail hands a message in from outside and wants a 250.
func (d *process) mail(from, to, headers string) {
	d.t.Helper()
	c := d.smtp(2525)
	defer c.c.Close()
	if r, err := c.send(from, to, headers+"\r\n\r\ntext"); err != nil || !strings.HasPrefix(r, "250") {
		d.t.Fatalf("%s to %s: %q %v", from, to, r, err)
	}
}

// drained waits until nothing is queued any more.
func (d *process) drained() {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); d.ok("queue", "list", "-o", "name") != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("still queued:\n%s", d.ok("queue", "list", "-o", "wide"))
		}
	}
}

// as gives a certificate that mpctl trusts to the daemon, and what makes mpctl a user's over TLS.
func (d *process) as(user string) func(args ...string) []string {
	d.t.Helper()
	key, cert := selfSigned(d.t.(*testing.T))
	pem := d.file("as.pem", cert)
	d.ok("cert", "import", "as", "--cert", pem, "--key-file", d.file("as.key", key), "--default", "on")
	login := []string{"--server", d.port(2825), "--ca", pem, "--login", user, "--login-password-file", d.file("pw-"+user, devPassword)}
	return func(args ...string) []string { return append(slices.Clone(login), args...) }
}
