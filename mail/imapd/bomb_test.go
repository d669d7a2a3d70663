package imapd_test

import (
	"bufio"
	"compress/flate"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// compressed logs in and compresses from there on.
func (w *world) compressed() *client {
	w.t.Helper()
	c := w.login("anna")
	fmt.Fprint(c.c, "z COMPRESS DEFLATE\r\n")
	c.until("z")
	flat, err := flate.NewWriter(c.c, 9)
	if err != nil {
		w.t.Fatal(err)
	}
	c.r = bufio.NewReader(flate.NewReader(c.c))
	c.c = flushing{c.c, flat}
	return c
}

// TestCompressBombs: what is a few octets on the wire counts as what it becomes. A line without an end
// ends the session, a literal that is refused is passed over, and none of it is held in memory.
func TestCompressBombs(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	var before, after runtime.MemStats
	piece := []byte(strings.Repeat("\x00", 1<<20))
	c := w.compressed()
	c.ok("SELECT INBOX")
	runtime.GC()
	runtime.ReadMemStats(&before)
	fmt.Fprintf(c.c, "a SEARCH TEXT {%d+}\r\n", 20*len(piece))
	for range 20 {
		if _, err := c.c.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d MB held", grown>>20)
	}
	fmt.Fprint(c.c, "\r\n")
	if out := c.until("a"); !strings.HasPrefix(out[0], "BAD the literal is too large") {
		t.Errorf("%q", out)
	}
	c.gets("hello world", "FETCH 1 BODY[]") // in step

	for range 3 { // a line of 3 MB
		c.c.Write(piece)
	}
	if l, err := c.r.ReadString('\n'); err == nil {
		t.Errorf("a line without an end is answered with %q", l)
	}

	c = w.compressed()
	fmt.Fprint(c.c, "a NOOP {99999999999+}\r\n")
	if l := c.line(); !strings.HasPrefix(l, "* BYE [TOOBIG]") {
		t.Error(l)
	}
	if b, err := c.r.ReadByte(); err == nil {
		t.Errorf("%q comes behind BYE", b)
	}

	c = w.compressed() // and then no deflate at all
	c.c.(flushing).Conn.Write([]byte(strings.Repeat("\xff", 1000)))
	if all, _ := io.ReadAll(c.r); strings.Contains(string(all), "OK") {
		t.Errorf("%q", all)
	}
}
