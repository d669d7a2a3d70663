package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// countFSM has an applied index and remembers what was restored.
type countFSM struct {
	applied  uint64
	restored []string
	err      error
}

func (f *countFSM) Apply([]Entry) ([][]byte, error) { return nil, nil }
func (f *countFSM) Applied() uint64                 { return f.applied }
func (f *countFSM) Flush() error                    { return nil }
func (f *countFSM) Checkpoint(dir string) error     { return os.Mkdir(dir, 0o700) }
func (f *countFSM) Restore(dir string) error {
	if f.err != nil {
		return f.err
	}
	b, err := os.ReadFile(filepath.Join(dir, "file"))
	f.restored = append(f.restored, string(b))
	f.applied = 40
	return err
}

// A crash between the arrival of a state and its take-over is repaired at the next start,
// on either side of the take-over.
func TestInstallAfterCrash(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	receive := func(fsm FSM) *snapStore {
		s, err := openSnapshots(dir, fsm, log)
		if err != nil {
			t.Fatal(err)
		}
		a, err := newArchive(src, 40, 0)
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.Create(raft.SnapshotVersionMax, 30, 2, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.writeTo(k); err != nil {
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	fsm := &countFSM{applied: 5}
	receive(fsm) // and no more: the crash

	s, err := openSnapshots(dir, fsm, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.finishInstall(fsm); err != nil {
		t.Fatal(err)
	}
	if len(fsm.restored) != 1 || fsm.restored[0] != "content" {
		t.Fatalf("restored %q", fsm.restored)
	}
	if m := s.newest(); m.Kind != kindPointer || m.Applied != 40 || m.Raft.Index != 30 {
		t.Errorf("snapshot %+v", m)
	}

	receive(fsm) // the FSM has it already, but that was not noted
	s, err = openSnapshots(dir, fsm, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.finishInstall(fsm); err != nil || len(fsm.restored) != 1 {
		t.Errorf("taken over twice: %q, %v", fsm.restored, err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.state"))
	if len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// A state that replaces one of another history is taken over after a crash although the old
// one reaches further; when the take-over was complete it is only noted.
func TestInstallOfForeignAfterCrash(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, moved := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			dir, src := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(src, "file"), []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			fsm := &countFSM{applied: 500}
			s, err := openSnapshots(dir, fsm, log)
			if err != nil {
				t.Fatal(err)
			}
			s.foreign = func() bool { return true }
			a, err := newArchive(src, 40, 0)
			if err != nil {
				t.Fatal(err)
			}
			k, err := s.Create(raft.SnapshotVersionMax, 30, 2, raft.Configuration{}, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.writeTo(k); err != nil {
				t.Fatal(err)
			}
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			want := 1
			if moved { // and the crash came before that was noted
				if err := os.RemoveAll(s.state(k.ID())); err != nil {
					t.Fatal(err)
				}
				fsm.applied, want = 40, 0
			}
			if s, err = openSnapshots(dir, fsm, log); err != nil {
				t.Fatal(err)
			}
			if err := s.finishInstall(fsm); err != nil {
				t.Fatal(err)
			}
			if len(fsm.restored) != want || fsm.applied != 40 {
				t.Errorf("restored %q, applied %d", fsm.restored, fsm.applied)
			}
			if m := s.newest(); m.Kind != kindPointer || m.Applied != 40 || m.Replaces {
				t.Errorf("snapshot %+v", m)
			}
		})
	}
}

// What a crash leaves in the middle of receiving or sending is removed.
func TestSnapshotLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"send-1", "abc.state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x.json.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSnapshots(dir, &countFSM{}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestSnapshotFileRefusals(t *testing.T) {
	for content, want := range map[string]string{
		`{"format":9,"raft":{"ID":"s"}}`: "has format 9",
		`{"format":1`:                    "is damaged",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "s.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openSnapshots(dir, &countFSM{}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// A cancelled transfer leaves nothing, and a damaged one is not accepted.
func TestSinkCancelAndDamage(t *testing.T) {
	dir := t.TempDir()
	s, err := openSnapshots(dir, &countFSM{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stream := pack(t, map[string][]byte{"f": bytes.Repeat([]byte("x"), 5000)})
	for name, end := range map[string]func(raft.SnapshotSink) error{
		"cancel": raft.SnapshotSink.Cancel,
		"cut": func(k raft.SnapshotSink) error {
			if k.Close() == nil {
				return fmt.Errorf("a cut stream was accepted")
			}
			return nil
		},
	} {
		k, err := s.Create(raft.SnapshotVersionMax, 3, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Write(stream[:3000]); err != nil {
			t.Fatal(err)
		}
		if err := end(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 || s.newest() != nil {
			t.Errorf("%s: left over: %v", name, left)
		}
	}
}

func TestLogIsCompacted(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := openLog(dir, compactAbove, log)
	if err != nil {
		t.Fatal(err)
	}
	s.ok, s.fail = func() error { return nil }, func(err error) error { return err }
	const count = 2000
	var logs []*raft.Log
	for i := uint64(1); i <= count; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Data: make([]byte, 10_000)})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if _, _, octets := s.measure(); octets < count*10_000 || octets > count*11_000 {
		t.Errorf("log measured as %d octets", octets)
	}
	if err := s.DeleteRange(1, count-10); err != nil {
		t.Fatal(err)
	}
	before := s.fileSize()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, logFile+".compact"), []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = openLog(dir, before+1, log); err != nil || s.fileSize() != before {
		t.Fatalf("small log: %v, %d octets", err, s.fileSize())
	}
	s.Close()
	if s, err = openLog(dir, 1<<20, log); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if after := s.fileSize(); after > before/2 { // bbolt takes 16 MiB at least
		t.Errorf("compacted from %d to %d octets", before, after)
	}
	first, last, _ := s.measure()
	if first != count-9 || last != count {
		t.Errorf("entries %d to %d", first, last)
	}
	var l raft.Log
	if err := s.GetLog(count, &l); err != nil || len(l.Data) != 10_000 {
		t.Errorf("last entry: %v", err)
	}
}

// The front of the log is held back by KeepSince and by a state on its way to a peer; a tail
// that has to go is not, also when it is the whole log.
func TestLogBounds(t *testing.T) {
	s, err := openLog(t.TempDir(), compactAbove, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.ok, s.fail = func() error { return nil }, func(err error) error { return err }
	s.limit, s.sent.grace = 1<<20, time.Hour
	for i := uint64(1); i <= 100; i++ {
		if err := s.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(from, to, wantFirst, wantLast uint64) {
		t.Helper()
		if err := s.DeleteRange(from, to); err != nil {
			t.Fatal(err)
		}
		first, err1 := s.FirstIndex()
		last, err2 := s.LastIndex()
		if err1 != nil || err2 != nil || first != wantFirst || last != wantLast {
			t.Errorf("after %d to %d: %d to %d, want %d to %d", from, to, first, last, wantFirst, wantLast)
		}
	}
	s.sent.begin(20)
	cut(1, 50, 20, 100)
	s.sent.end()
	cut(20, 50, 20, 100) // the peer still catches up
	s.limit = 1
	cut(20, 30, 31, 100) // the log takes too much
	s.limit = 1 << 20
	s.sent.until = time.Now().Add(-1)
	cut(31, 40, 41, 100)
	s.keep.Store(60)
	cut(41, 80, 60, 100)
	cut(95, 100, 60, 94)
	cut(60, 94, 0, 0)
}

// The library's lines are written once in a while, with the number of those left out.
func TestRaftLoggerIsLimited(t *testing.T) {
	var out bytes.Buffer
	r := newRaftLogger(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(1000, 0)
	r.seen.now = func() time.Time { return now }
	named := r.Named("x").With("peer", "b")
	for range 100 {
		named.Error("failed to contact", "error", fmt.Errorf("refused"), "server", hclog.Fmt("%+v", 1))
	}
	named.Info("a detail")
	if got := strings.Count(out.String(), "\n"); got != 1 {
		t.Errorf("%d lines:\n%s", got, out.String())
	}
	out.Reset()
	now = now.Add(repeatAfter)
	named.Error("failed to contact")
	if line := out.String(); !strings.Contains(line, "repeated=99") || !strings.Contains(line, "peer=b") || !strings.Contains(line, "raft.x: failed") {
		t.Errorf("line %q", line)
	}
}

func TestEpochOf(t *testing.T) {
	for term, want := range map[uint64]uint64{1: 0, 1<<24 - 1: 0, 1 << 24: 1, 3<<24 | 1<<23: 3} {
		e := Entry{Term: term}
		if e.Epoch() != want {
			t.Errorf("term %#x: epoch %d, want %d", term, e.Epoch(), want)
		}
	}
}
