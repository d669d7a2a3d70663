package imapd_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/imapd"
)

// TestStep: whatever comes, each tagged line gets one tagged answer, and no octet of a literal is ever
// taken for a command.
func TestStep(t *testing.T) {
	w := newWorld(t)
	trap := "x1 LOGOUT\r\n"
	early := []struct{ text, want string }{
		{"LOGIN " + lit(strings.Repeat(trap, 2000)) + " x", "BAD"},
		{"LOGIN " + lit("anna") + " " + lit(strings.Repeat(trap, 2000)), "BAD"},
		{"APPEND INBOX " + lit(trap), "BAD log in first"}, {"APPEND INBOX " + lit(trap) + " " + lit(trap), "BAD log in first"},
		{"SELECT " + lit(trap), "BAD log in first"}, {"NOPE " + lit(trap), "BAD"}, {"STARTTLS " + lit(trap), "BAD"}, {"IDLE " + lit(trap), "BAD"},
		{"AUTHENTICATE " + lit(trap), "NO"}, {"AUTHENTICATE PLAIN " + lit(trap), "BAD"}, {"AUTHENTICATE PLAIN AGFubmEAc2VjcmV0 " + lit8(trap), "BAD"}, {"AUTHENTICATE NOPE " + lit(trap), "NO"}, {"COMPRESS DEFLATE " + lit(trap), "BAD"}, {"UID " + lit(trap), "BAD"}, {lit(trap), "BAD"},
		{"LOGIN {99999999999999999999999999}", "BAD"}, {"LOGIN {9223372036854775807}", "BAD"}, {"LOGIN {-1}", "BAD"}, {"LOGIN {}", "BAD"}, {"LOGIN {1 }", "BAD"}, {"LOGIN {0x10}", "BAD"}, {"LOGIN {5++}", "BAD"},
		{"LOGIN a\x00 b", "BAD"}, {"LOGIN " + strings.Repeat("x", 70_000), "BAD"}, {"NOOP " + strings.Repeat("(", 70_000) + " " + lit(trap), "BAD"}, {"LOGIN " + lit("a") + strings.Repeat(" x", 40_000) + lit(trap), "BAD"},
		{"LOGIN" + strings.Repeat(" "+lit("x"), 300), "BAD"}, {"CAPABILITY " + lit("x"), "BAD"},
		{"AUTHENTICATE PLAIN !!!", "BAD"}, {"AUTHENTICATE PLAIN =", "BAD"}, {"AUTHENTICATE PLAIN " + strings.Repeat("A", 50_000), "BAD"}, {"AUTHENTICATE PLAIN AGFubmEAd3Jvbmc=", "NO [AUTHENTICATIONFAILED]"},
	}
	c := w.dial()
	for i, tc := range early {
		if i == len(early)/2 {
			c = w.dial() // too many bad commands in a row end a session
		}
		if out := c.send("s", tc.text); !strings.HasPrefix(out[len(out)-1], tc.want) && !(tc.want == "BAD" && strings.HasPrefix(out[len(out)-1], "NO [AUTH")) {
			t.Errorf("%.60q: %.100v, want %s", tc.text, out, tc.want)
		}
	}
	for _, answer := range []string{"*", "!!", "abc{5+}", strings.Repeat("A", 70_000)} {
		fmt.Fprintf(c.c, "p AUTHENTICATE PLAIN\r\n")
		if l := c.line(); l != "+ " {
			t.Fatalf("%q", l)
		}
		fmt.Fprintf(c.c, "%s\r\n", answer)
		if out := c.until("p"); !strings.HasPrefix(out[len(out)-1], "BAD") {
			t.Errorf("%.20s: %v", answer, out)
		}
	}
	c.ok("LOGIN anna secret")
	c.ok("SELECT INBOX")
	for _, text := range []string{"LOGIN a " + lit(trap), "SEARCH TEXT " + lit(strings.Repeat(trap, 200_000)), "SEARCH " + strings.Repeat("(", 1000) + lit(trap), "FETCH 1 BODY[HEADER.FIELDS (" + lit(trap) + ")]", "IDLE " + lit(trap), "STORE 1 FLAGS " + lit(trap), "NOPE " + lit(trap)} {
		if out := c.send("q", text); !strings.HasPrefix(out[len(out)-1], "BAD") {
			t.Errorf("%.40q: %v", text, out)
		}
		c.ok("NOOP")
	}
	fmt.Fprintf(c.c, "i IDLE\r\n")
	c.line()
	fmt.Fprintf(c.c, "enough %s\r\n", lit(trap))
	if out := c.until("i"); !strings.HasPrefix(out[len(out)-1], "BAD") {
		t.Error(out)
	}
	for _, line := range []string{"", "   ", "\x00\x01", "*", "+ x", "(a) NOOP " + lit(trap), strings.Repeat("t", 80) + " NOOP"} { // without a tag: an untagged answer
		fmt.Fprintf(c.c, "%s\r\n", line)
		if l := c.line(); !strings.HasPrefix(l, "* BAD") {
			t.Errorf("%.20q: %q", line, l)
		}
		c.ok("NOOP")
	}
}

