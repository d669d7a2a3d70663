package remote

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"mailplusd/mail/model"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"
)

// zone serves a few records on loopback.
func zone(t *testing.T, records string) string {
	t.Helper()
	byName := map[string][]dns.RR{}
	zp := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		k := rr.Header().Name + dns.TypeToString[rr.Header().Rrtype]
		byName[k] = append(byName[k], rr)
		byName[rr.Header().Name] = append(byName[rr.Header().Name], rr)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(m)
		q := m.Question[0]
		r.Answer = byName[q.Name+dns.TypeToString[q.Qtype]]
		switch {
		case strings.HasPrefix(q.Name, "fail."):
			r.Rcode = dns.RcodeServerFailure
		case len(byName[q.Name]) == 0:
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return pc.LocalAddr().String()
}

// peer is a mail server that keeps what it gets.
type peer struct {
	mu   sync.Mutex
	got  []string
	rcpt func(string) error
}

func (p *peer) NewSession(*smtp.Conn) (smtp.Session, error) { return &peerSession{p: p}, nil }

type peerSession struct{ p *peer }

func (s *peerSession) Reset()                               {}
func (s *peerSession) Logout() error                        { return nil }
func (s *peerSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *peerSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.p.rcpt != nil {
		return s.p.rcpt(to)
	}
	return nil
}
func (s *peerSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.p.mu.Lock()
	s.p.got = append(s.p.got, string(b))
	s.p.mu.Unlock()
	return err
}

func (p *peer) start(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(p)
	srv.Domain = "mx.test"
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

const records = `
ok.test. 60 IN MX 10 dead.test.
ok.test. 60 IN MX 20 mx.test.
mx.test. 60 IN A 127.0.0.1
dead.test. 60 IN A 127.0.0.2
bare.test. 60 IN A 127.0.0.1
null.test. 60 IN MX 0 .
noaddr.test. 60 IN MX 0 nothing.test.
nothing.test. 60 IN TXT "x"
`

func TestDeliver(t *testing.T) {
	// covers: I.30 R2.15
	p := &peer{rcpt: func(to string) error {
		switch {
		case strings.HasPrefix(to, "no@"):
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "who?"}
		case strings.HasPrefix(to, "later@"):
			return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "greylisted"}
		}
		return nil
	}}
	port, server := p.start(t), zone(t, records)
	c := &Client{Resolvers: func() []string { return []string{server} }, Hello: func() string { return "us.test" }, Port: func() int { return port }, UseTLS: func() bool { return true }}
	defer func() { c.Close() }()
	deliver := func(domain string, rcpts ...string) []Result {
		j := Job{From: "a@us.test", Domain: domain, Size: 20, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("Subject: x\r\n\r\n.dot\r\n")), nil
		}}
		for i, r := range rcpts {
			j.Rcpts = append(j.Rcpts, model.QueueRcpt{N: uint32(i), Address: r})
		}
		return c.Deliver(context.Background(), j)
	}
	res := deliver("ok.test", "yes@ok.test", "no@ok.test", "later@ok.test") // the first MX is dead
	for i, want := range []model.Outcome{model.OutcomeDelivered, model.OutcomeFailed, model.OutcomeDeferred} {
		if res[i].Outcome != want || res[i].N != uint32(i) {
			t.Errorf("%d: %+v", i, res[i])
		}
	}
	if res[1].Reason != "550 5.1.1 who?" || !strings.HasPrefix(res[1].Remote, "mx.test [127.0.0.1]") {
		t.Errorf("%+v", res[1])
	}
	if len(p.got) != 1 || p.got[0] != "Subject: x\r\n\r\n.dot\r\n" {
		t.Errorf("%q", p.got)
	}
	for domain, want := range map[string]model.Outcome{
		"bare.test": model.OutcomeDelivered, "null.test": model.OutcomeFailed, "missing.test": model.OutcomeFailed, "fail.test": model.OutcomeDeferred, "noaddr.test": model.OutcomeFailed, "[127.0.0.1]": model.OutcomeDelivered,
	} {
		if res := deliver(domain, "x@"+domain); res[0].Outcome != want || res[0].Reason == "" {
			t.Errorf("%s: %+v, want %s", domain, res[0], want)
		}
	}
	c.Close()
	c = &Client{Resolvers: c.Resolvers, Hello: c.Hello, Port: c.Port, UseTLS: c.UseTLS, Ours: func(netip.AddrPort) bool { return true }}
	if res := deliver("bare.test", "x@bare.test"); res[0].Outcome != model.OutcomeFailed || !strings.Contains(res[0].Reason, "loops back") {
		t.Errorf("a loop: %+v", res[0])
	}
}
