package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"mailplusd/mail/store"
)

// BenchmarkFetch selects a mailbox of 5,000 messages and lists all of it.
func BenchmarkFetch(b *testing.B) {
	w := newWorld(b)
	const count = 5000
	m, err := w.store.Create(context.Background(), 'b', "Big", "")
	if err != nil {
		b.Fatal(err)
	}
	for from := 0; from < count; from += 500 {
		var msgs []store.NewMessage
		for range 500 {
			sp := w.store.NewSpool(0) // the same body each time: it is stored once
			fmt.Fprintf(sp, "From: a <a@x.example>\r\nTo: b@x.example\r\nSubject: a number\r\nMessage-ID: <1@x.example>\r\nDate: Fri, 21 Nov 1997 09:55:06 -0600\r\n\r\nbody\r\n")
			msgs = append(msgs, store.NewMessage{Spool: sp, Date: time.Unix(880000000, 0)})
		}
		if _, err := w.store.Append(context.Background(), m.ID, msgs); err != nil {
			b.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	do := func(line string) {
		fmt.Fprintf(c, "a %s\r\n", line)
		for {
			l, err := in.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if bytes.HasPrefix(l, []byte("a ")) {
				if !bytes.HasPrefix(l, []byte("a OK")) {
					b.Fatalf("%s: %s", line, l)
				}
				return
			}
		}
	}
	do("LOGIN b secret")
	for _, items := range []string{"(UID FLAGS)", "(ENVELOPE)"} {
		b.Run(items, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				do("SELECT Big")
				do("FETCH 1:* " + items)
			}
		})
	}
}