// TestEndlessLiteral: a literal that nobody could want ends the session instead of being read for hours.
func TestEndlessLiteral(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{"LOGIN {2000000+}", "LOGIN {99999999999999999999+}", "NOOP x {9223372036854775807+}"} {
		c := w.dial()
		fmt.Fprintf(c.c, "a %s\r\n", text)
		if l := c.line(); !strings.HasPrefix(l, "* BYE [TOOBIG]") {
			t.Errorf("%s: %s", text, l)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("%s: %v, want the end", text, err)
		}
	}
}

// TestGarbage: octets that are no IMAP at all, pipelined, end in BYE.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	for _, garbage := range []string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n", "EHLO x\r\n", strings.Repeat("\xff\n", 100)} {
		c := w.dial()
		go io.WriteString(c.c, strings.Repeat(garbage, 400))
		last := ""
		for {
			l, err := c.r.ReadString('\n')
			if err != nil {
				break
			}
			last = l
		}
		if !strings.HasPrefix(last, "* BYE") {
			t.Errorf("%q ends with %q", garbage, last)
		}
	}
}

// TestSlowReader: what a client doesn't read isn't made: memory stays bounded however much it asks for.
func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	for range 200 {
		w.deliver("anna", mail+strings.Repeat("0123456789abcde\r\n", 4000)) // 13 MB in all
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var clients []*client
	for range 8 {
		c := w.login("anna")
		c.ok("EXAMINE INBOX")
		for i := range 100 { // 1.3 GB each
			fmt.Fprintf(c.c, "f%d FETCH 1:* BODY[]\r\n", i)
		}
		clients = append(clients, c)
	}
	for _, c := range clients { // each has been served as much as the kernel takes
		if l := c.line(); !strings.HasPrefix(l, "* 1 FETCH") {
			t.Fatal(l)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MB held for 8 clients that don't read", grown>>20)
	}
}

// TestCompress is RFC 4978 with a client that compresses.
func TestCompress(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	c := w.login("anna")
	c.gets("COMPRESS=DEFLATE", "CAPABILITY")
	c.gets("NO", "COMPRESS LZ4")
	c.gets("BAD", "COMPRESS")
	fmt.Fprint(c.c, "z COMPRESS DEFLATE\r\n")
	c.until("z")
	flat, _ := flate.NewWriter(c.c, 6)
	c.r = bufio.NewReader(flate.NewReader(c.c))
	plain := c.c
	c.c = flushing{plain, flat}
	c.gets("NO [COMPRESSIONACTIVE]", "COMPRESS DEFLATE")
	if out := c.ok("CAPABILITY"); strings.Contains(out, "COMPRESS") {
		t.Error(out)
	}
	c.ok("SELECT INBOX")
	c.gets("hello world", "FETCH 1 BODY[]")
	fmt.Fprint(c.c, "i IDLE\r\n")
	for l := c.line(); !strings.HasPrefix(l, "+"); l = c.line() {
	}
	for want := 2; want < 6; want++ { // IDLE is woken from outside while the client is silent
		w.deliver("anna", mail)
		for l := c.line(); l != fmt.Sprintf("* %d EXISTS", want); l = c.line() {
		}
	}
	fmt.Fprint(c.c, "DONE\r\n")
	c.until("i")
	large := mail + strings.Repeat("the same again, ", 300_000)
	if out := c.send("a", "APPEND Drafts "+lit(large)); !strings.HasPrefix(out[len(out)-1], "OK") {
		t.Error(out)
	}
	c.ok("SELECT Drafts")
	if got := c.raw("FETCH 1 BODY.PEEK[]"); !strings.Contains(got, large) {
		t.Errorf("%d octets came back of %d", len(got), len(large))
	}
	c.ok("LOGOUT")
}

// flushing compresses what is written and sends it at once.
type flushing struct {
	net.Conn
	w *flate.Writer
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.w.Flush()
	}
	return n, err
}

var literalStart = regexp.MustCompile(`~?\{\d+\+\}\r\n`)

