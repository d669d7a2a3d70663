package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// split is one mail system that was cut in two: a goes on, b is forced (unless a test says
// otherwise). fork is the last entry in common.
type split struct {
	t     testing.TB
	a, b  *side
	fork  uint64
	later time.Duration // how long after all that the two meet
}

// side is a state with its log.
type side struct {
	*State
	log *direct
}

// splitTime is the clock of all sides, so that two ways to one state can be compared.
var splitTime = time.Unix(1_800_000_000, 0)

func newSide(t testing.TB, node uint16, log []LogEntry) *side {
	t.Helper()
	s, err := Open(Options{Dir: t.TempDir(), Node: node, Cache: 1 << 20, fs: vfs.NewMem(), Now: func() time.Time { return splitTime }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Apply(log); err != nil {
		t.Fatal(err)
	}
	d := &direct{s: s, index: s.Applied(), log: slices.Clone(log)}
	s.SetProposer(d)
	return &side{s, d}
}

// cut runs before in common and parts the sides.
func cut(t testing.TB, forced bool, before func(testing.TB, *side)) *split {
	t.Helper()
	p := newSide(t, 0, nil)
	mustDo(t, p.State, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair, SettingsOwner: "a"})
	before(t, p)
	x := &split{t: t, fork: p.Applied(), a: newSide(t, 0, p.log.log), b: newSide(t, 1, p.log.log)}
	x.a.seq.Add(1 << 40) // nodes never share operation IDs
	mustDo(t, x.a.State, EpochStart{Epoch: 2, Owner: "a", Node: 0, Phase: PhaseSolo, Index: x.fork})
	mustDo(t, x.b.State, EpochStart{Epoch: 2, Owner: "b", Node: 1, Forced: forced, Phase: PhaseSolo, Index: x.fork})
	return x
}

// into proposes merges to w; after stop of them it breaks off (0: never).
func into(w *side, stop int) Propose {
	n := 0
	return func(ctx context.Context, m *Merge) (Merged, error) {
		if n++; stop > 0 && n > stop {
			return Merged{}, errCut
		}
		raw, err := Marshal(m) // as it travels
		if err != nil {
			return Merged{}, err
		}
		in := new(Merge)
		if err := Unmarshal(raw, in); err != nil {
			return Merged{}, err
		}
		var out Merged
		err = w.Do(ctx, []Operation{*in}, &out)
		return out, err
	}
}

var errCut = errors.New("the connection broke")

// merge brings loser into winner and checks that a second time changes nothing.
func (x *split) merge(loser, winner *side) *MergeReport {
	x.t.Helper()
	ctx := context.Background()
	name, node := "a", uint16(0)
	if loser == x.b {
		name, node = "b", 1
	}
	r, err := loser.NewReplay(name, node, x.fork)
	if err != nil {
		x.t.Fatal(err)
	}
	defer r.Close()
	count, digest, err := r.Run(ctx, into(winner, 0))
	if err != nil {
		x.t.Fatal(err)
	}
	once := x.digest(winner)
	if n, again, err := r.Run(ctx, into(winner, 0)); err != nil || n != count || string(again) != string(digest) {
		x.t.Fatalf("second run: %d items instead of %d: %v", n, count, err)
	}
	if x.digest(winner) != once {
		x.t.Error("merging twice is not merging once")
	}
	mustDo(x.t, winner.State, MergeDone{Branch: r.Branch(), Count: count, Digest: digest})
	rep, err := winner.MergeReportShow(r.Branch().String())
	if err != nil || rep.Done == 0 || rep.Changes != count {
		x.t.Fatalf("%+v %v", rep, err)
	}
	done := x.digest(winner)
	if _, _, err := r.Run(ctx, into(winner, 0)); err != nil || x.digest(winner) != done {
		x.t.Errorf("a finished branch was merged again: %v", err)
	}
	return rep
}

func (x *split) digest(s *side) [32]byte {
	x.t.Helper()
	d, err := s.Digest(context.Background())
	if err != nil {
		x.t.Fatal(err)
	}
	return d.Sum
}

// both merges a into b, and b into a, on copies, and calls check with each result.
func (x *split) both(check func(t testing.TB, merged *side, rep *MergeReport)) {
	x.t.Helper()
	for _, d := range []struct{ loser, winner *side }{{x.a, x.b}, {x.b, x.a}} {
		w := newSide(x.t, 0, d.winner.log.log)
		w.seq.Add(1 << 41)
		w.now = func() time.Time { return splitTime.Add(x.later) }
		check(x.t, w, x.merge(d.loser, w))
		x.accounts(w)
	}
}

// accounts compares the counters of mailboxes and the references of bodies with the messages.
func (x *split) accounts(s *side) {
	x.t.Helper()
	refs := map[model.BodyID]uint64{}
	for account := model.AccountID(1); account <= 3; account++ {
		list, err := s.Mailboxes(account)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, m := range list {
			var n, unseen, deleted uint32
			var size int64
			row, err := s.View(m.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
				n++
				size += st.Size
				if st.Flags&model.FlagSeen == 0 {
					unseen++
				}
				if st.Flags&model.FlagDeleted != 0 {
					deleted++
				}
				refs[st.Body]++
				if st.UID >= m.UIDNext || st.ModSeq > m.HighestModSeq {
					x.t.Errorf("%s: message %d/%d above %d/%d", m.Name, st.UID, st.ModSeq, m.UIDNext, m.HighestModSeq)
				}
				return true
			})
			if err != nil || row.Messages != n || row.Unseen != unseen || row.Deleted != deleted || row.Size != size {
				x.t.Errorf("%s: counters %d/%d/%d/%d, messages %d/%d/%d/%d: %v", m.Name, row.Messages, row.Unseen, row.Deleted, row.Size, n, unseen, deleted, size, err)
			}
		}
	}
	x.accountsKept(s, refs)
	err := s.QueueScan(0, func(q *model.QueueMessage, _ []model.QueueRcpt) bool { refs[q.Body]++; return true })
	if err != nil {
		x.t.Fatal(err)
	}
	err = s.Bodies(func(b model.BodyID, n uint64) bool {
		if refs[b] != n {
			x.t.Errorf("body %x has %d references, counted are %d", b[:2], refs[b], n)
		}
		delete(refs, b)
		return true
	})
	if err != nil || len(refs) > 0 {
		x.t.Errorf("%d bodies without references: %v", len(refs), err)
	}
}

