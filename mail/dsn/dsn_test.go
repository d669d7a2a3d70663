package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

// parts reads a notification as a program does: the types of its three parts, and their texts.
func parts(t interface{ Fatalf(string, ...any) }, raw []byte) (types, texts []string, header mail.Header) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	mr := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			return types, texts, m.Header
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		text, _ := io.ReadAll(p)
		if enc := p.Header.Get("Content-Transfer-Encoding"); (enc == "8bit") == isASCII(text) {
			t.Fatalf("%s has the encoding %q\n%s", p.Header.Get("Content-Type"), enc, text)
		}
		types, texts = append(types, p.Header.Get("Content-Type")), append(texts, string(text))
	}
}

var epoch = time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC)

// TestForms: what is ASCII has the forms that every program reads, what is not those of RFC 6533.
func TestForms(t *testing.T) {
	const ascii, foreign = "Subject: hello\r\n", "Subject: grüße\r\n"
	for _, x := range []struct {
		name     string
		rcpt     Rcpt
		original string
		full     bool
		status   string   // type of the part for programs
		last     string   // type of the original
		has      []string // of the part for programs
		hasNot   []string
	}{
		{"ASCII", Rcpt{Address: "a@b.test", ORcpt: "rfc822;x@b.test", Code: 550, Reason: "550 5.1.1 no", Remote: "mx.b.test [192.0.2.1]"}, ascii, false,
			"message/delivery-status", "text/rfc822-headers",
			[]string{"Final-Recipient: rfc822; a@b.test\r\n", "Original-Recipient: rfc822;x@b.test\r\n", "Status: 5.1.1\r\n", "Remote-MTA: dns; mx.b.test\r\n", "Diagnostic-Code: smtp; 550 5.1.1 no\r\n"}, nil},
		{"header in UTF-8", Rcpt{Address: "a@b.test", Reason: "no"}, foreign, false, "message/delivery-status", "message/global-headers", []string{"Final-Recipient: rfc822; a@b.test\r\n"}, []string{"utf-8"}},
		{"words in UTF-8", Rcpt{Address: "a@b.test", Code: 550, Reason: "550 5.1.1 fremde Wörter"}, ascii, false, "message/delivery-status", "text/rfc822-headers", []string{"smtp; 550 5.1.1 fremde W?rter\r\n"}, nil},
		{"recipient in UTF-8", Rcpt{Address: "jörg+x@b.test", Code: 553, Reason: "553 5.6.7 für jörg"}, foreign, false, "message/global-delivery-status", "message/global-headers",
			[]string{`Final-Recipient: utf-8; jörg\x{2B}x@b.test` + "\r\n", "Status: 5.6.7\r\n", "smtp; 553 5.6.7 für jörg\r\n"}, nil},
		{"named in UTF-8", Rcpt{Address: "j@b.test", ORcpt: "utf-8;jörg=1@b.test", Reason: "no"}, ascii, false, "message/global-delivery-status", "text/rfc822-headers",
			[]string{"Final-Recipient: rfc822; j@b.test\r\n", `Original-Recipient: utf-8;jörg\x{3D}1@b.test` + "\r\n"}, nil},
		{"of a queue of before", Rcpt{Address: "j@b.test", ORcpt: "rfc822;jörg@b.test", Reason: "no"}, ascii, false, "message/global-delivery-status", "text/rfc822-headers", []string{"Original-Recipient: utf-8;jörg@b.test\r\n"}, nil},
		{"all of it", Rcpt{Address: "a@b.test", Reason: "no"}, ascii + "\r\nwhole text\r\n", true, "message/delivery-status", "message/rfc822", nil, nil},
		{"all of it, 8 bits", Rcpt{Address: "a@b.test", Reason: "no"}, ascii + "\r\nwhole grüße\r\n", true, "message/delivery-status", "message/rfc822", nil, nil},
		{"all of it, header in UTF-8", Rcpt{Address: "a@b.test", Reason: "no"}, foreign + "\r\nwhole text\r\n", true, "message/delivery-status", "message/global", nil, nil},
		{"too large for all of it", Rcpt{Address: "a@b.test", Reason: "no"}, ascii + "\r\n" + strings.Repeat("x", MaxFull), true, "message/delivery-status", "text/rfc822-headers", nil, nil},
		{"what ends lines", Rcpt{Address: "a@b.test", ORcpt: "rfc822;x\r\nStatus: 2.0.0", Code: 550, Reason: "550 no\r\nAction: delivered", Remote: "mx\r\nX: y [192.0.2.1]"}, ascii, false, "message/delivery-status", "text/rfc822-headers",
			nil, []string{"\nAction: delivered", "\nStatus: 2.0.0", "\nX:"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := Report{Kind: Failed, Hostname: "mail.test", To: "me@b.test", Arrived: epoch, Now: epoch, Rcpts: []Rcpt{x.rcpt}, Original: []byte(x.original), Full: x.full}
			types, texts, _ := parts(t, r.Build())
			if len(types) != 3 || types[1] != x.status || types[2] != x.last {
				t.Fatalf("%q", types)
			}
			for _, w := range x.has {
				if !strings.Contains(texts[1], w) {
					t.Errorf("%q is not in\n%s", w, texts[1])
				}
			}
			for _, w := range x.hasNot {
				if strings.Contains(texts[1], w) {
					t.Errorf("%q is in\n%s", w, texts[1])
				}
			}
			if whole := strings.HasSuffix(texts[2], x.original); x.full && len(x.original) <= MaxFull != whole || !strings.HasPrefix(texts[2], "Subject: ") || !x.full && !whole {
				t.Errorf("given back is\n%.200s", texts[2])
			}
		})
	}
}