// FuzzEngine runs a scripted session made of arbitrary octets. Each command is tagged, its literals are
// announced as they should be; the model wants exactly one tagged answer each, in their order, and at the
// end a server that still answers.
func FuzzEngine(f *testing.F) {
	w := newWorld(f)
	w.deliver("anna", mail)
	w.deliver("anna", parts)
	for _, s := range []string{
		"SELECT INBOX\nFETCH 1:* (BODY[] ENVELOPE BINARY[1] PREVIEW)\nSTORE 1 +FLAGS (\\Deleted)\nEXPUNGE", "LIST (SUBSCRIBED) \"\" (a b) RETURN (STATUS (MESSAGES))\nLSUB \"\" %\nNAMESPACE",
		"APPEND Drafts (\\Seen) \xfe123 (a) \xfe456\nAPPEND \xfeDrafts \xfftext", "SELECT Drafts\nIDLE\nUID FETCH 1:* PREVIEW (LAZY)\nCLOSE", "AUTHENTICATE PLAIN\nID (\"a\" \xfeb)\nENABLE UTF8=ACCEPT IMAP4rev2\nSTARTTLS\nCREATE x/y\nRENAME x z\nDELETE z",
		"SEARCH OR TEXT \xfea (NOT SEEN) 1:*\nUID SEARCH RETURN (ALL) ALL\nCOPY 1 Sent\nMOVE 1 Trash\nCHECK\nUNSELECT", "STATUS INBOX (MESSAGES SIZE MAILBOXID)\nSUBSCRIBE \xff\xfe\x80\nUID\nUID NOPE\n\x00\n(",
	} {
		f.Add([]byte(s))
	}
	for _, name := range imapd.CommandNames() { // and every command with good arguments, to be spoilt
		for _, args := range commandArgs[strings.TrimPrefix(name, "UID ")] {
			text := strings.Join(append([]string{name}, args...), " ")
			f.Add([]byte("SELECT INBOX\n" + literalStart.ReplaceAllString(text, "\xfe")))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		conn, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		s := &script{t: t, c: conn, r: bufio.NewReader(conn), data: data}
		s.r.ReadString('\n')
		s.command("LOGIN anna secret")
		for i, cmd := range bytes.Split(data, []byte("\n")) {
			if i >= 25 || s.ended { // more bad ones in a row may end the session
				break
			}
			s.command(string(cmd))
		}
		if !s.ended {
			s.command("NOOP")
		}
	})
}

// script is a client that knows nothing but the syntax of answers.
type script struct {
	t     *testing.T
	c     net.Conn
	r     *bufio.Reader
	data  []byte
	n     int
	ended bool
}

// command sends a line. 0xfe in it begins a non-synchronising literal, 0xff a synchronising one, of what
// stands behind it up to the next space.
func (s *script) command(text string) {
	text = strings.Map(func(r rune) rune {
		if r == '\r' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(strings.NewReplacer("\xfe", "\u2401", "\xff", "\u2402").Replace(text), "\u00e9"))
	s.n++
	tag := fmt.Sprintf("T%d", s.n)
	if word := strings.ToUpper(strings.TrimSpace(text)); strings.HasPrefix(word, "COMPRESS") || strings.HasPrefix(word, "LOGOUT") {
		return
	}
	io.WriteString(s.c, tag+" ")
	for {
		i := strings.IndexAny(text, "\u2401\u2402")
		if i < 0 {
			break
		}
		sync := strings.HasPrefix(text[i:], "\u2402")
		content, rest, _ := strings.Cut(text[i+3:], " ")
		if rest != "" {
			rest = " " + rest
		}
		plus := "+"
		if sync {
			plus = ""
		}
		fmt.Fprintf(s.c, "%s{%d%s}\r\n", text[:i], len(content), plus)
		if sync && !s.wait(tag, true) {
			return
		}
		io.WriteString(s.c, content)
		text = rest
	}
	if strings.HasSuffix(text, "}") { // no literal without its octets
		text += "."
	}
	io.WriteString(s.c, text+"\r\n")
	for s.wait(tag, false) {
		io.WriteString(s.c, "DONE\r\n") // of IDLE, or of a login that isn't base64
	}
}

// wait reads answers up to a tagged one (false) or a request to go on (true).
func (s *script) wait(tag string, literal bool) bool {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			if !s.ended {
				s.t.Fatalf("%v without BYE, waiting for %s of %q (%q)", err, tag, s.data, line)
			}
			return false
		}
		switch {
		case strings.Contains(line, "server fault"):
			s.t.Fatalf("panic on %q", s.data)
		case strings.HasPrefix(line, "* BYE"):
			s.ended = true
		case strings.HasPrefix(line, "+ "):
			return true
		case strings.HasPrefix(line, tag+" "):
			return false
		case strings.HasPrefix(line, "* "):
			s.literals(line)
		default:
			s.t.Fatalf("out of step: %q while waiting for %s of %q", line, tag, s.data)
		}
	}
}

// literals reads what an answer announces.
func (s *script) literals(line string) {
	for {
		line = strings.TrimRight(line, "\r\n")
		i := strings.LastIndexByte(line, '{')
		if i < 0 || !strings.HasSuffix(line, "}") {
			return
		}
		n, err := strconv.Atoi(line[i+1 : len(line)-1])
		if err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, s.r, int64(n)); err != nil {
			s.t.Fatalf("%v in a literal of %q", err, s.data)
		}
		if line, err = s.r.ReadString('\n'); err != nil {
			s.t.Fatalf("%v behind a literal of %q", err, s.data)
		}
	}
}
