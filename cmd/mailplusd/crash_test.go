package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// ledger remembers what the clients were told.
type ledger struct {
	mu    sync.Mutex
	acked map[string]bool
	sent  map[string]string // id → checksum of the text
}

func (l *ledger) note(id, sum string, acked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[id] = sum
	if acked {
		l.acked[id] = true
	}
}

// TestKill9 kills the daemon under load, 50 times and more. Every message that got its 250
// must be there exactly once, and none may be torn.
func TestKill9(t *testing.T) {
	rounds := 50
	if s := os.Getenv("KILL9_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	if testing.Short() {
		rounds = 5
	}
	d := newDaemon(t)
	l := &ledger{acked: map[string]bool{}, sent: map[string]string{}}
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for round := range rounds {
		d.start()
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				load(d.port(2525), l, fmt.Sprintf("%d.%d", round, w))
			}()
		}
		<-time.After(time.Duration(50+rnd.IntN(250)) * time.Millisecond)
		d.kill()
		wg.Wait()
	}
	d.start()
	check(t, d, l)
	t.Logf("%d rounds, %d sent, %d acknowledged", rounds, len(l.sent), len(l.acked))
}

// load sends until the connection breaks.
func load(addr string, l *ledger, worker string) {
	c, err := dialSMTP(addr)
	if err != nil {
		return
	}
	defer c.c.Close()
	for n := 0; ; n++ {
		id := fmt.Sprintf("%s.%d", worker, n)
		text := strings.Repeat(fmt.Sprintf("line of %s, %d\r\n", id, n), 1+n*37%400)
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
		to := "alice@example.test"
		if n%3 == 1 {
			to = "bob@example.test"
		}
		l.note(id, sum, false)
		r, err := c.send("load@sender.example", to, fmt.Sprintf("Subject: %s\r\nX-Sum: %s\r\n\r\n%s", id, sum, text))
		if err != nil {
			return
		}
		if strings.HasPrefix(r, "250") {
			l.note(id, sum, true)
		}
	}
}

// check compares every mailbox with the ledger.
func check(t *testing.T, d *process, l *ledger) {
	t.Helper()
	found := map[string]int{}
	for _, user := range []string{"alice", "bob"} {
		c, err := imapclient.DialInsecure(d.port(2143), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(user, devPassword).Wait(); err != nil {
			t.Fatal(err)
		}
		box, err := c.Select("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		if box.NumMessages == 0 {
			continue
		}
		set := imap.SeqSet{}
		set.AddRange(1, box.NumMessages)
		section := &imap.FetchItemBodySection{Peek: true}
		cmd := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}})
		for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
			for item := msg.Next(); item != nil; item = msg.Next() {
				if b, ok := item.(imapclient.FetchItemDataBodySection); ok {
					raw, err := io.ReadAll(b.Literal)
					if err != nil {
						t.Fatal(err)
					}
					found[verify(t, string(raw))]++
				}
			}
		}
		if err := cmd.Close(); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	lost, twice := 0, 0
	for id := range l.acked {
		if found[id] == 0 {
			lost++
		}
	}
	for id, n := range found {
		if n > 1 {
			twice++
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if lost > 0 || twice > 0 {
		t.Errorf("%d acknowledged, %d lost, %d twice", len(l.acked), lost, twice)
	}
}

// verify gives a message's ID after comparing its text with its checksum.
func verify(t *testing.T, raw string) string {
	t.Helper()
	header, text, _ := strings.Cut(raw, "\r\n\r\n")
	var id, sum string
	for _, line := range strings.Split(header, "\r\n") {
		if v, ok := strings.CutPrefix(line, "Subject: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, "X-Sum: "); ok {
			sum = v
		}
	}
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text))); got != sum {
		t.Errorf("%s is torn: %d octets of text", id, len(text))
	}
	return id
}
