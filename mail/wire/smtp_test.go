package wire

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestSession is an ordinary session, in both ways of reading the message.
// covers: R6.06 R6.07 R7.03
func TestSession(t *testing.T) {
	for _, slow := range []bool{false, true} {
		be := &backend{slow: slow}
		l := serve(t, be, &SMTPConfig{Banner: "ESMTP ready", MaxMessage: 1000}, Config{TLS: testTLS})
		p := dial(t, l)
		p.want("220 mx.test ESMTP ready\r\n")
		caps := p.do("EHLO me.test", "250-mx.test\r\n")
		for _, want := range []string{"PIPELINING", "SIZE 1000", "STARTTLS", "CHUNKING"} {
			if !strings.Contains(caps, want) {
				t.Errorf("EHLO lacks %s: %q", want, caps)
			}
		}
		if strings.Contains(caps, "AUTH") {
			t.Errorf("AUTH offered in clear: %q", caps)
		}
		p.do("AUTH PLAIN AHUAcA==", "538 5.7.11")
		p.do("MAIL FROM:<a@x.test> SIZE=2000", "552 5.3.4")
		p.envelope()
		p.do("MAIL FROM:<z@x.test>", "503 5.5.1")
		p.do("DATA", "354 ")
		p.do("Subject: x\r\n\r\n..dot\r\n.. \r\n.", "250 ")
		p.do("QUIT", "221 ")
		p.closed()
		if got := be.got(); len(got) != 1 || got[0] != "Subject: x\r\n\r\n.dot\r\n. \r\n" {
			t.Errorf("slow=%v: got %q", slow, got)
		}
	}
}

// TestSequence: commands out of order are 503 and leave the session usable.
func TestSequence(t *testing.T) {
	l := serve(t, &backend{}, &SMTPConfig{}, Config{})
	p := dial(t, l)
	p.want("220 ")
	for _, step := range [][2]string{
		{"MAIL FROM:<a@x>", "503 "}, {"RCPT TO:<a@x>", "503 "}, {"DATA", "503 "}, {"AUTH PLAIN", "503 "},
		{"EHLO", "501 "}, {"HELO me", "250 mx.test\r\n"}, {"RCPT TO:<a@x>", "503 "}, {"STARTTLS", "502 "},
		{"MAIL FROM:a@x", "501 "}, {"MAIL FROM:<a@x", "501 "}, {"MAIL FROM:<>", "250 "}, {"DATA", "503 "},
		{"VRFY a", "252 "}, {"EXPN a", "502 "}, {"HELP", "214 "}, {"NOOP", "250 "}, {"DATA x", "501 "},
		{"FOO", "500 5.5.2"}, {"", "500 "}, {"RCPT TO:<nobody@x>", "550 5.1.1"}, {"RSET ", "250 "}, {"QUIT", "221 "},
	} {
		p.send(step[0] + "\r\n")
		if got := p.reply(); !strings.HasPrefix(got, step[1]) {
			t.Fatalf("%q: %q, want %q", step[0], got, step[1])
		}
	}
	p.closed()
}

// TestPostmaster: RFC 5321 §4.5.1 demands RCPT TO:<postmaster> without a domain.
func TestPostmaster(t *testing.T) {
	be := &backend{}
	p := dial(t, serve(t, be, &SMTPConfig{}, Config{}))
	p.hello()
	p.do("MAIL FROM:<@r1,@r2:\"a b\"@x.test>", "250 ")
	p.do("RCPT TO:<Postmaster>", "250 2.1.5 Ok\r\n")
	p.do(`RCPT TO: <"q>\"x y"@x.test>`, "250 ")
	if be.rcpts[0] != "Postmaster@"+PostmasterDomain || be.paths[0] != "Postmaster" || be.paths[1] != `"q>\"x y"@x.test` {
		t.Errorf("rcpts %q paths %q", be.rcpts, be.paths)
	}
}

// TestSmuggling: no end-of-data but CRLF.CRLF ends a message, a message with a
// bare CR or LF is refused, and the session stays in step.
func TestSmuggling(t *testing.T) {
	ends := []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r.\r", "\r\r\n.\r\r\n", "\n\n.\r\n", "\r\n.\rx\r\n", "\r\n.\r\r\n", "\r\n\x00.\n"}
	smuggled := "MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nevil\r\n.\r\n"
	for _, slow := range []bool{false, true} {
		for _, swallow := range []bool{false, true} {
			be := &backend{slow: slow, swallow: swallow}
			l := serve(t, be, &SMTPConfig{}, Config{})
			for _, end := range ends {
				p := dial(t, l)
				p.hello()
				p.envelope()
				p.do("DATA", "354 ")
				p.send("body" + end + smuggled)
				p.want("550 5.6.11")
				p.do("MAIL FROM:<next@x.test>", "250 ")
				p.do("QUIT", "221 ")
			}
			if got := be.got(); len(got) != 0 {
				t.Errorf("slow=%v: messages %q", slow, got)
			}
			for _, f := range be.froms {
				if strings.HasPrefix(f, "evil") {
					t.Errorf("slow=%v: smuggled command was run", slow)
				}
			}
		}
	}
}

