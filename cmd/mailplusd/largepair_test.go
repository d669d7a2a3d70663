package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// TestLargePair forms a pair over a large store while mail comes in and readers read, and lets a node
// return that has missed a tenth of it. MAILPLUSD_LARGE_PAIR is the number of messages, such as 100000.
// What it logs is in docs/performance.md.
func TestLargePair(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("MAILPLUSD_LARGE_PAIR"))
	if err != nil || n < 100 {
		t.Skip("MAILPLUSD_LARGE_PAIR is not set")
	}
	l := newLAN(t)
	a, b := l.node("a", 2), l.node("b", 3)
	pprof := []string{}
	if at := os.Getenv("MAILPLUSD_LARGE_PPROF"); at != "" { // of the node that serves
		pprof = append(pprof, "--metrics", at, "--pprof")
	}
	a.run(pprof...)
	b.run()
	a.setUp()
	began := time.Now()
	l.fill(a.ip, n)
	t.Logf("%d messages of 4 KB stored in %s", n, time.Since(began).Round(time.Second))

	load := l.largeLoad(a.ip)
	time.Sleep(5 * time.Second) // of load alone, to compare with
	t.Logf("alone:         %s", load.figures())
	began = time.Now()
	a.create(b)
	t.Logf("ha create took %s", time.Since(began).Round(100*time.Millisecond))
	load.synced(a)
	t.Logf("forming:       %s; in sync after %s", load.figures(), time.Since(began).Round(100*time.Millisecond))
	time.Sleep(5 * time.Second)
	t.Logf("as a pair:     %s", load.figures())
	load.same(a, b)

	b.kill()
	a.is("solo-primary")
	load.figures()
	missed := n / 10
	l.fill(a.ip, missed)
	t.Logf("without b:     %s; %d messages stored", load.figures(), missed)
	began = time.Now()
	b.run()
	load.synced(a)
	t.Logf("b comes back:  %s; in sync after %s", load.figures(), time.Since(began).Round(100*time.Millisecond))
	load.same(a, b)
	load.stop()
	if os.Getenv("MAILPLUSD_TEST_LOG") != "" {
		t.Logf("%s\n%s", a.log.String(), b.log.String())
	}
	if k := load.refused.Load(); k > 0 {
		t.Errorf("%d messages were refused, %d were accepted; the last answer: %v", k, load.sent.Load(), load.last.Load())
	}
}

// fill stores messages of 4 KB that differ, over 32 connections.
func (l *lan) fill(ip string, n int) {
	l.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			c, err := dialSMTP(ip + ":2525")
			if err != nil {
				l.t.Error(err)
				return
			}
			defer c.c.Close()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				c.c.SetDeadline(time.Now().Add(2 * time.Minute))
				if r, err := c.send("x@y.example", "bob@example.test", large(fmt.Sprint("stored ", i))); err != nil || !strings.HasPrefix(r, "250") {
					l.t.Errorf("message %d: %q %v", i, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if l.t.Failed() {
		l.t.FailNow()
	}
}

// large is a message of 4 KB that no other one is the same as.
func large(subject string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: %s\r\nMessage-ID: <%d@y.example>\r\n\r\n", subject, rand.Uint64())
	for b.Len() < 4096-80 {
		fmt.Fprintf(&b, "%016x%016x%016x%016x\r\n", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64())
	}
	return b.String()
}

// largeLoad is 50 messages a second to alice, and four readers of bob's mail.
type largeLoad struct {
	l       *lan
	quit    chan struct{}
	wg      sync.WaitGroup
	sent    atomic.Int64
	refused atomic.Int64
	last    atomic.Value
	mu      sync.Mutex
	writes  []time.Duration
	reads   []time.Duration
}

func (l *lan) largeLoad(ip string) *largeLoad {
	w := &largeLoad{l: l, quit: make(chan struct{})}
	work := make(chan struct{}, 1000)
	w.wg.Go(func() {
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		defer close(work)
		for {
			select {
			case <-w.quit:
				return
			case <-t.C:
				work <- struct{}{}
			}
		}
	})
	for range 16 {
		w.wg.Go(func() {
			for range work {
				w.write(ip)
			}
		})
	}
	for range 4 {
		w.wg.Go(func() { w.read(ip) })
	}
	l.t.Cleanup(w.stop)
	return w
}

func (w *largeLoad) write(ip string) {
	began := time.Now()
	c, err := dialSMTP(ip + ":2525")
	answer := ""
	if err == nil {
		answer, err = c.send("x@y.example", "alice@example.test", large("load"))
		c.c.Close()
	}
	if err != nil || !strings.HasPrefix(answer, "250") {
		w.refused.Add(1)
		w.last.Store(fmt.Sprint(answer, err))
		return
	}
	w.sent.Add(1)
	w.mu.Lock()
	w.writes = append(w.writes, time.Since(began))
	w.mu.Unlock()
}

// read fetches messages at random, one each 20 ms.
func (w *largeLoad) read(ip string) {
	c, err := imapclient.DialInsecure(ip+":2143", nil)
	if err != nil {
		w.l.t.Error(err)
		return
	}
	defer c.Close()
	if err := c.Login("bob", devPassword).Wait(); err != nil {
		w.l.t.Error(err)
		return
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages == 0 {
		w.l.t.Error(box, err)
		return
	}
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-t.C:
		}
		began := time.Now()
		set := imap.SeqSetNum(1 + rand.Uint32N(box.NumMessages))
		got, err := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
		if err != nil || len(got) != 1 {
			w.l.t.Errorf("a reader: %d messages, %v", len(got), err)
			return
		}
		w.mu.Lock()
		w.reads = append(w.reads, time.Since(began))
		w.mu.Unlock()
	}
}

// figures tells what clients saw since it was asked last.
func (w *largeLoad) figures() string {
	w.mu.Lock()
	writes, reads := w.writes, w.reads
	w.writes, w.reads = nil, nil
	w.mu.Unlock()
	text := func(d []time.Duration) string {
		if len(d) == 0 {
			return "none"
		}
		slices.Sort(d)
		at := func(p int) time.Duration { return d[min(len(d)-1, len(d)*p/100)].Round(100 * time.Microsecond) }
		return fmt.Sprintf("%d, median %s, p99 %s, worst %s", len(d), at(50), at(99), d[len(d)-1].Round(time.Millisecond))
	}
	return "writes " + text(writes) + "; reads " + text(reads) + fmt.Sprintf("; refused %d", w.refused.Load())
}

// synced waits until both nodes have everything.
func (w *largeLoad) synced(n *twin) {
	w.l.t.Helper()
	for end := time.Now().Add(20 * time.Minute); ; {
		if _, _, code := n.mpctl("ha", "wait", "--for", "sync", "--timeout", "20"); code == 0 {
			return
		}
		if time.Now().After(end) {
			w.l.t.Fatalf("never in sync\n%s", tail(n.log.String()))
		}
	}
}

// same compares what bob sees on both nodes.
func (w *largeLoad) same(a, b *twin) {
	w.l.t.Helper()
	if x, y := a.inbox("bob"), b.inbox("bob"); x != y {
		w.l.t.Errorf("bob sees %d messages at a and %d at b", x, y)
	}
}

func (w *largeLoad) stop() {
	select {
	case <-w.quit:
	default:
		close(w.quit)
	}
	w.wg.Wait()
}
