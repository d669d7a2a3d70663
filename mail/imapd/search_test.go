package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// counting counts how many messages are opened.
type counting struct {
	imapd.Store
	opened atomic.Int64
}

func (c *counting) Body(id model.BodyID) (*segment.Body, error) {
	c.opened.Add(1)
	return c.Store.Body(id)
}

// TestSearchByEnvelope: keys that the parsed header answers open no message, and find what reading would.
func TestSearchByEnvelope(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail) // 1 Jan 2024, Subject Grüße, Message-ID <1@a.test>
	w.deliver("anna", "From: x@y.test\r\nDate: Tue, 2 Jan 2024 23:59:00 -1100\r\nSubject: two\r\nCc: carol@c.test\r\nMessage-ID: <2@a.test>\r\nIn-Reply-To: <1@a.test>\r\n\r\nx\r\n")
	w.deliver("anna", "From: x@y.test\r\n\r\nwithout anything\r\n")
	w.deliver("anna", "Subject: first\r\nSubject: second\r\nDate: 3 Jan 24 10:00 GMT\r\n\r\nx\r\n")
	for i := range 600 { // more than are read ahead at a time
		w.deliver("anna", fmt.Sprintf("Subject: number %d\r\nDate: Sat, 6 Jan 2024 10:00:00 +0000\r\nMessage-ID: <n%d@a.test>\r\n\r\nx\r\n", i, i))
	}
	c := &counting{Store: w.store}
	cl := w.serve(c).login("anna")
	cl.ok("SELECT INBOX")
	for _, tc := range []struct {
		key, want string
		opens     int64
	}{
		{"SENTON 1-Jan-2024", "* SEARCH 1", 0},
		{"SENTON 2-Jan-2024", "* SEARCH 2", 0}, // without its zone
		{"SENTBEFORE 3-Jan-2024", "* SEARCH 1 2", 0},
		{"4 SENTSINCE 3-Jan-2024", "* SEARCH 4", 0}, // as SORT DATE reads it
		{"SENTSINCE 7-Jan-2024", "* SEARCH", 0},
		{"HEADER Message-ID <1@a.test>", "* SEARCH 1", 0},
		{"HEADER message-id n599@", "* SEARCH 604", 0},
		{"HEADER In-Reply-To \"\"", "* SEARCH 2", 0},
		{"SUBJECT \"number 59\"", "* SEARCH 64 595 596 597 598 599 600 601 602 603 604", 1}, // 4 has two subjects
		{"SUBJECT second", "* SEARCH 4", 1},
		{"5:* SUBJECT \"NUMBER 0\"", "* SEARCH 5", 0},
		{"CC carol", "* SEARCH 2", 0}, {"FROM \"x@y.TEST\"", "* SEARCH 2 3", 0}, {"TO nobody", "* SEARCH", 0},
		{"BCC carol", "* SEARCH", 0},
		{"NOT SENTSINCE 1-Jan-2024", "* SEARCH 3", 0},
		{"OR SENTON 1-Jan-2024 HEADER Message-ID <2@a", "* SEARCH 1 2", 0},
		{"HEADER X-None \"\"", "* SEARCH", 604},
	} {
		c.opened.Store(0)
		cmd := "SEARCH " + tc.key
		if out := cl.do(cmd); out[0] != tc.want {
			t.Errorf("%s: %.200s, want %s", cmd, out[0], tc.want)
		}
		if n := c.opened.Load(); n != tc.opens {
			t.Errorf("%s opens %d messages, want %d", cmd, n, tc.opens)
		}
	}
}

// TestSearchLargeMessages: how large messages are makes no difference to the memory that a search takes.
func TestSearchLargeMessages(t *testing.T) {
	w := newWorld(t)
	const size = 48 << 20
	line := []byte(strings.Repeat("0123456789abcdef", 4) + "\r\n")
	large := func(header string) {
		sp := w.store.NewSpool(0)
		sp.Write([]byte("Subject: large\r\n" + header + "\r\n\r\nthe beginning\r\n"))
		for n := 0; n < size; n += len(line) << 10 {
			sp.Write(bytes.Repeat(line, 1<<10))
		}
		sp.Write([]byte("the end\r\n"))
		meta, err := w.store.Summarize(nil, sp)
		if err != nil {
			t.Fatal(err)
		}
		body, n, err := w.store.CommitSpool(context.Background(), sp, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Deliver(t.Context(), state.Deliver{Body: body, Size: n, Meta: meta, Local: []state.DeliverTo{{Account: 'a'}}}); err != nil {
			t.Fatal(err)
		}
	}
	large("X-Kind: plain\r\nContent-Type: application/octet-stream")
	large("X-Kind: text\r\nContent-Type: text/plain")
	c := w.login("anna")
	c.ok("SELECT INBOX")
	for key, want := range map[string]string{
		"HEADER X-Kind plain": "* SEARCH 1", "BODY \"the beginning\"": "* SEARCH 2", "TEXT nowhere": "* SEARCH", "LARGER 1000000 HEADER X-Kind \"\"": "* SEARCH 1 2",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if out := c.do("SEARCH " + key); out[0] != want {
			t.Errorf("%s: %.200s, want %s", key, out[0], want)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > size/2+16<<20 {
			t.Errorf("%s: %d MB are taken for messages of %d MB", key, got>>20, size>>20)
		}
	}
}