// TestNormalise: the other policy turns bare CR and LF into clean lines, and
// still only CRLF.CRLF ends the message.
func TestNormalise(t *testing.T) {
	for _, slow := range []bool{false, true} {
		be := &backend{slow: slow}
		p := dial(t, serve(t, be, &SMTPConfig{BareNewline: BareNormalise}, Config{}))
		p.hello()
		p.envelope()
		p.do("DATA", "354 ")
		p.do("a\n.\nb\rc\r\r\n.\n..\r\n.\rd\r\n.", "250 ")
		want := "a\r\n.\r\nb c \r\n\r\n..\r\n d\r\n"
		if got := be.got(); len(got) != 1 || got[0] != want {
			t.Errorf("slow=%v: got %q, want %q", slow, got, want)
		}
		if f := be.facts[0]; f.BareLF != 3 || f.BareCR != 3 || f.Size != int64(len(want)) {
			t.Errorf("facts %+v", f)
		}
	}
}

// TestBareCommand: a command with a bare CR or LF ends the connection.
func TestBareCommand(t *testing.T) {
	l := serve(t, &backend{}, &SMTPConfig{}, Config{})
	for _, cmd := range []string{"NOOP\n", "EHLO a\rb\r\n", "MAIL FROM:<a@x>\n"} {
		p := dial(t, l)
		p.hello()
		p.send(cmd)
		p.want("521 5.5.2")
		p.closed()
	}
}

// TestBDAT: octets are counted, and a bare LF or CR in them refuses the message,
// over chunk borders, too.
func TestBDAT(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "BDAT 6\r\nab\r\nc\r" + "BDAT 3 LAST\r\n\nd.", "250 250 "},
		{"commands inside", "BDAT 19 LAST\r\n\r\n.\r\nRSET\r\nQUIT\r\n\r\n", "250 "},
		{"empty last", "BDAT 4\r\nab\r\nBDAT 0 LAST\r\n", "250 250 "},
		{"bare LF", "BDAT 3\r\na\nbBDAT 1 LAST\r\nx", "550 503 "},
		{"bare CR in last", "BDAT 4 LAST\r\na\rbc", "550 "},
		{"CR at border", "BDAT 2\r\na\rBDAT 2 LAST\r\nbc", "250 550 "},
		{"CR at end", "BDAT 2 LAST\r\na\r", "550 "},
		{"CR then empty last", "BDAT 2\r\na\rBDAT 0 LAST\r\n", "250 550 "},
		{"too big", "BDAT 200\r\n" + strings.Repeat("RSET\r\n", 33) + "\r\n" + "BDAT 1 LAST\r\nx", "552 503 "},
	} {
		for _, slow := range []bool{false, true} {
			be := &backend{slow: slow}
			p := dial(t, serve(t, be, &SMTPConfig{MaxMessage: 100}, Config{}))
			p.hello()
			p.envelope()
			p.send(tc.in + "NOOP\r\n")
			var got strings.Builder
			for range strings.Fields(tc.want) {
				got.WriteString(p.reply()[:4])
			}
			if got.String() != tc.want {
				t.Errorf("%s: replies %q, want %q", tc.name, got.String(), tc.want)
			}
			p.want("250 2.0.0 Ok")
			accepted := strings.HasSuffix(tc.want, "250 ")
			if n := len(be.got()); (n == 1) != accepted {
				t.Errorf("%s: %d messages", tc.name, n)
			}
			p.do("MAIL FROM:<c@x.test>", "250 ")
		}
	}
}

// TestCutChunk: a connection lost within the last chunk is no message. go-smtp by
// itself takes the end of input for the end of the chunk.
func TestCutChunk(t *testing.T) {
	for _, body := range []string{"BDAT 100 LAST\r\nshort", "DATA\r\nshort\r\n.\r"} {
		be := &backend{}
		l := serve(t, be, &SMTPConfig{}, Config{})
		p := dial(t, l)
		p.hello()
		p.envelope()
		done := l.Conns()[0].Done()
		p.send(body)
		_ = p.Close()
		<-done
		_ = l.Close()
		if got := be.got(); len(got) != 0 {
			t.Errorf("%q: accepted %q", body, got)
		}
	}
}

