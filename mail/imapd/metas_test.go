package imapd_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestFewMetas: however few parsed headers fit into memory, the answers are the same.
func TestFewMetas(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		w.deliver("anna", fmt.Sprintf("From: u%d@x.test\r\nSubject: s%d\r\nMessage-ID: <%d>\r\nReferences: <%d>\r\nDate: Mon, %d Jan 2024 10:00:00 +0000\r\n\r\nhello\r\n", i*7%10, i%5, i, i/2, 1+i*3%28))
	}
	few := w.serve(w.store)
	few.srv.HoldFewMetas()
	a, b := w.login("anna"), few.login("anna")
	a.ok("SELECT INBOX")
	a.ok(`STORE 3,9,20:23 +FLAGS.SILENT (\Deleted)`)
	a.ok("EXPUNGE")
	b.ok("SELECT INBOX")
	for _, cmd := range []string{
		"FETCH 1:* (ENVELOPE UID)", "FETCH 2,5:9,30,34 (BODYSTRUCTURE)", "UID FETCH 1:10,35:* (UID ENVELOPE)", "SORT (FROM DATE) UTF-8 ALL", "SORT (SUBJECT REVERSE DATE) UTF-8 3:20", "THREAD REFERENCES UTF-8 ALL",
		"SEARCH SUBJECT s3", "SEARCH FROM u7 SENTSINCE 9-Jan-2024", "SEARCH UNSEEN NOT SUBJECT s1", "SEARCH 2,8,30:* FROM u",
	} {
		want, got := a.do(cmd), b.do(cmd)
		if strings.Join(want, "\n") != strings.Join(got, "\n") || !strings.HasPrefix(want[len(want)-1], "OK") || len(want) < 2 {
			t.Errorf("%s:\n%.500q\nwith few in memory\n%.500q", cmd, want, got)
		}
	}
}

// TestLargeHeadersAreBounded: a mailbox full of messages with headers as large as they may be takes no
// more memory to list than a few of them.
func TestLargeHeadersAreBounded(t *testing.T) {
	w := newWorld(t)
	list := strings.Repeat("a@b,", 4900)
	text := "From: " + list + "\r\nTo: " + list + "\r\nCc: " + list + "\r\nBcc: " + list + "\r\nSubject: x\r\n\r\nx\r\n"
	for range 80 { // half a MB each as ENVELOPE
		w.deliver("anna", text)
	}
	var before, after runtime.MemStats
	var clients []*client
	for range 8 {
		c := w.login("anna")
		c.ok("EXAMINE INBOX")
		clients = append(clients, c)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, c := range clients {
		fmt.Fprintf(c.c, "f FETCH 1:* ENVELOPE\r\n")
	}
	for _, c := range clients { // each stands still with its first messages in hand
		if l, err := c.r.ReadSlice('('); err != nil || !strings.HasPrefix(string(l), "* 1 FETCH") {
			t.Fatalf("%q %v", l, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 100<<20 {
		t.Errorf("%d MB held for 8 clients", grown>>20)
	}
}
