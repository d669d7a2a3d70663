package queue_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
)

// message queues one message for several recipients and gives its text a sender and an envelope ID.
func (b *bench) message(from, envID string, rcpts ...string) {
	b.t.Helper()
	now := b.time().UnixNano()
	add := &state.QueueAdd{Message: model.QueueMessage{From: from, EnvID: envID, Created: now, Expires: now + int64(120*time.Hour)}}
	for _, r := range rcpts {
		_, d, _ := model.SplitAddress(r)
		add.Rcpts = append(add.Rcpts, model.QueueRcpt{Address: r, Domain: d, ORcpt: "rfc822;first-" + r})
	}
	b.do([]state.Operation{state.Deliver{Body: b.body, Size: b.size, Queue: add}})
}

// drain moves the clock to the next attempt whenever none is due, until nothing waits.
func (b *bench) drain() {
	b.t.Helper()
	until(b.t.(*testing.T), "the queue is empty", func() bool {
		next := int64(math.MaxInt64)
		for _, r := range b.rows() {
			next = min(next, r.Next)
		}
		if wait := time.Unix(0, next).Sub(b.time()); next < math.MaxInt64 && wait > 0 {
			b.skip(wait + time.Millisecond)
		}
		return next == math.MaxInt64
	})
}

func (b *bench) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.notices...)
}

// byDomain routes the mail for NAME.peer.test to a service of that name, or to the open one.
func byDomain(p *postfix, open func() bool) func(*model.QueueMessage, *model.QueueRcpt) *remote.Route {
	return func(_ *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
		name := strings.TrimSuffix(r.Domain, ".peer.test")
		if open() {
			name = "open"
		}
		return &remote.Route{Host: "127.0.0.1", Port: p.ports[name], TLS: remote.TLSStartTLS}
	}
}

// refusing is a service of Postfix that says no at a stage.
type refusing struct {
	stage, ext string // ext: what of EHLO is kept quiet about
	code       string // with its enhanced code
}

func (r refusing) name() string {
	return strings.ReplaceAll(r.stage+"-"+r.ext+"-"+r.code[:3], ",", "-")
}

// words are what Postfix says there.
func (r refusing) words() string { return "at " + r.name() }

func (r refusing) options() string {
	o := "-o smtpd_delay_reject=no"
	if r.ext != "" {
		o += " -o smtpd_discard_ehlo_keywords=" + r.ext
	}
	if r.stage == "header" {
		return o + " -o cleanup_service_name=checks"
	}
	key, table := "127.0.0.1", "client"
	switch r.stage {
	case "helo":
		key, table = "mail.us.test", "helo"
	case "sender":
		key, table = "me@us.test", "sender"
	case "recipient":
		key, table = "two@"+r.name()+".peer.test", "recipient"
	}
	return fmt.Sprintf("%s -o { smtpd_%s_restrictions = check_%s_access inline:{ { %s = %s %s } }, reject_unauth_destination }", o, r.stage, table, key, r.code, r.words())
}

// TestPostfixRefusesAtEachStage: a real Postfix refuses a message, or one recipient of three, for now and
// for good, at each stage there is, in chunks and not, with pipelining and not. Each recipient has the fate
// that Postfix has said; the sender is told once of each failure, in its words; what was to come later
// comes later, and nothing is lost or comes twice.
func TestPostfixRefusesAtEachStage(t *testing.T) {
	// covers: I.28 R2.62
	services := map[string]string{"open": ""}
	var cases []refusing
	add := func(stage, ext, code string) {
		r := refusing{stage, ext, code}
		cases = append(cases, r)
		services[r.name()] = r.options()
	}
	for _, code := range []string{"450 4.7.9", "554 5.7.9"} {
		add("client", "", code)
		add("helo", "", code)
		for _, stage := range []string{"sender", "recipient", "data", "end_of_data"} {
			add(stage, "", code)
			add(stage, "chunking", code)
			add(stage, "chunking,pipelining", code)
		}
	}
	add("header", "", "554 5.7.9") // header_checks knows no refusal for now
	p := startPostfix(t, services, map[string]string{
		"header": "/^Subject: x/ REJECT 5.7.9 we want no x\n", "master.cf": "checks unix n - n - 0 cleanup -o header_checks=regexp:$dir/etc/header\n",
	})
	open := false
	b := newBench(t, newClient(t), func(s *model.Settings) { s.Queue.Concurrency = 4 })
	b.q.Route = byDomain(p, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return open })
	want := map[string]int{} // messages that Postfix has in the end, by recipient
	failed, deferred := 0, 0
	for _, r := range cases {
		domain := "@" + r.name() + ".peer.test"
		b.message("me@us.test", r.name(), "one"+domain, "two"+domain, "three"+domain)
		for _, to := range []string{"one", "two", "three"} {
			if refused := r.stage != "recipient" || to == "two"; refused && r.code[0] == '5' {
				failed++
				continue
			} else if refused {
				deferred++
			}
			want[to+domain] = 1
		}
	}
	b.run()
	until(t, "each was tried", func() bool {
		rows := b.rows()
		return len(rows) == deferred && !slices.ContainsFunc(rows, func(r model.QueueRcpt) bool { return r.Attempts == 0 })
	})
	for _, row := range b.rows() {
		r := cases[slices.IndexFunc(cases, func(r refusing) bool { return r.name()+".peer.test" == row.Domain })]
		if row.State != model.QueueDeferred || !strings.HasPrefix(row.Reason, r.code+" <") || !strings.HasSuffix(row.Reason, r.words()) {
			t.Errorf("%s waits: %+v", row.Address, row)
		}
	}
	p.has(len(want) - deferred)
	told := b.told()
	if n := strings.Count(strings.Join(told, ""), "Action: failed\r\n"); n != failed {
		t.Errorf("told of %d failures, want %d", n, failed)
	}
	for _, r := range cases {
		if r.code[0] == '5' {
			refusalTold(t, r, told)
		}
	}
	b.mu.Lock()
	open = true
	b.mu.Unlock()
	b.drain()
	got := p.has(len(want))
	for to, n := range want {
		if len(got[to]) != n {
			t.Errorf("%s has %d messages", to, len(got[to]))
		}
	}
	if n := len(b.told()); n != len(told) {
		t.Errorf("%d notifications, %d of them late", n, n-len(told))
	}
}