// TestSTARTTLS: AUTH appears with TLS, and what was said before is forgotten.
// covers: R6.06
func TestSTARTTLS(t *testing.T) {
	var resets int
	l := serve(t, &backend{}, &SMTPConfig{OnReset: func(*SMTPConn, string) { resets++ }}, Config{TLS: testTLS})
	p := dial(t, l)
	p.hello()
	p.do("MAIL FROM:<a@x.test>", "250 ")
	p.startTLS()
	p.do("MAIL FROM:<a@x.test>", "503 5.5.1 Error: send HELO")
	caps := p.do("EHLO me.test", "250-")
	if !strings.Contains(caps, "AUTH PLAIN") || strings.Contains(caps, "STARTTLS") {
		t.Errorf("EHLO after TLS: %q", caps)
	}
	p.do("STARTTLS", "503 ")
	p.do("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00u\x00p")), "235 ")
	p.do("AUTH PLAIN x", "503 ")
	p.envelope()
	p.do("DATA", "354 ")
	p.do("x\r\n.", "250 ")
	p.do("QUIT", "221 ")
	if resets != 1 {
		t.Errorf("%d resets", resets)
	}
}

// TestInjection: plaintext sent behind STARTTLS is not run under TLS.
func TestInjection(t *testing.T) {
	be := &backend{}
	l := serve(t, be, &SMTPConfig{}, Config{TLS: testTLS})
	p := dial(t, l)
	p.hello()
	p.send("STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@x.test>\r\n")
	p.want("220 ")
	p.upgrade()
	p.do("EHLO me.test", "250-")
	p.do("MAIL FROM:<good@x.test>", "250 ")
	if len(be.froms) != 1 || be.froms[0] != "good@x.test" {
		t.Errorf("senders %q", be.froms)
	}

	l = serve(t, be, &SMTPConfig{RejectPipelining: true}, Config{TLS: testTLS})
	p = dial(t, l)
	p.hello()
	p.send("STARTTLS\r\nNOOP\r\n")
	p.want("521 5.5.0")
	p.closed()
}

// TestPipelining: unauthorised pipelining is refused, the lawful kind is not,
// and its replies come in one piece.
// covers: R7.72
func TestPipelining(t *testing.T) {
	be := &backend{}
	l := serve(t, be, &SMTPConfig{RejectPipelining: true}, Config{})
	for _, in := range []string{"EHLO a\r\nMAIL FROM:<a@x>\r\n", "NOOP\r\nNOOP\r\n", "HELO a\r\nNOOP\r\n"} {
		p := dial(t, l)
		p.want("220 ")
		p.send(in)
		p.want("521 5.5.0")
		p.closed()
	}
	p := dial(t, l)
	p.hello()
	p.send("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<nobody@x.test>\r\nDATA\r\n")
	buf := make([]byte, 4096)
	n, err := p.Read(buf)
	if err != nil || strings.Count(string(buf[:n]), "\r\n") != 4 {
		t.Errorf("replies came apart: %q %v", buf[:n], err)
	}
	p.do("x\r\n.", "250 ")
	p.envelope()
	p.send("DATA\r\nearly\r\n.\r\n")
	p.want("521 5.5.0")
	p.closed()
	if len(be.got()) != 1 {
		t.Errorf("messages %q", be.got())
	}
}

// TestPregreet: a client that talks first is refused; one that waits is not.
// covers: R9.69
func TestPregreet(t *testing.T) {
	l := serve(t, &backend{}, &SMTPConfig{Pregreet: 150 * time.Millisecond, Teaser: "mx.test wait"}, Config{})
	p := dial(t, l)
	p.send("EHLO spam.test\r\n")
	p.want("220-mx.test wait\r\n521 5.5.1")
	p.closed()
	p = dial(t, l)
	p.want("220-mx.test wait\r\n220 mx.test ESMTP\r\n")
	p.do("EHLO me.test", "250-")
	l = serve(t, &backend{}, &SMTPConfig{OnConnect: func(*SMTPConn) *Reply {
		return &Reply{Code: 521, Enh: "5.7.1", Text: "banned"}
	}}, Config{})
	p = dial(t, l)
	p.want("521 5.7.1 banned")
	p.closed()
}

