package imapd_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

const parts = "From: a@a.test\r\nSubject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =\r\nan alle=ZZ \r\n\r\n" +
	"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC*AwQF\r\nBgc=\r\n\r\n" +
	"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n\r\n" +
	"--b\r\nContent-Type: text/html\r\n\r\n<p>plain\x00ly</p>\r\n--b--\r\n"

// raw sends a command and gives the answer's octets up to the tagged line.
func (c *client) raw(cmd string) string {
	c.w.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	fmt.Fprintf(c.c, "%s %s\r\n", tag, cmd)
	var b strings.Builder
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.w.t.Fatalf("%v after %q", err, b.String())
		}
		if strings.HasPrefix(l, tag+" ") {
			return b.String() + strings.TrimPrefix(l, tag+" ")
		}
		b.WriteString(l)
	}
}

// TestBinary is RFC 3516, with the answers of RFC 9051 §7.5.2.
func TestBinary(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	c.send("a", "APPEND INBOX "+lit8(parts))
	c.ok("SELECT INBOX")
	for _, tc := range [][2]string{
		{"FETCH 1 BINARY.PEEK[1]", "* 1 FETCH (BINARY[1] {20}\r\nGrüße an alle=ZZ\r\n)\r\nOK"},
		{"FETCH 1 BINARY.SIZE[1]", "* 1 FETCH (BINARY.SIZE[1] 20)\r\nOK"},
		{"FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2])", "* 1 FETCH (BINARY[2] ~{8}\r\n\x00\x01\x02\x03\x04\x05\x06\x07 BINARY.SIZE[2] 8)\r\nOK"},
		{"FETCH 1 BINARY.PEEK[2]<2.3>", "* 1 FETCH (BINARY[2]<2> ~{3}\r\n\x02\x03\x04)\r\nOK"},
		{"FETCH 1 BINARY.PEEK[2]<100.3>", "* 1 FETCH (BINARY[2]<100> ~{0}\r\n)\r\nOK"},
		{"FETCH 1 BINARY.PEEK[3]", "NO [UNKNOWN-CTE]"},
		{"FETCH 1 (FLAGS BINARY.SIZE[3])", "NO [UNKNOWN-CTE]"},
		{"FETCH 1 BINARY.PEEK[9]", "* 1 FETCH (BINARY[9] NIL)\r\nOK"},
		{"FETCH 1 BODY.PEEK[4]", "* 1 FETCH (BODY[4] {15}\r\n<p>plain\x80ly</p>)\r\nOK"}, // NUL is never sent in a literal
		{"FETCH 1 BINARY.PEEK[4]", "* 1 FETCH (BINARY[4] ~{15}\r\n<p>plain\x00ly</p>)\r\nOK"},
		{"FETCH 1 PREVIEW", "* 1 FETCH (PREVIEW {18}\r\nGrüße an alle=ZZ)\r\nOK"},
		{"FETCH 1 PREVIEW (LAZY)", "* 1 FETCH (PREVIEW {"},
		{"FETCH 1 BINARY.PEEK[]<0.5>", "* 1 FETCH (BINARY[]<0> ~{5}\r\nFrom:)\r\nOK"},
		{"FETCH 1 BINARY[1", "BAD"}, {"FETCH 1 BINARY", "BAD"}, {"FETCH 1 BINARY[HEADER]", "BAD"}, {"FETCH 1 BINARY.SIZE[1]<0.1>", "BAD"}, {"FETCH 1 BINARY[1.]", "BAD"}, {"FETCH 1 PREVIEW (FAST)", "BAD"},
	} {
		if got := c.raw(tc[0]); !strings.HasPrefix(got, tc[1]) {
			t.Errorf("%s:\n got %q\nwant %q", tc[0], got, tc[1])
		}
	}
}

