package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

// fill makes a mailbox of count messages; they share a few bodies.
func (w *world) fill(name string, count int) model.Mailbox {
	w.t.Helper()
	m, err := w.store.Create(context.Background(), 'b', name, "")
	if err != nil {
		w.t.Fatal(err)
	}
	for from := 0; from < count; from += 500 {
		var msgs []store.NewMessage
		for i := range min(500, count-from) {
			sp := w.store.NewSpool(0)
			fmt.Fprintf(sp, "From: a%d <a@x.example>\r\nTo: b@x.example\r\nSubject: Re: a number %d\r\nMessage-ID: <%d@x.example>\r\nReferences: <%d@x.example>\r\nDate: Fri, 21 Nov 1997 09:55:%02d -0600\r\n\r\nbody\r\n", i%7, i%100, i, i-i%10, i%60)
			msgs = append(msgs, store.NewMessage{Spool: sp, Date: time.Unix(880000000+int64(i), 0)})
		}
		if _, err := w.store.Append(context.Background(), m.ID, msgs); err != nil {
			w.t.Fatal(err)
		}
	}
	return m
}

// talker does commands and throws the answers away.
type talker struct {
	tb testing.TB
	c  net.Conn
	in *bufio.Reader
}

func (w *world) talk(tb testing.TB) *talker {
	tb.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	t := &talker{tb, c, bufio.NewReaderSize(c, 64<<10)}
	t.do("LOGIN b secret")
	return t
}

func (t *talker) do(line string) {
	fmt.Fprintf(t.c, "a %s\r\n", line)
	for {
		l, err := t.in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			t.tb.Fatal(err)
		}
		if bytes.HasPrefix(l, []byte("a ")) {
			if !bytes.HasPrefix(l, []byte("a OK")) {
				t.tb.Fatalf("%s: %s", line, l)
			}
			return
		}
	}
}

// BenchmarkMailbox is the work of a client on a mailbox of 20,000 messages, per command.
func BenchmarkMailbox(b *testing.B) {
	w := newWorld(b)
	w.fill("Big", 20_000)
	c := w.talk(b)
	c.do("SELECT Big")
	for _, cmd := range []string{
		"SELECT Big", "FETCH 1:* (UID FLAGS)", "FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)", "UID SEARCH UNSEEN", "SORT (SUBJECT DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL",
	} {
		b.Run(cmd, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do(cmd)
			}
		})
	}
	for _, silent := range []string{"", ".SILENT"} {
		b.Run("STORE 1:* FLAGS"+silent, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.do(fmt.Sprintf(`STORE 1:* %cFLAGS%s (\Seen)`, "+-"[i%2], silent))
			}
		})
	}
	b.Run("COPY 1:*", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			c.do("CREATE Copy")
			c.do("COPY 1:* Copy")
			b.StopTimer()
			c.do("DELETE Copy")
			b.StartTimer()
		}
	})
}

// BenchmarkBodies fetches whole messages of 4 KB, each with a body of its own.
func BenchmarkBodies(b *testing.B) {
	w := newWorld(b)
	m, err := w.store.Create(context.Background(), 'b', "Bodies", "")
	if err != nil {
		b.Fatal(err)
	}
	const count = 2000
	var msgs []store.NewMessage
	for i := range count {
		sp := w.store.NewSpool(0)
		fmt.Fprintf(sp, "From: a@x.example\r\nSubject: number %d\r\n\r\n", i)
		for range 55 {
			sp.Write([]byte("One line of seventy octets, which is what most of the lines of mail have.\r\n"))
		}
		msgs = append(msgs, store.NewMessage{Spool: sp, Date: time.Unix(880000000+int64(i), 0)})
	}
	if _, err := w.store.Append(context.Background(), m.ID, msgs); err != nil {
		b.Fatal(err)
	}
	c := w.talk(b)
	c.do("SELECT Bodies")
	b.SetBytes(count * 4 << 10)
	b.ReportAllocs()
	for b.Loop() {
		c.do("FETCH 1:* (BODY.PEEK[])")
	}
}

// BenchmarkOpen opens a mailbox of 100,000 messages, for the first time and again.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b)
	w.fill("Huge", 100_000)
	c := w.talk(b)
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.do("SELECT Huge")
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh := w.serve(w.store).talk(b)
			fresh.do("SELECT Huge")
			fresh.c.Close()
		}
	})
}

// BenchmarkReconnect lets 1,000 clients come back at once, each with QRESYNC, 50 connections at a time.
func BenchmarkReconnect(b *testing.B) {
	w := newWorld(b)
	w.fill("Big", 20_000)
	c := w.login("b")
	modseq, validity, _ := c.opened("SELECT Big")
	c.ok(`UID STORE 100:110 +FLAGS.SILENT (\Deleted)`)
	c.ok(`EXPUNGE`)
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for range 50 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 20 {
					t := w.talk(b)
					t.do("ENABLE QRESYNC")
					t.do(fmt.Sprintf("SELECT Big (QRESYNC (%d %d))", validity, modseq))
					t.c.Close()
				}
			}()
		}
		wg.Wait()
	}
}
