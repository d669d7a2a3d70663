package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"mailplusd/mail/model"
)

// fill gives account 1 n messages and a settings row that says so.
func fill(t testing.TB, s *State, n int) {
	t.Helper()
	for i := range n {
		deliver(t, s, byte(i+1), 1)
	}
	if err := s.ChangeSettings(context.Background(), func(m *model.Settings) error { return m.Set("delivery.max-hops", fmt.Sprint(n)) }); err != nil {
		t.Fatal(err)
	}
}

func TestRestoreReplacesEverything(t *testing.T) {
	s, _ := open(t)
	other, _ := open(t)
	fill(t, other, 3)
	dir := filepath.Join(t.TempDir(), "cp")
	if err := other.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 9)
	if s.Current().Delivery.MaxHops != 9 {
		t.Fatal("not set up")
	}
	inbox, _ := s.MailboxID(1, "INBOX")
	watches := []*Watch{s.Watch(inbox), s.WatchAccount(5), s.WatchTopic(TopicRows), s.WatchTopic(TopicQueue)}
	before, gen := s.Applied(), s.Generation()
	if err := s.Restore(dir); err != nil {
		t.Fatal(err)
	}
	if s.Applied() != other.Applied() || s.Applied() >= before {
		t.Errorf("applied %d, the checkpoint's is %d", s.Applied(), other.Applied())
	}
	if s.Generation() == gen {
		t.Error("generation stands still")
	}
	if m, err := s.Mailbox(inbox); err != nil || m.Messages != 3 {
		t.Errorf("mailbox from the old state: %+v %v", m, err)
	}
	if got := s.Current().Delivery.MaxHops; got != 3 {
		t.Errorf("settings from the old state: %d", got)
	}
	for i, w := range watches {
		select {
		case <-w.C():
		default:
			t.Errorf("watch %d sleeps", i)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST-000001")); err != nil && len(mustList(t, dir)) == 0 {
		t.Error("the checkpoint was emptied")
	}
	// The log goes on behind the checkpoint, and a restart finds the restored state.
	d := &direct{s: s, index: s.Applied()}
	s.SetProposer(d)
	if p := deliver(t, s, 77, 1); p.Local[0].UID != 4 {
		t.Errorf("next UID is %d", p.Local[0].UID)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Options{Dir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Applied() != d.index {
		t.Errorf("after restart applied is %d, not %d", again.Applied(), d.index)
	}
	for _, name := range mustList(t, s.dir) {
		if name != activeFile && name != "gen-1" {
			t.Errorf("left behind: %s", name)
		}
	}
}

func mustList(t *testing.T, dir string) (names []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestRestoreUnderReaders(t *testing.T) {
	s, d := open(t)
	fill(t, s, 5)
	small := filepath.Join(t.TempDir(), "small")
	if err := s.Checkpoint(small); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 7)
	big := filepath.Join(t.TempDir(), "big")
	if err := s.Checkpoint(big); err != nil {
		t.Fatal(err)
	}
	inbox, _ := s.MailboxID(1, "INBOX")
	var stop atomic.Bool
	var wg sync.WaitGroup
	var reads atomic.Int64
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !stop.Load() {
				n := 0
				m, err := s.View(inbox, 1, 1<<32-1, func(*model.MessageState) bool {
					if n++; i == 0 {
						if _, err := s.Message(inbox, 1); err != nil { // a read inside a read
							t.Error(err)
						}
					}
					return true
				})
				if err != nil || int(m.Messages) != n {
					t.Errorf("%d messages, the mailbox says %d: %v", n, m.Messages, err)
				}
				s.Current()
				if _, err := s.Changes(inbox, 2); err != nil {
					t.Error(err)
				}
				if err := s.Try(func(tx *Tx) error { _, err := Users.List(tx, ""); return err }); err != nil {
					t.Error(err)
				}
				reads.Add(1)
			}
		}()
	}
	for i := range 12 {
		seen := reads.Load()
		for reads.Load() < seen+8 && !t.Failed() { // readers are between and inside their reads
			if _, err := s.Counter("x"); err != nil {
				t.Fatal(err)
			}
		}
		dir := []string{small, big}[i%2]
		if err := s.Restore(dir); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	d.index = s.Applied()
	deliver(t, s, 99, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mailbox(inbox); err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.MailboxID(1, "INBOX"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := s.Try(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRestoreCutShort stops Restore at each of its durable steps: the state is the old one
// or the new one, and with the old one the checkpoint is whole.
func TestRestoreCutShort(t *testing.T) {
	for _, step := range []string{"half adopted", "adopted", "pointer written", "switched"} {
		t.Run(step, func(t *testing.T) {
			s, _ := open(t)
			fill(t, s, 2)
			cp := filepath.Join(t.TempDir(), "cp")
			if err := s.Checkpoint(cp); err != nil {
				t.Fatal(err)
			}
			fill(t, s, 4)
			dir := s.dir
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			want := 6
			gen := filepath.Join(dir, "gen-1")
			switch step {
			case "half adopted":
				if err := os.MkdirAll(gen, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(gen, "000001.sst"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			default:
				if err := adopt(cp, gen); err != nil {
					t.Fatal(err)
				}
			}
			if step == "pointer written" {
				if err := os.WriteFile(filepath.Join(dir, activeFile+".tmp"), []byte("gen-1\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if step == "switched" {
				want = 2
				if err := (&State{dir: dir}).setActive("gen-1"); err != nil {
					t.Fatal(err)
				}
			}
			again, err := Open(Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			inbox, _ := again.MailboxID(1, "INBOX")
			m, err := again.Mailbox(inbox)
			if err != nil || int(m.Messages) != want {
				t.Fatalf("%d messages, want %d: %v", m.Messages, want, err)
			}
			if want != 2 { // and once more, to the end
				if err := again.Restore(cp); err != nil {
					t.Fatal(err)
				}
				if m, err := again.Mailbox(inbox); err != nil || m.Messages != 2 {
					t.Fatalf("%+v %v", m, err)
				}
			}
		})
	}
}

func TestRestoreRefusesWhatIsNoState(t *testing.T) {
	s, _ := open(t)
	fill(t, s, 2)
	if err := s.Restore(t.TempDir()); err == nil {
		t.Fatal("took over an empty directory")
	}
	if err := s.Restore(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Fatal("took over nothing")
	}
	if inbox, err := s.MailboxID(1, "INBOX"); err != nil || inbox == 0 {
		t.Fatal("the old state is gone")
	}
	deliver(t, s, 9, 1)
}

func BenchmarkReadMessage(b *testing.B) {
	s, _ := open(b)
	fill(b, s, 9)
	inbox, _ := s.MailboxID(1, "INBOX")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Message(inbox, 3); err != nil {
				b.Fatal(err)
			}
		}
	})
}
