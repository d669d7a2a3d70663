package queue_test

import (
	"context"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// TestWhatPostfixOffers: a real Postfix that keeps quiet about an extension gets mail without it: in other
// lines, in 7 bits, or not at all with the reason, and never something else than what was written.
func TestWhatPostfixOffers(t *testing.T) {
	// covers: I.28 I.30
	const (
		eight  = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\ngrüße\r\n.\r\n..two dots\r\nend \r\n"
		utf8   = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nSubject: grüße\r\n\r\nx\r\n"
		signed = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\nSubject: x\r\n\r\n--b\r\n" + eight + "--b--\r\n"
		dots   = "Subject: x\r\n\r\n.\r\n..\r\n.hidden\r\n\r\n.\r\n"
		lone   = "Subject: x\r\n\r\none\n.\ntwo\r.\rthree" // what is no line end becomes one
	)
	p := startPostfix(t, map[string]string{
		"all":     "",
		"no-utf8": "-o smtputf8_enable=no",
		"no-8bit": "-o smtpd_discard_ehlo_keywords=8bitmime",
		"no-7":    "-o smtpd_discard_ehlo_keywords=8bitmime,chunking,smtputf8,pipelining",
		"no-bdat": "-o smtpd_discard_ehlo_keywords=chunking",
		"no-pipe": "-o smtpd_discard_ehlo_keywords=chunking,pipelining",
		"helo":    "-o smtpd_discard_ehlo_keywords=8bitmime,chunking,smtputf8,pipelining,size,dsn,etrn,vrfy,enhancedstatuscodes",
		"size-1":  "-o message_size_limit=1",
	}, nil)
	want := 0
	byRcpt := map[string]string{} // texts as Postfix should have them
	checks := map[string]string{} // what else the stored message has
	c := newClient(t)
	for i, x := range []struct {
		service, to, text string
		has               string // of the stored message, or the reason for which it is not
		sent              bool
	}{
		{"all", "jörg@peer.test", utf8, "with UTF8SMTP id", true},
		{"all", "a1@peer.test", eight, "Content-Transfer-Encoding: 8bit\n", true},
		{"all", "a2@peer.test", dots, "with ESMTP id", true},
		{"all", "a3@peer.test", lone, "", true},
		{"all", "a4@peer.test", signed, "", true},
		{"no-utf8", "ünö@peer.test", dots, "the address ünö@peer.test needs SMTPUTF8, which 127.0.0.1 does not offer", false},
		{"no-utf8", "b1@bücher.test", dots, "", true},
		{"no-utf8", "b2@peer.test", utf8, "the message's header is not ASCII", false},
		{"no-utf8", "b3@peer.test", eight, "Content-Transfer-Encoding: 8bit\n", true},
		{"no-8bit", "c1@peer.test", eight, "Content-Transfer-Encoding: quoted-printable\n", true},
		{"no-8bit", "c2@peer.test", signed, "takes only 7 bits", false},
		{"no-8bit", "c3@peer.test", dots, "", true},
		{"no-7", "d1@peer.test", eight, "Content-Transfer-Encoding: quoted-printable\n", true},
		{"no-7", "d2@peer.test", utf8, "the message's header is not ASCII", false},
		{"no-7", "d3@peer.test", lone, "", true},
		{"no-bdat", "e1@peer.test", eight, "", true},
		{"no-bdat", "e2@peer.test", dots, "", true},
		{"no-bdat", "e3@peer.test", lone, "", true},
		{"no-pipe", "f1@peer.test", dots, "", true},
		{"no-pipe", "f2@peer.test", lone, "", true},
		{"helo", "g1@peer.test", eight, "Content-Transfer-Encoding: quoted-printable\n", true},
		{"size-1", "h1@peer.test", dots, "octets, 127.0.0.1 takes 1 at most", false},
	} {
		foreign := x.text == utf8 || strings.ContainsAny(x.to, "öü")
		res := c.Deliver(context.Background(), remote.Job{
			From: "me@us.test", Domain: "peer.test", Route: &remote.Route{Host: "127.0.0.1", Port: p.ports[x.service]}, Rcpts: []model.QueueRcpt{{N: 1, Address: x.to}},
			UTF8: foreign && x.text == utf8, EightBit: x.text != dots && x.text != lone, Size: int64(len(x.text)),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(x.text)), nil },
		})[0]
		if !x.sent {
			if res.Outcome != model.OutcomeFailed || !strings.Contains(res.Reason, x.has) {
				t.Errorf("%d, %s by %s: %+v", i, x.to, x.service, res)
			}
			continue
		}
		if res.Outcome != model.OutcomeDelivered {
			t.Errorf("%d, %s by %s: %+v", i, x.to, x.service, res)
			continue
		}
		want++
		to := strings.Replace(x.to, "bücher", "xn--bcher-kva", 1)
		byRcpt[to], checks[to] = x.text, x.has
	}
	got := p.has(want)
	for to, text := range byRcpt {
		if len(got[to]) != 1 {
			t.Errorf("%s has %d messages", to, len(got[to]))
			continue
		}
		if has := got[to][0]; !strings.Contains(has, checks[to]) {
			t.Errorf("%s has no %q:\n%s", to, checks[to], has)
		} else if stored, wanted := storedBody(t, has), storedBody(t, strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)); strings.TrimSuffix(stored, "\n") != strings.TrimSuffix(wanted, "\n") {
			t.Errorf("%s has\n%q, want\n%q", to, stored, wanted)
		}
	}
	if strings.Contains(p.log(), "h1@peer.test") {
		t.Errorf("a message that is too large was begun:\n%s", p.log())
	}
}

// storedBody is the text behind the header, as it reads.
func storedBody(t *testing.T, message string) string {
	t.Helper()
	header, body, _ := strings.Cut(message, "\n\n")
	if !strings.Contains(header, "quoted-printable") {
		return body
	}
	b, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil {
		t.Error(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}