// TestBinarySeen: BINARY sets \Seen, BINARY.PEEK and BINARY.SIZE don't (RFC 3516 §4.2).
func TestBinarySeen(t *testing.T) {
	w := newWorld(t)
	c := w.login("anna")
	c.send("a", "APPEND INBOX "+lit8(parts))
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2] PREVIEW)")
	c.answers("SEARCH SEEN", "* SEARCH")
	c.gets(`FLAGS (\Seen \Recent)`, "FETCH 1 BINARY[2]")
	c.answers("SEARCH SEEN", "* SEARCH 1")
}

// TestObjectID is RFC 8474: a copy has the EMAILID of its original.
func TestObjectID(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	w.deliver("anna", mail+"other")
	c := w.login("anna")
	c.ok("SELECT INBOX")
	c.ok("COPY 1:2 Archive")
	first := c.do("FETCH 1:2 (EMAILID THREADID)")
	if !strings.HasSuffix(first[0], ") THREADID NIL)") || first[0][len("* 1"):] == first[1][len("* 2"):] {
		t.Errorf("%v", first)
	}
	id := strings.TrimPrefix(strings.Fields(first[1])[4], "(")
	c.answers("SEARCH EMAILID "+strings.Trim(id, "()"), "* SEARCH 2")
	c.answers("SEARCH THREADID x", "* SEARCH")
	c.ok("SELECT Archive")
	second := c.do("FETCH 1:2 (EMAILID THREADID)")
	for i := range 2 {
		if first[i] != second[i] {
			t.Errorf("%s, and of the copy %s", first[i], second[i])
		}
	}
}

// TestFetchStreams: parts of a large message, decoded or not, are sent without holding them in memory.
func TestFetchStreams(t *testing.T) {
	w := newWorld(t)
	const size = 9 << 20
	c := w.login("anna")
	c.c.SetDeadline(time.Now().Add(2 * time.Minute))
	head := "Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsmall\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	line := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 57))) + "\r\n"
	body := strings.Repeat(line, size/len(line))
	tail := "\r\n--b--\r\n"
	fmt.Fprintf(c.c, "a APPEND INBOX {%d+}\r\n%s", len(head)+len(body)+len(tail), head)
	io.WriteString(c.c, body)
	fmt.Fprintf(c.c, "%s\r\n", tail)
	if out := c.until("a"); !strings.HasPrefix(out[0], "OK") {
		t.Fatal(out)
	}
	c.ok("SELECT INBOX")
	n, decoded := len(body), size/len(line)*57
	for _, tc := range []struct {
		cmd, start string
		octets     int
	}{
		{"BODY.PEEK[2]", fmt.Sprintf("* 1 FETCH (BODY[2] {%d}\r\n", n), n}, {"BODY.PEEK[1]", "* 1 FETCH (BODY[1] {5}\r\n", 5},
		{"BINARY.PEEK[2]", fmt.Sprintf("* 1 FETCH (BINARY[2] {%d}\r\n", decoded), decoded}, {"BODY.PEEK[TEXT]", "* 1 FETCH (BODY[TEXT] {", 0}, {"BODY.PEEK[]", "* 1 FETCH (BODY[] {", 0},
		{"BODY.PEEK[2]<1000.200>", "* 1 FETCH (BODY[2]<1000> {200}\r\n", 200}, {"(BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[HEADER] BINARY.SIZE[2])", "* 1 FETCH (BODY[1] {5}\r\n", 0},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fmt.Fprintf(c.c, "f FETCH 1 %s\r\n", tc.cmd)
		got := make([]byte, len(tc.start))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != tc.start {
			t.Fatalf("%s: %q %v", tc.cmd, got, err)
		}
		if _, err := io.CopyN(io.Discard, c.r, int64(tc.octets)); err != nil {
			t.Fatal(err)
		}
		if out := c.until("f"); !strings.HasPrefix(out[len(out)-1], "OK") {
			t.Fatalf("%s: %v", tc.cmd, out[len(out)-1])
		}
		runtime.ReadMemStats(&after)
		// what the test itself reads line by line is allocated, too, where it doesn't know the size
		if grown := after.TotalAlloc - before.TotalAlloc; tc.octets > 0 && grown > 2<<20 {
			t.Errorf("%s: %d octets allocated for a message of %d", tc.cmd, grown, size)
		}
	}
}