// TestErrors: tarpit and end after too many errors; junk commands are delayed.
// covers: R7.77
func TestErrors(t *testing.T) {
	l := serve(t, &backend{}, &SMTPConfig{SoftErrors: 2, HardErrors: 4, Tarpit: 50 * time.Millisecond,
		JunkLimit: 2, JunkDelay: 100 * time.Millisecond}, Config{})
	p := dial(t, l)
	p.hello()
	start := time.Now()
	p.do("FOO", "500 ")
	p.do("FOO", "500 ")
	p.do("FOO", "500 ")
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("no tarpit: %v", d)
	}
	p.do("FOO", "500 ")
	p.want("421 4.7.0")
	p.closed()
	p = dial(t, l)
	p.hello()
	start = time.Now()
	for range 12 {
		p.do("NOOP", "250 ")
	}
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("junk commands are not delayed: %v", d)
	}
}

// TestTooLong: overlong commands and body lines are refused in step.
func TestTooLong(t *testing.T) {
	be := &backend{}
	p := dial(t, serve(t, be, &SMTPConfig{MaxBodyLine: 1000, MaxMessage: 50000}, Config{}))
	p.hello()
	p.do("NOOP "+strings.Repeat("x", 5000), "500 5.5.2")
	p.do("NOOP "+strings.Repeat("x", 50000), "500 5.5.2")
	for i, tc := range []struct{ body, want string }{
		{strings.Repeat("x", 998), "250 "}, {strings.Repeat("x", 999), "554 5.6.0"},
		{strings.Repeat("x", 300000), "554 5.6.0"},
		{strings.Repeat(strings.Repeat("y", 98)+"\r\n", 600), "552 5.3.4"},
	} {
		be.slow = i%2 == 1
		p.envelope()
		p.do("DATA", "354 ")
		p.do(tc.body+"\r\n.", tc.want)
	}
	if n := len(be.got()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestDataTimeout: a stalled message ends the connection with 451, and nothing of
// it is read as commands. A message that dribbles is cut by the minimal rate.
func TestDataTimeout(t *testing.T) {
	for _, slow := range []bool{false, true} {
		be := &backend{slow: slow}
		l := serve(t, be, &SMTPConfig{}, Config{Timeouts: Timeouts{Data: 150 * time.Millisecond, MinRate: 1000}})
		p := dial(t, l)
		p.hello()
		p.envelope()
		p.do("DATA", "354 ")
		p.send("Subject: x\r\n")
		p.want("451 4.4.2")
		p.closed()

		p = dial(t, l)
		p.hello()
		p.envelope()
		p.do("DATA", "354 ")
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range 200 {
				<-tick.C
				if _, err := p.Write([]byte("RSET\r\n")); err != nil {
					return
				}
			}
		}()
		p.want("451 4.4.2")
		<-stop
		if len(be.got()) != 0 {
			t.Error("accepted")
		}
	}
}

// TestCommandTimeout: an idle client and one that dribbles a command get 421.
func TestCommandTimeout(t *testing.T) {
	l := serve(t, &backend{}, &SMTPConfig{}, Config{Timeouts: Timeouts{Idle: 100 * time.Millisecond, Command: 150 * time.Millisecond}})
	p := dial(t, l)
	p.hello()
	p.want("421 4.4.2")
	p.closed()
	p = dial(t, l)
	p.hello()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 200 {
			<-tick.C
			if _, err := p.Write([]byte("N")); err != nil {
				return
			}
		}
	}()
	p.want("421 4.4.2")
	<-stop
}

// TestXCLIENT: a trusted proxy overrides the client's address.
func TestXCLIENT(t *testing.T) {
	var seen string
	sc := &SMTPConfig{XClientFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	sc.OnCommand = func(c *SMTPConn, verb, _ string) *Reply {
		if verb == "MAIL" {
			seen = fmt.Sprint(c.RemoteIP(), " ", c.XClient("LOGIN"))
		}
		return nil
	}
	p := dial(t, serve(t, &backend{}, sc, Config{}))
	if caps := p.hello(); !strings.Contains(caps, "XCLIENT NAME ADDR") {
		t.Errorf("EHLO: %q", caps)
	}
	p.do("XCLIENT FOO=1", "501 ")
	p.do("XCLIENT ADDR=IPV6:2001:db8::1 PORT=9 LOGIN=a+2Bb", "220 mx.test")
	p.do("MAIL FROM:<a@x>", "503 ")
	p.do("EHLO me.test", "250-")
	p.do("MAIL FROM:<a@x>", "250 ")
	if seen != "2001:db8::1 a+b" {
		t.Errorf("seen %q", seen)
	}
	p = dial(t, serve(t, &backend{}, &SMTPConfig{}, Config{}))
	if caps := p.hello(); strings.Contains(caps, "XCLIENT") {
		t.Error("XCLIENT offered to anybody")
	}
	p.do("XCLIENT ADDR=1.2.3.4", "550 ")
}
