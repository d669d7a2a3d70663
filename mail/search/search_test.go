package search

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// world is a store with an index that runs.
type world struct {
	t       testing.TB
	state   *state.State
	log     *statetest.Log
	bodies  *segment.Store
	store   *store.Store
	ix      *Index
	cfg     Config
	dir     string
	maxOpen int
	stop    func()
	users   []model.AccountID
}

const alice = model.AccountID(7)

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	st, log := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	w := &world{t: t, state: st, log: log, bodies: bodies, store: store.New(st, bodies), cfg: cfg, dir: t.TempDir(), users: []model.AccountID{alice}}
	if err := w.store.EnsureDefaults(context.Background(), alice); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start opens the index as a new process does.
func (w *world) start() {
	w.ix = New(Options{
		Dir: w.dir, MaxOpen: w.maxOpen, Source: w.store, Feed: w.state.Feed, Config: func() Config { return w.cfg },
		Users: func() ([]model.AccountID, error) { return w.users, nil },
	})
	w.ix.gather = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ix.Run(ctx)
	}()
	w.stop = func() { cancel(); <-done }
}

func (w *world) box(name string) model.Mailbox {
	w.t.Helper()
	m, err := w.store.Mailbox(alice, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) add(name string, texts ...string) {
	w.t.Helper()
	var list []store.NewMessage
	for _, text := range texts {
		sp := w.store.NewSpool(0)
		sp.Write([]byte(text))
		list = append(list, store.NewMessage{Spool: sp})
	}
	if _, err := w.store.Append(context.Background(), w.box(name).ID, list); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits until cond is true.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !cond() {
		w.ix.mu.Lock()
		moved := w.ix.moved
		w.ix.mu.Unlock()
		select {
		case <-moved:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			w.t.Fatalf("%s: not within 30 s; %+v", what, w.ix.Status())
		}
	}
}

// settled waits until everything that is in the mailboxes is in the index.
func (w *world) settled() {
	w.t.Helper()
	w.eventually("the index is up to date", func() bool {
		boxes, err := w.store.Mailboxes(alice)
		if err != nil {
			w.t.Fatal(err)
		}
		want := int64(0)
		for _, m := range boxes {
			want += int64(m.Messages)
		}
		list := w.ix.Status()
		return len(list) == 1 && list[0].State == Ready && list[0].Indexed == want && list[0].Messages == want
	})
}

// ask is a key that is compared with a scan.
type ask struct {
	name  string
	field Field
	has   func(w *message.Words, h *message.Header, folded string) bool
}

var asks = []ask{
	{"TEXT", Text, func(w *message.Words, _ *message.Header, s string) bool { return w.AnyHas(s) }},
	{"BODY", Body, func(w *message.Words, _ *message.Header, s string) bool { return w.BodyHas(s) }},
	{"SUBJECT", Subject, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "Subject", s) }},
	{"FROM", From, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "From", s) }},
	{"TO", To, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "To", s) }},
	{"CC", Cc, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "Cc", s) }},
	{"BCC", Bcc, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "Bcc", s) }},
	{"HEADER X-Note", Header, func(_ *message.Words, h *message.Header, s string) bool { return message.FieldHas(h, "X-Note", s) }},
}

// agree compares what the index says about every message of a mailbox with a scan. It gives how
// many answers needed none.
func (w *world) agree(name, needle string, asks ...ask) (sure int) {
	w.t.Helper()
	m, list, err := w.store.Snapshot(w.box(name).ID)
	if err != nil {
		w.t.Fatal(err)
	}
	folded := message.Fold(needle)
	for _, ask := range asks {
		found, ok := w.ix.Find(context.Background(), alice, m.ID, ask.field, needle)
		if !ok {
			continue
		}
		for _, st := range list {
			raw, err := w.ix.readBody(st.Body)
			if err != nil {
				w.t.Fatal(err)
			}
			root := message.Walk(raw, message.DefaultLimits()).Root
			words := root.Words(raw)
			want := ask.has(&words, &root.Header, folded)
			got := found.Of(st.UID)
			if got == Yes && !want || got == No && want {
				w.t.Fatalf("%s %q of message %d: the index says %v, a scan %t\n%s", ask.name, needle, st.UID, got, want, raw)
			}
			if got != Maybe {
				sure++
			}
		}
	}
	return sure
}

func mail(subject, body string) string {
	return fmt.Sprintf("From: Jürgen Müller <jm@example.com>\r\nTo: bob@example.net\r\nSubject: %s\r\nX-Note: noted here\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n", subject, body)
}

// covers: R7.11, R7.12, R7.13, R7.14
func TestFind(t *testing.T) {
	w := newWorld(t, Config{On: true, CJK: true})
	w.add("INBOX", mail("Quarterly report", "The naïve résumé of ACME, Inc.\r\nsecond line"), mail("=?utf-8?b?5pyD6K2w6YCa55+l?=", "明天下午三點開會,請準時。Grüße"), mail("한국어 메일", "오늘은 날씨가 좋습니다 とても楽しい"))
	w.settled()
	m := w.box("INBOX")
	for _, c := range []struct {
		field Field
		text  string
		want  string // an answer for each message: y, n or ?
	}{
		{Text, "resume", "ynn"}, {Text, "RÉSUMÉ", "ynn"}, {Body, "umé", "ynn"}, {Subject, "quarter", "ynn"}, {Body, "quarter", "nnn"},
		{Text, "acme, inc.", "ynn"}, {Text, "acme,", "ynn"}, {Text, "line second", "nnn"}, {Text, "second third", "nnn"}, {Text, "inc. second", "ynn"}, {Text, "me, inc. sec", "ynn"}, {Text, "acme inc.", "nnn"}, {Text, "second line ", "?nn"},
		{Subject, "會議", "nyn"}, {Body, "會議", "nnn"}, {Text, "三點開", "n?n"}, {Text, "會", "nyn"}, {Text, "開會", "nyn"}, {Text, "會開", "nnn"},
		{Text, "grusse", "nyn"}, {Text, "날씨", "nny"}, {Text, "좋습니다", "nn?"}, {Text, "楽しい", "nn?"}, {Text, "楽", "nny"},
		{From, "muller", "yyy"}, {From, "jm@", "yyy"}, {To, "bob@example.net", "yyy"}, {To, "muller", "nnn"}, {Cc, "bob", "nnn"},
		{Header, "noted", "???"}, {Header, "absent", "nnn"}, {Text, "subject: quarterly rep", "ynn"}, {Subject, "subject: quarterly", "nnn"}, {Subject, "quarterly report", "ynn"}, {Body, "quarterly report", "nnn"}, {From, "muller <jm@", "yyy"}, {Header, "noted here", "???"}, {Header, "here noted", "nnn"}, {Text, "subject:", "yyy"}, {Text, "x-note", "yyy"},
	} {
		found, ok := w.ix.Find(context.Background(), alice, m.ID, c.field, c.text)
		if !ok {
			t.Errorf("%d %q: no answer", c.field, c.text)
			continue
		}
		got := ""
		for uid := model.UID(1); uid <= 3; uid++ {
			got += []string{"?", "y", "n"}[found.Of(uid)]
		}
		if got != c.want {
			t.Errorf("%d %q: %s, want %s", c.field, c.text, got, c.want)
		}
	}
	if f, ok := w.ix.Find(context.Background(), alice, m.ID, Text, "  "); ok {
		t.Errorf("nothing but spaces was answered: %v", f)
	}
	if st, err := os.Stat(fileOf(w.dir, alice)); err != nil || st.Size() == 0 {
		t.Errorf("no database: %v", err)
	}
}
