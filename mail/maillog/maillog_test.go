package maillog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t testing.TB, max int64) *Log {
	t.Helper()
	l, err := Open(Options{Path: filepath.Join(t.TempDir(), "log.db"), MaxRows: max})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestQuery(t *testing.T) {
	// covers: R10.60 R10.63
	l := open(t, 0)
	base := time.Unix(1_700_000_000, 0)
	for i := range 50 {
		e := Event{Time: base.Add(time.Duration(i) * time.Minute), Type: Received, Status: Received, Sender: fmt.Sprintf("s%d@a.test", i%5), Recipient: "r@b.test", Subject: "100%_sure", MessageID: fmt.Sprintf("<%d@a>", i)}
		if i%10 == 0 {
			e.Type, e.Status = Rejected, ""
		}
		l.Emit(e)
	}
	for _, c := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 45}, {Filter{All: true}, 50}, {Filter{Type: Rejected}, 5}, {Filter{Sender: "S1@"}, 10}, {Filter{MessageID: "<17@a>"}, 1},
		{Filter{Subject: "0%_s"}, 45}, {Filter{Subject: "0x_s"}, 0}, {Filter{Any: "s2@a"}, 10}, {Filter{Since: base.Add(40 * time.Minute)}, 9},
		{Filter{Until: base.Add(10 * time.Minute)}, 9}, {Filter{Status: Sent}, 0}, {Filter{Limit: 3}, 3},
	} {
		got, err := l.Query(context.Background(), c.f)
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %d %v, want %d", c.f, len(got), err, c.want)
		}
	}
}

func TestRing(t *testing.T) {
	l := open(t, 1000)
	for i := range 3500 {
		l.Emit(Event{Type: Sent, Status: Sent, Subject: fmt.Sprint(i)})
		if i%500 == 0 {
			l.Sync()
		}
	}
	got, err := l.Query(context.Background(), Filter{Limit: 10000})
	if err != nil || len(got) > 2000 || got[0].Subject != "3499" {
		t.Errorf("%d rows, newest %q, %v", len(got), got[0].Subject, err)
	}
}

func TestFollow(t *testing.T) {
	l := open(t, 0)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan Event)
	go l.Follow(ctx, Filter{Sender: "x@"}, func(e Event) error { got <- e; return nil })
	for {
		l.mu.Lock()
		n := len(l.follow)
		l.mu.Unlock()
		if n == 1 {
			break
		}
	}
	l.Emit(Event{Type: Sent, Status: Sent, Sender: "y@a"})
	l.Emit(Event{Type: Sent, Status: Sent, Sender: "x@a"})
	if e := <-got; e.Sender != "x@a" {
		t.Errorf("%+v", e)
	}
	cancel()
}

func TestOtherFiles(t *testing.T) {
	// covers: R10.93
	l := open(t, 0)
	l.Emit(Event{Type: Sent, Status: Sent})
	l.Close()
	o, err := OpenFile(l.o.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := o.Query(context.Background(), Filter{}); err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
	o.Close()
	bad := filepath.Join(t.TempDir(), "bad.db")
	os.WriteFile(bad, []byte("not a database at all, but long enough to look at"), 0o600)
	if _, err := OpenFile(bad); err == nil {
		t.Error("a text file was opened as a log")
	}
}

func BenchmarkEmit(b *testing.B) {
	l := open(b, 0)
	for b.Loop() {
		l.Emit(Event{Type: Received, Status: Received, Sender: "a@b.test", Recipient: "c@d.test", Subject: "hello", MessageID: "<x@y>"})
	}
	l.Sync()
}
