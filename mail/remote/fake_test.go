package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/model"

	"github.com/miekg/dns"
)

// fake is a mail server of one address that does at each stage what its script says. A stage is
// a verb in upper case, greeting, text (the answer to the message) or tls. What it may do, besides
// giving a reply: hang, close, cut (close in the middle of the reply), drip (an octet a minute)
// and flood (1 MB of reply, many times what is read).
type fake struct {
	ext    []string
	script map[string]string
	tls    *tls.Config

	mu    sync.Mutex
	got   []string // messages
	lines []string // commands
	conns int
}

// world is the network of a test: servers by address, records, and nothing else.
type world struct {
	hosts map[string]*fake
	zone  map[string][]dns.RR
	dead  time.Duration // how long DNS takes to fail; 0: it works
	asked int
	wg    sync.WaitGroup
	// names, in lower case with a dot at the end, whose answers are authentic (AD), or fail
	secure func(name string) bool
	broken map[string]bool
}

func newWorld(t *testing.T, records string, hosts map[string]*fake) (*world, *Client) {
	t.Helper()
	w := &world{hosts: hosts, zone: map[string][]dns.RR{}}
	zp := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		w.zone[rr.Header().Name] = append(w.zone[rr.Header().Name], rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	c := &Client{
		Resolvers: func() []string { return []string{"192.0.2.53"} }, Hello: func() string { return "us.test" }, Port: func() int { return 25 },
		UseTLS: func() bool { return true }, Dial: w.dial, Exchange: w.exchange,
	}
	t.Cleanup(func() { c.Close(); w.wg.Wait() })
	return w, c
}

func (w *world) exchange(ctx context.Context, m *dns.Msg, _ string) (*dns.Msg, error) {
	w.asked++
	if w.dead > 0 {
		select {
		case <-time.After(w.dead):
			return nil, errors.New("i/o timeout")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r := new(dns.Msg)
	r.SetReply(m)
	name := strings.ToLower(m.Question[0].Name)
	if w.broken[name] {
		r.Rcode = dns.RcodeServerFailure
		return r, nil
	}
	r.AuthenticatedData = m.AuthenticatedData && w.secure != nil && w.secure(name)
	list, known := w.zone[m.Question[0].Name]
	if !known {
		r.Rcode = dns.RcodeNameError
	}
	for _, rr := range list {
		if k := rr.Header().Rrtype; k == m.Question[0].Qtype || k == dns.TypeCNAME {
			r.Answer = append(r.Answer, rr)
		}
		if alias, ok := rr.(*dns.CNAME); ok && alias.Target != alias.Hdr.Name {
			for _, rr := range w.zone[alias.Target] {
				if rr.Header().Rrtype == m.Question[0].Qtype {
					r.Answer = append(r.Answer, rr)
				}
			}
		}
	}
	return r, nil
}

func (w *world) dial(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	f := w.hosts[ap.String()]
	if f == nil {
		f = w.hosts[ap.Addr().String()]
	}
	if f == nil {
		return nil, errors.New("connection refused")
	}
	if f.script["connect"] == "hang" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	f.mu.Lock()
	f.conns++
	f.mu.Unlock()
	w.wg.Go(func() { f.serve(behind(there)) })
	return here, nil
}

// buffered lets a server write without waiting for the client to read, as TCP does.
type buffered struct {
	net.Conn
	out  chan []byte
	once sync.Once
}

func behind(c net.Conn) net.Conn {
	b := &buffered{Conn: c, out: make(chan []byte, 1<<14)}
	go func() {
		defer c.Close()
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				for range b.out {
				}
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.out <- append([]byte(nil), p...)
	return len(p), nil
}
func (b *buffered) Close() error { b.once.Do(func() { close(b.out) }); return nil }

var errGone = errors.New("gone")

// say does what the script wants at a stage.
func (f *fake) say(c net.Conn, stage, usual string) error {
	f.mu.Lock()
	what := f.script[stage]
	f.mu.Unlock()
	switch what {
	case "":
		what = usual
	case "hang":
		io.Copy(io.Discard, c)
		return errGone
	case "close":
		return errGone
	case "cut":
		io.WriteString(c, usual[:2])
		return errGone
	case "drip":
		for i := range usual {
			time.Sleep(time.Minute) // of the test's own clock
			if _, err := io.WriteString(c, usual[i:i+1]); err != nil {
				return errGone
			}
		}
		return errGone
	case "flood":
		for range 1 << 10 {
			if _, err := io.WriteString(c, "250-"+strings.Repeat("x", 1020)+"\r\n"); err != nil {
				return errGone
			}
		}
		return errGone
	}
	_, err := io.WriteString(c, what+"\r\n")
	if strings.HasPrefix(what, "421") {
		return errGone
	}
	return err
}

func (f *fake) serve(c net.Conn) {
	defer func() { c.Close() }()
	if f.tls != nil && f.script["tls"] == "wrapped" {
		c = tls.Server(c, f.tls)
	}
	r := bufio.NewReaderSize(c, 64<<10)
	if f.say(c, "greeting", "220 mx.test ESMTP") != nil {
		return
	}
	rcpts := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		f.mu.Lock()
		f.lines = append(f.lines, line)
		f.mu.Unlock()
		usual := "250 2.0.0 OK"
		switch verb {
		case "EHLO":
			ext := f.ext
			if f.tls != nil && f.script["tls"] != "wrapped" {
				if _, on := c.(*tls.Conn); !on {
					ext = append([]string{"STARTTLS"}, ext...)
				}
			}
			usual = "250-mx.test"
			for _, e := range ext {
				usual += "\r\n250-" + e
			}
			usual += "\r\n250 HELP"
		case "MAIL":
			rcpts = 0
		case "RCPT":
			if limit := f.script["limit"]; limit != "" && fmt.Sprint(rcpts) == limit {
				io.WriteString(c, "452 4.5.3 too many recipients\r\n")
				continue
			}
			if f.script["RCPT"] == "" {
				rcpts++
			}
		case "AUTH":
			if !f.auth(c, r, line) {
				return
			}
			continue
		case "DATA":
			if usual = "354 go ahead"; rcpts == 0 {
				usual = "554 5.5.1 no valid recipients"
			}
			if f.say(c, "DATA", usual) != nil {
				return
			}
			if f.script["DATA"] != "" || rcpts == 0 {
				continue
			}
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			if f.accept(c, b.String()) != nil {
				return
			}
			continue
		case "BDAT":
			var n int
			fmt.Sscanf(line[5:], "%d", &n)
			buf := make([]byte, n)
			if _, err := io.ReadFull(r, buf); err != nil {
				return
			}
			f.mu.Lock()
			f.script["chunks"] += string(buf)
			f.mu.Unlock()
			if strings.HasSuffix(line, " LAST") {
				if f.accept(c, f.script["chunks"]) != nil {
					return
				}
				f.script["chunks"] = ""
				continue
			}
		case "STARTTLS":
			if f.say(c, "STARTTLS", "220 go") != nil {
				return
			}
			if f.script["tls"] == "close" {
				return
			}
			if f.script["STARTTLS"] == "" {
				c = tls.Server(c, f.tls)
				r = bufio.NewReaderSize(c, 64<<10)
			}
			continue
		case "QUIT":
			usual = "221 bye"
		}
		if f.say(c, verb, usual) != nil || verb == "QUIT" {
			return
		}
	}
}

// accept keeps a message unless the script refuses it.
func (f *fake) accept(c net.Conn, text string) error {
	if s := f.script["text"]; s == "" || s[0] > '9' || s[0] == '2' { // it has it, whatever becomes of the answer
		f.mu.Lock()
		f.got = append(f.got, text)
		f.mu.Unlock()
	}
	return f.say(c, "text", "250 2.0.0 queued")
}

func (f *fake) count() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.got) }

const sample = "Subject: x\r\n\r\n.dot\r\nlast\r\n"

func job(domain, text string, rcpts ...string) Job {
	j := Job{From: "a@us.test", Domain: domain, Size: int64(len(text)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
	for i, r := range rcpts {
		j.Rcpts = append(j.Rcpts, model.QueueRcpt{N: uint32(i), Address: r})
	}
	return j
}

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	cert, err := certs.SelfSigned("mx.test", []string{"mx.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert.CertPEM, cert.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}
