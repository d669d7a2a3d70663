package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/search"
	"mailplusd/mail/store"
)

// BenchmarkSearch searches a mailbox of 20,000 different messages of some 4 KB, with an index and
// without one. It also tells how fast the index was built and how large it is.
func BenchmarkSearch(b *testing.B) {
	const count = 20000
	w := newWorld(b)
	m, err := w.store.Create(context.Background(), 'b', "Big", "")
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for from := 0; from < count; from += 500 {
		var msgs []store.NewMessage
		for i := range 500 {
			sp := w.store.NewSpool(0)
			sp.Write(benchMail(r, from+i))
			msgs = append(msgs, store.NewMessage{Spool: sp, Date: time.Unix(880000000, 0)})
		}
		if _, err := w.store.Append(context.Background(), m.ID, msgs); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	ix := search.New(search.Options{
		Dir: dir, Source: w.store, Feed: w.store.State().Feed, Config: func() search.Config { return search.Config{On: true, CJK: true} },
		Users: func() ([]model.AccountID, error) { return []model.AccountID{'b'}, nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	started := time.Now()
	go func() { defer close(done); ix.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	for {
		if st := ix.Status(); len(st) == 1 && st[0].State == search.Ready && st[0].Indexed == count {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	rate := count / time.Since(started).Seconds()
	size := int64(0)
	list, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range list {
		if st, err := os.Stat(f); err == nil {
			size += st.Size()
		}
	}
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReaderSize(c, 1<<20)
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
	do("SELECT Big")
	for _, indexed := range []bool{true, false} {
		w.srv.Index = nil
		name := "scan"
		if indexed {
			w.srv.Index, name = ix, "index"
		}
		for _, key := range []string{"TEXT common", "TEXT word01234", "TEXT rare17", "TEXT absent", `BODY "common word"`, "SUBJECT number"} {
			b.Run(name+"/"+strings.ReplaceAll(key, " ", "_"), func(b *testing.B) {
				b.ReportMetric(rate, "indexed/s")
				b.ReportMetric(float64(size)/count, "octets/message")
				for range b.N {
					do("SEARCH " + key)
				}
			})
		}
	}
}

// benchMail is a message of some 600 words out of 20,000, those at the front more often.
func benchMail(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Received: from mx%d.example.net (mx.example.net [192.0.2.%d]) by mail.example.test with ESMTPS id %016x; Fri, 21 Nov 1997 09:55:06 -0600\r\n", n%7, n%250, r.Uint64())
	fmt.Fprintf(&b, "From: Sender %d <s%d@x.example>\r\nTo: b@x.example\r\nSubject: a number %d\r\nMessage-ID: <%016x@x.example>\r\nDate: Fri, 21 Nov 1997 09:55:06 -0600\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", n%500, n%500, n, r.Uint64())
	fmt.Fprintf(&b, "common rare%d\r\n", n%1000)
	for i := range 600 {
		f := r.Float64()
		fmt.Fprintf(&b, "word%05d", int(f*f*f*20000))
		if i%10 == 9 {
			b.WriteString("\r\n")
		} else {
			b.WriteByte(' ')
		}
	}
	return b.Bytes()
}