// accountsKept does the same with what can be given back.
func (x *split) accountsKept(s *side, refs map[model.BodyID]uint64) {
	x.t.Helper()
	for account := model.AccountID(1); account <= 3; account++ {
		list, err := s.Mailboxes(account)
		if err != nil {
			x.t.Fatal(err)
		}
		gone, err := s.GoneMailboxes(account)
		if err != nil {
			x.t.Fatal(err)
		}
		hidden := map[model.MailboxID]bool{}
		for _, g := range gone {
			hidden[g.Row.ID] = true
			list = append(list, g.Row)
		}
		for _, m := range list {
			var n uint32
			var size int64
			if err := s.Kept(m.ID, func(k *KeptMessage) bool {
				refs[k.State.Body]++
				n++
				size += k.State.Size
				return true
			}); err != nil {
				x.t.Fatal(err)
			}
			want, wantSize := m.Kept, m.KeptSize
			if hidden[m.ID] {
				want, wantSize = want+m.Messages, wantSize+m.Size
			}
			if n != want || size != wantSize {
				x.t.Errorf("%s: %d messages of %d octets are kept, counted are %d of %d", m.Name, n, size, want, wantSize)
			}
		}
	}
}

// shows gives a mailbox as text: body and flags of each message, by UID.
func shows(t testing.TB, s *side, name string) string {
	t.Helper()
	id, err := s.MailboxID(1, name)
	if err != nil {
		t.Fatal(err)
	}
	if id == 0 {
		return "none"
	}
	var list []string
	if _, err := s.View(id, 1, 1<<32-1, func(st *model.MessageState) bool {
		list = append(list, fmt.Sprintf("%d:%d", st.Body[0], st.Flags))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return fmt.Sprint(list)
}

func (s *side) inbox(t testing.TB) model.MailboxID {
	t.Helper()
	id, err := s.MailboxID(1, "INBOX")
	if err != nil || id == 0 {
		t.Fatal("no INBOX", err)
	}
	return id
}

func flagOp(id model.MailboxID, uid model.UID, f model.Flags) SetFlags {
	return SetFlags{Mailbox: id, UIDs: []model.UID{uid}, Mode: FlagsAdd, Flags: f}
}

func want(t testing.TB, s *side, name, wanted string) {
	t.Helper()
	if got := shows(t, s, name); got != wanted {
		t.Errorf("%s has %s, want %s", name, got, wanted)
	}
}

func one(t testing.TB, s *side) { deliver(t, s.State, 1, 1) }

func three(t testing.TB, s *side) {
	for n := range byte(3) {
		deliver(t, s.State, n+1, 1)
	}
}

func TestSplitBothAppendSameUID(t *testing.T) {
	// covers: R11.16
	for _, forced := range []bool{true, false} { // without skip-ahead both give UID 2
		x := cut(t, forced, one)
		pa, pb := deliver(t, x.a.State, 10, 1).Local[0], deliver(t, x.b.State, 20, 1).Local[0]
		if forced == (pa.UID == pb.UID) {
			t.Fatalf("UIDs %d and %d", pa.UID, pb.UID)
		}
		x.both(func(t testing.TB, w *side, rep *MergeReport) {
			want(t, w, "INBOX", "[10:0 1:0 20:0]")
			m, _ := w.Mailbox(w.inbox(t))
			if m.UIDValidity != pa.UIDValidity || m.UIDNext <= max(pa.UID, pb.UID) || m.HighestModSeq < max(pa.ModSeq, pb.ModSeq) {
				t.Errorf("%+v", m)
			}
			// What was given on the other side's numbers is not under its old UID: who knows
			// only that side is told.
			if st, err := w.Message(m.ID, pa.UID); err == nil && st.Body[0] != 10 {
				t.Errorf("UID %d names another message", pa.UID)
			}
			st, err := w.Message(m.ID, pb.UID)
			if forced && (err != nil || st.Body[0] != 20) {
				t.Errorf("the forced side's message lost its UID")
			}
			if !forced && err == nil {
				t.Errorf("UID %d was given twice and is still in use", pb.UID)
			}
			for _, since := range []uint64{pa.ModSeq, pb.ModSeq} {
				c, err := w.Changes(m.ID, since)
				if err != nil || len(c.Changed) == 0 {
					t.Errorf("a client that knows mod-sequence %d is told nothing", since)
				}
			}
		})
	}
}

func TestSplitMasterExpunge(t *testing.T) {
	x := cut(t, true, three)
	mustDo(t, x.a.State, Expunge{Mailbox: x.a.inbox(t), UIDs: []model.UID{2}})
	x.both(func(t testing.TB, w *side, _ *MergeReport) { want(t, w, "INBOX", "[1:0 3:0]") })
}

func TestSplitReplicaExpunge(t *testing.T) {
	x := cut(t, true, three)
	mustDo(t, x.b.State, Expunge{Mailbox: x.b.inbox(t), UIDs: []model.UID{2}})
	deliver(t, x.a.State, 10, 1)
	x.both(func(t testing.TB, w *side, _ *MergeReport) { want(t, w, "INBOX", "[10:0 1:0 3:0]") })
}

func TestSplitBothExpunge(t *testing.T) {
	x := cut(t, true, three)
	mustDo(t, x.a.State, Expunge{Mailbox: x.a.inbox(t), UIDs: []model.UID{1, 2}})
	mustDo(t, x.b.State, Expunge{Mailbox: x.b.inbox(t), UIDs: []model.UID{2, 3}})
	x.both(func(t testing.TB, w *side, _ *MergeReport) { want(t, w, "INBOX", "[]") })
}

func TestSplitExpungeAgainstFlags(t *testing.T) {
	x := cut(t, true, three)
	x.later = time.Hour
	mustDo(t, x.a.State, Expunge{Mailbox: x.a.inbox(t), UIDs: []model.UID{1, 2}})
	mustDo(t, x.b.State, flagOp(x.b.inbox(t), 1, model.FlagFlagged), flagOp(x.b.inbox(t), 2, model.FlagDeleted))
	x.both(func(t testing.TB, w *side, rep *MergeReport) {
		want(t, w, "INBOX", "[3:0]")
		want(t, w, RecoveredMailbox, fmt.Sprintf("[1:%d]", model.FlagFlagged))
		if rep.Counts.Recovered != 1 || len(rep.Lines) == 0 {
			t.Errorf("%+v", rep)
		}
		// It counts from the merge until it is removed, not from when it came in.
		id, _ := w.MailboxID(1, RecoveredMailbox)
		if _, err := w.View(id, 1, ^model.UID(0), func(m *model.MessageState) bool {
			if m.SaveDate != splitTime.Add(time.Hour).Unix() {
				t.Errorf("recovered at %v", time.Unix(m.SaveDate, 0).UTC())
			}
			return true
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestSplitExpungeAgainstMove(t *testing.T) {
	x := cut(t, true, three)
	trash, _ := x.b.MailboxID(1, "Trash")
	mustDo(t, x.a.State, Expunge{Mailbox: x.a.inbox(t), UIDs: []model.UID{1}})
	mustDo(t, x.b.State, Copy{From: x.b.inbox(t), To: trash, UIDs: []model.UID{1, 2}, Move: true})
	mustDo(t, x.a.State, flagOp(x.a.inbox(t), 2, model.FlagAnswered))
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		want(t, w, "INBOX", "[3:0]")
		want(t, w, "Trash", fmt.Sprintf("[1:0 2:%d]", model.FlagAnswered))
		want(t, w, RecoveredMailbox, "none")
	})
}

func TestSplitBothMove(t *testing.T) {
	x := cut(t, true, three)
	for _, s := range []*side{x.a, x.b} {
		junk, _ := s.MailboxID(1, "Junk")
		mustDo(t, s.State, Copy{From: s.inbox(t), To: junk, UIDs: []model.UID{1}, Move: true})
	}
	sent, _ := x.a.MailboxID(1, "Sent")
	trash, _ := x.b.MailboxID(1, "Trash")
	mustDo(t, x.a.State, Copy{From: x.a.inbox(t), To: sent, UIDs: []model.UID{2}, Move: true})
	mustDo(t, x.b.State, Copy{From: x.b.inbox(t), To: trash, UIDs: []model.UID{2}, Move: true})
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		want(t, w, "INBOX", "[3:0]")
		want(t, w, "Junk", "[1:0]")
		want(t, w, "Sent", "[2:0]")
		want(t, w, "Trash", "[2:0]")
	})
}

func TestSplitFlags(t *testing.T) {
	x := cut(t, true, func(t testing.TB, s *side) {
		three(t, s)
		mustDo(t, s.State, flagOp(s.inbox(t), 1, model.FlagFlagged))
	})
	mustDo(t, x.a.State, flagOp(x.a.inbox(t), 1, model.FlagSeen), flagOp(x.a.inbox(t), 2, model.FlagSeen))
	mustDo(t, x.b.State,
		SetFlags{Mailbox: x.b.inbox(t), UIDs: []model.UID{1}, Mode: FlagsSet, Flags: model.FlagAnswered, Keywords: []string{"work"}},
		flagOp(x.b.inbox(t), 2, model.FlagDraft),
		SetFlags{Mailbox: x.b.inbox(t), UIDs: []model.UID{2}, Mode: FlagsRemove, Flags: model.FlagDraft}) // as it was
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		want(t, w, "INBOX", fmt.Sprintf("[1:%d 2:%d 3:0]", model.FlagSeen|model.FlagAnswered, model.FlagSeen))
		m, _ := w.Mailbox(w.inbox(t))
		st, err := w.Message(m.ID, 1)
		if err != nil || len(st.Keywords) != 1 || m.Keywords[st.Keywords[0]] != "work" {
			t.Errorf("%+v %v %v", st, m.Keywords, err)
		}
	})
}

func TestSplitSameMessageOnBothSides(t *testing.T) {
	x := cut(t, true, one)
	same := make([]byte, 16)
	same[0] = 7
	for i, s := range []*side{x.a, x.b} { // the sender repeated it: other trace headers, another body
		mustDo(t, s.State, Deliver{Body: body(byte(10 + i)), Size: 1, Same: same, Local: []DeliverTo{{Account: 1}}})
	}
	mustDo(t, x.b.State, flagOp(x.b.inbox(t), 1, model.FlagSeen))
	x.both(func(t testing.TB, w *side, rep *MergeReport) {
		m, _ := w.Mailbox(w.inbox(t))
		if m.Messages != 2 || rep.Counts.Same != 1 {
			t.Errorf("%d messages, %+v", m.Messages, rep.Counts)
		}
	})
}

func TestSplitMailboxOnOneSide(t *testing.T) {
	x := cut(t, true, one)
	var made MailboxCreated
	if err := x.b.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "New/Sub"}}, &made); err != nil {
		t.Fatal(err)
	}
	mustDo(t, x.b.State, Append{Mailbox: made.Mailbox.ID, Items: []AppendItem{{Body: body(30), Size: 3}}})
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		want(t, w, "New", "[]")
		want(t, w, "New/Sub", "[30:0]")
		m, err := w.Mailbox(made.Mailbox.ID)
		if err != nil || m.GUID != made.Mailbox.GUID || m.UIDValidity != made.Mailbox.UIDValidity {
			t.Errorf("clients of the other side don't know it: %+v %v", m, err)
		}
		if _, err := w.Message(m.ID, 1); err != nil {
			t.Errorf("UID 1: %v", err)
		}
	})
}

