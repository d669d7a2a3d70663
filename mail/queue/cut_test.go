package queue_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// logged is a log that can be read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

// lines are those that have all of the words.
func (l *logged) lines(words ...string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			list = append(list, line)
		}
	}
	return list
}

// TestAnswersOfPostfixAreCut: between this server and a real Postfix each answer is cut off, at its begin,
// in its middle and before its last octet; it stops, comes an octet a minute, or never ends; and so is
// the text cut. Mail is tried again and arrives once. It arrives twice where Postfix has it and its answer
// is lost, and there only: the log says so.
func TestAnswersOfPostfixAreCut(t *testing.T) {
	// covers: I.28 I.30
	p := startPostfix(t, map[string]string{"chunks": "", "data": "-o smtpd_discard_ehlo_keywords=chunking", "lines": "-o smtpd_discard_ehlo_keywords=chunking,pipelining"}, nil)
	last := map[string]int{"chunks": 4, "data": 5, "lines": 5} // the answer to the text
	net := newRelays(t)
	byName := map[string]*relay{} // by domain
	var cases []*relay
	twice := map[string]bool{}
	begin := func(service string, f fault) {
		y := net.start(f, p.ports[service])
		domain := fmt.Sprintf("%s-%d-%s%d.test", service, f.reply, f.what, f.at+1)
		byName[domain], cases = y, append(cases, y)
		twice[domain] = f.what != "text" && f.reply == last[service]
	}
	for service, end := range last {
		for reply := range end + 1 {
			begin(service, fault{what: "cut", reply: reply, at: 0})
			begin(service, fault{what: "stall", reply: reply, at: 2})
			if service == "data" { // the rest has nothing to do with how the text goes
				begin(service, fault{what: "cut", reply: reply, at: 2})
				begin(service, fault{what: "cut", reply: reply, at: -1})
				begin(service, fault{what: "drip", reply: reply})
				begin(service, fault{what: "flood", reply: reply})
			}
		}
		begin(service, fault{what: "text", reply: -1, at: 5})
	}
	c, log := newClient(t), &logged{}
	c.Dial = net.dial
	b := newBench(t, c, nil)
	b.q.Log = slog.New(slog.NewTextHandler(log, nil))
	b.q.Route = func(_ *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
		return &remote.Route{Host: "127.0.0.1", Port: byName[r.Domain].port(), TLS: remote.TLSNone}
	}
	for domain := range byName {
		b.message("me@us.test", "", "ann@"+domain)
	}
	b.run()
	until(t, "each was tried, and waits", func() bool {
		rows := b.rows()
		return len(rows) == len(byName) && !slices.ContainsFunc(rows, func(r model.QueueRcpt) bool { return r.Attempts == 0 })
	})
	for _, r := range b.rows() {
		doubt := twice[r.Domain] || strings.Contains(r.Domain, "-text")
		if said := strings.Contains(r.Reason, "it may have arrived"); said != doubt {
			t.Errorf("%s waits: %s", r.Domain, r.Reason)
		}
		if n := len(log.lines("the message may have arrived, and may arrive twice", "to=ann@"+r.Domain+" ")); (n == 1) != doubt || n > 1 {
			t.Errorf("%s: %d warnings", r.Domain, n)
		}
	}
	for domain, y := range byName {
		if n := y.minutes.Load(); n > 10 { // RFC 5321 §4.5.3.2.6, the longest of all
			t.Errorf("%s: waited for %d minutes", domain, n)
		}
		if n := y.flooded.Load(); n > 9<<20 {
			t.Errorf("%s: has read %d octets of a reply", domain, n)
		}
	}
	b.drain()
	want := len(byName)
	for _, doubt := range twice {
		if doubt {
			want++
		}
	}
	got := p.has(want)
	for domain := range byName {
		n := 1
		if twice[domain] {
			n = 2
		}
		if len(got["ann@"+domain]) != n {
			t.Errorf("%s has %d messages, want %d", domain, len(got["ann@"+domain]), n)
		}
	}
	if told := b.told(); len(told) > 0 {
		t.Errorf("the sender was told:\n%s", told[0])
	}
}

// TestTLSOfPostfixBreaks: TLS with a real Postfix breaks at each of its steps behind STARTTLS, also where
// the handshake is over for this side already. Mail goes in clear where nobody forbids that, and the log
// says so; where TLS is demanded it waits until that works.
func TestTLSOfPostfixBreaks(t *testing.T) {
	// covers: I.30
	key, cert := keyPair(t)
	p := startPostfix(t, map[string]string{"smtp": ""}, map[string]string{
		"key.pem": key, "cert.pem": cert, "main.cf": "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = $dir/etc/cert.pem\nsmtpd_tls_key_file = $dir/etc/key.pem\n",
	})
	net := newRelays(t)
	type way struct {
		*relay
		tls string
	}
	byName := map[string]way{}
	for _, f := range []fault{{what: "cut"}, {what: "cut", at: 50}, {what: "cut", at: 500}, {what: "flip", at: 60}, {what: "flip", at: 300}, {what: "stall", at: 50}, {what: "late"}} {
		for _, mode := range []string{remote.TLSStartTLS, remote.TLSRequire} {
			f.tls = true
			byName[fmt.Sprintf("%s%d-%s.test", f.what, f.at, mode)] = way{net.start(f, p.ports["smtp"]), mode}
		}
	}
	c, log := newClient(t), &logged{}
	c.Dial = net.dial
	b := newBench(t, c, nil)
	b.q.Log = slog.New(slog.NewTextHandler(log, nil))
	b.q.Route = func(_ *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
		return &remote.Route{Host: "127.0.0.1", Port: byName[r.Domain].port(), TLS: byName[r.Domain].tls}
	}
	for domain := range byName {
		b.message("me@us.test", "", "ann@"+domain)
	}
	b.run()
	until(t, "those that may go in clear have gone, the others wait", func() bool {
		rows := b.rows()
		return len(rows) == len(byName)/2 && !slices.ContainsFunc(rows, func(r model.QueueRcpt) bool { return r.Attempts == 0 })
	})
	for _, r := range b.rows() {
		if !strings.HasPrefix(r.Reason, "TLS failed: ") || byName[r.Domain].tls != remote.TLSRequire {
			t.Errorf("%s waits: %s", r.Domain, r.Reason)
		}
	}
	clear := p.has(len(byName) / 2)
	for domain, y := range byName {
		if y.tls == remote.TLSRequire {
			y.spent.Store(true)
			continue
		}
		if n := len(log.lines("to=ann@"+domain+" ", "outcome=delivered", "tls=none", "note=\"TLS failed: ", "; sent in clear")); n != 1 || len(clear["ann@"+domain]) != 1 {
			t.Errorf("%s: %d messages, logged %d times", domain, len(clear["ann@"+domain]), n)
		}
	}
	b.drain()
	for domain, list := range p.has(len(byName)) {
		if secure := strings.Contains(list[0], "with ESMTPS id"); len(list) != 1 || secure != strings.HasSuffix(domain, "require.test") {
			t.Errorf("%s has %d messages, the first one:\n%s", domain, len(list), list[0])
		}
	}
}