// TestAnything: whatever an address, a reply and a header hold, a notification has three parts, and in the
// second each recipient has one action and one status.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Rcpt
		for range rapid.IntRange(1, 4).Draw(t, "recipients") {
			list = append(list, Rcpt{
				Address: rapid.String().Draw(t, "address"), ORcpt: rapid.String().Draw(t, "orcpt"), Code: rapid.IntRange(0, 599).Draw(t, "code"),
				Reason: strings.Join(strings.Fields(rapid.String().Draw(t, "reason")), " "), Remote: rapid.String().Draw(t, "remote"), At: epoch, Until: epoch,
			})
		}
		kind := rapid.SampledFrom([]Kind{Failed, Delayed, Relayed, Delivered}).Draw(t, "kind")
		r := Report{Kind: kind, Hostname: "mail.test", To: "me@b.test", EnvID: rapid.String().Draw(t, "envid"), Arrived: epoch, Now: epoch, Rcpts: list, Original: []byte("Subject: x\r\n" + rapid.String().Draw(t, "text"))}
		types, texts, h := parts(t, r.Build())
		if len(types) != 3 || h.Get("To") != "<me@b.test>" {
			t.Fatalf("%q %v", types, h)
		}
		if n := strings.Count("\r\n"+texts[1], "\r\nAction: "+string(kind)+"\r\n"); n != len(list) {
			t.Fatalf("%d actions for %d recipients\n%q", n, len(list), texts[1])
		}
		if n := strings.Count("\r\n"+texts[1], "\r\nStatus: "); n != len(list) {
			t.Fatalf("%d statuses for %d recipients\n%q", n, len(list), texts[1])
		}
	})
}

// TestStatus: the enhanced code is that of the reply, and nothing that only looks like one.
func TestStatus(t *testing.T) {
	for reason, want := range map[string]string{
		"550 5.1.1 who?": "5.1.1", "550 who?": "5.0.0", "550 mail from 5.6.7.8 is not wanted": "5.0.0", "550 5.6.7.8 is not wanted": "5.0.0", "554 spam filter 4.0.1 says no": "5.0.0",
		"5.1.10 the domain accepts no mail (null MX)": "5.1.10", "550 4.7.1 for good": "5.7.1", "550 5.1.1234 x": "5.0.0", "550 5.1.": "5.0.0", "550 6.1.1 x": "5.0.0",
		"not delivered within 120h0m0s; the last answer was: 450 4.2.0 try again": "4.2.0", "not tried, x.test is down: 421 4.3.2 going down": "4.3.2", "": "5.0.0",
	} {
		if got := status(Failed, reason); got != want {
			t.Errorf("%q: %s, want %s", reason, got, want)
		}
	}
}

// TestDiagnostic: only what a server has said is called its reply (RFC 3464 §2.3.6).
func TestDiagnostic(t *testing.T) {
	for _, x := range []struct {
		code          int
		reason, words string
	}{
		{550, "550 5.1.1 who?", "\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 who?\r\n"},
		{556, "5.1.10 the domain accepts no mail (null MX)", "\r\nStatus: 5.1.10\r\nDiagnostic-Code: x-mailplusd; 5.1.10 the domain accepts no mail (null MX)\r\n"},
		{0, "connection refused", "\r\nStatus: 5.0.0\r\nDiagnostic-Code: x-mailplusd; connection refused\r\n"},
	} {
		r := Report{Kind: Failed, Hostname: "mail.test", To: "me@b.test", Arrived: epoch, Now: epoch, Rcpts: []Rcpt{{Address: "a@b.test", Code: x.code, Reason: x.reason}}}
		if _, texts, _ := parts(t, r.Build()); !strings.Contains(texts[1], x.words) {
			t.Errorf("%q is not in\n%s", x.words, texts[1])
		}
	}
}

// FuzzStatus: whatever a server says, the status has the form of RFC 3463.
func FuzzStatus(f *testing.F) {
	f.Add("550 5.1.1 who?")
	f.Add("x: 4.2.0")
	form := regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}$`)
	f.Fuzz(func(t *testing.T, reason string) {
		for _, k := range []Kind{Failed, Delayed, Relayed, Delivered} {
			if s := status(k, reason); !form.MatchString(s) {
				t.Errorf("%q: %q", reason, s)
			}
		}
	})
}

func TestWanted(t *testing.T) {
	for notify, want := range map[string][]Kind{
		"": {Failed, Delayed}, "NEVER": nil, "SUCCESS": {Relayed, Delivered}, "failure,DELAY": {Failed, Delayed}, "SUCCESS,FAILURE,DELAY": {Failed, Delayed, Relayed, Delivered},
	} {
		for _, k := range []Kind{Failed, Delayed, Relayed, Delivered} {
			asked := false
			for _, w := range want {
				asked = asked || w == k
			}
			if Wanted(&model.QueueRcpt{Notify: notify}, k) != asked {
				t.Errorf("%q: %s", notify, k)
			}
		}
	}
}