func TestSplitDifferentMailboxGUID(t *testing.T) {
	x := cut(t, true, one)
	for i, s := range []*side{x.a, x.b} {
		var made MailboxCreated
		if err := s.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "Work"}}, &made); err != nil {
			t.Fatal(err)
		}
		mustDo(t, s.State, Append{Mailbox: made.Mailbox.ID, Items: []AppendItem{{Body: body(byte(40 + i)), Size: 3}}})
		deliver(t, s.State, byte(50+i), 2) // and an account whose first mail comes on both sides
	}
	x.both(func(t testing.TB, w *side, rep *MergeReport) {
		want(t, w, "Work", "[40:0 41:0]")
		list, err := w.Mailboxes(2)
		if err != nil || len(list) != len(model.DefaultMailboxes) || list[slices.IndexFunc(list, func(m model.Mailbox) bool { return m.Use == model.UseInbox })].Messages != 2 {
			t.Errorf("%+v %v", list, err)
		}
		if rep.Counts.Conflicts < 1 {
			t.Errorf("not reported: %+v", rep)
		}
	})
}

func TestSplitMailboxDeletedAgainstNewMail(t *testing.T) {
	x := cut(t, true, func(t testing.TB, s *side) {
		one(t, s)
		mustDo(t, s.State, MailboxCreate{Account: 1, Name: "Old"})
		id, _ := s.MailboxID(1, "Old")
		mustDo(t, s.State, Append{Mailbox: id, Items: []AppendItem{{Body: body(60), Size: 3}, {Body: body(61), Size: 3}}})
	})
	old, _ := x.a.MailboxID(1, "Old")
	mustDo(t, x.a.State, MailboxDelete{Mailbox: old})
	mustDo(t, x.b.State, Append{Mailbox: old, Items: []AppendItem{{Body: body(62), Size: 3}}}, flagOp(old, 2, model.FlagFlagged))
	x.both(func(t testing.TB, w *side, _ *MergeReport) {
		want(t, w, "Old", "[62:0]")
		want(t, w, RecoveredMailbox, fmt.Sprintf("[61:%d]", model.FlagFlagged))
	})
}