// refusalTold looks at the one notification about a message.
func refusalTold(t *testing.T, r refusing, told []string) {
	t.Helper()
	about := slices.DeleteFunc(slices.Clone(told), func(s string) bool { return !strings.Contains(s, "Original-Envelope-Id: "+r.name()+"\r\n") })
	if len(about) != 1 {
		t.Errorf("%s: %d notifications", r.name(), len(about))
		return
	}
	words, diagnostic := r.words(), "554 5.7.9 <"
	if r.stage == "header" {
		words, diagnostic = "we want no x", "550 5.7.9 we"
	}
	_, programs, _ := strings.Cut(about[0], "message/delivery-status\r\n\r\n")
	for i, to := range []string{"one", "two", "three"} {
		if r.stage == "recipient" && to != "two" {
			if strings.Contains(programs, to+"@"+r.name()) {
				t.Errorf("%s: %s is told of", r.name(), to)
			}
			continue
		}
		blocks := strings.Split(programs, "\r\n\r\n") // the first one is about the message
		if r.stage == "recipient" {
			i = 0
		}
		fields := blocks[min(i+1, len(blocks)-1)] + "\r\n"
		for _, want := range []string{
			"Original-Recipient: rfc822;first-" + to + "@" + r.name() + ".peer.test\r\n", "Final-Recipient: rfc822; " + to + "@" + r.name() + ".peer.test\r\n",
			"Action: failed\r\n", "Status: 5.7.9\r\n", "Remote-MTA: dns; 127.0.0.1\r\n", "Diagnostic-Code: smtp; " + diagnostic, words + "\r\n",
		} {
			if !strings.Contains(fields, want) {
				t.Errorf("%s: the notification lacks %q:\n%s", r.name(), want, about[0])
			}
		}
	}
}

// TestPostfixAfterARefusal: Postfix keeps the transaction open that it has refused at DATA or BDAT. The next
// message over the same connection is another one all the same.
func TestPostfixAfterARefusal(t *testing.T) {
	// covers: I.30
	services := map[string]string{}
	for _, stage := range []string{"data", "end_of_data"} {
		for _, ext := range []string{"", "chunking", "chunking,pipelining"} {
			r := refusing{stage, ext, "554 5.7.9"}
			services[r.name()] = fmt.Sprintf("-o smtpd_discard_ehlo_keywords=%s -o { smtpd_%s_restrictions = check_sender_access inline:{ { bad@us.test = 554 5.7.9 not from you } } }", ext, stage)
		}
	}
	p := startPostfix(t, services, nil)
	for name, port := range p.ports {
		c := newClient(t)
		for i, from := range []string{"bad@us.test", "good@us.test", "bad@us.test", "good@us.test"} {
			res := c.Deliver(context.Background(), remote.Job{
				From: from, Domain: "peer.test", Route: &remote.Route{Host: "127.0.0.1", Port: port}, Rcpts: []model.QueueRcpt{{N: 1, Address: name + "@peer.test"}}, Size: 18,
				Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("Subject: x\r\n\r\ny\r\n")), nil },
			})[0]
			want := model.OutcomeDelivered
			if from[0] == 'b' {
				want = model.OutcomeFailed
			}
			if res.Outcome != want {
				t.Errorf("%s: message %d: %+v", name, i, res)
			}
		}
		c.Close()
	}
	for name, list := range p.has(2 * len(services)) {
		if len(list) != 2 {
			t.Errorf("%s has %d messages", name, len(list))
		}
	}
	if n := strings.Count(p.log(), ": connect from "); n != len(services) {
		t.Errorf("%d connections, want one for each service", n)
	}
}