func TestSplitRename(t *testing.T) {
	x := cut(t, true, func(t testing.TB, s *side) {
		one(t, s)
		for _, name := range []string{"P", "P/Q", "R"} {
			mustDo(t, s.State, MailboxCreate{Account: 1, Name: name})
		}
	})
	p, _ := x.a.MailboxID(1, "P")
	r, _ := x.a.MailboxID(1, "R")
	mustDo(t, x.a.State, MailboxRename{Mailbox: p, Name: "P2"}, MailboxRename{Mailbox: r, Name: "Ra"})
	mustDo(t, x.b.State, MailboxRename{Mailbox: r, Name: "Rb"})
	names := map[string]bool{}
	x.both(func(t testing.TB, w *side, rep *MergeReport) {
		want(t, w, "P2/Q", "[]")
		want(t, w, "P", "none")
		m, err := w.Mailbox(r)
		if err != nil || rep.Counts.Conflicts != 1 {
			t.Errorf("%v %+v", err, rep)
		}
		names[m.Name] = true
	})
	if !names["Ra"] || !names["Rb"] {
		t.Errorf("the winner's name holds: %v", names)
	}
}

func nowPlus(seconds int) func() time.Time {
	return func() time.Time { return splitTime.Add(time.Duration(seconds) * time.Second) }
}
