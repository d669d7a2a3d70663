package view_test

import (
	"context"
	"path/filepath"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/view"
)

// boxes gives a state the name that a view knows a read by.
type boxes struct{ *state.State }

func (b boxes) MailboxByID(id model.MailboxID) (model.Mailbox, error) { return b.Mailbox(id) }

// local applies at once.
type local struct {
	s     *state.State
	index uint64
}

func (l *local) Propose(_ context.Context, data []byte) ([]byte, uint64, error) {
	l.index++
	res, err := l.s.Apply([]state.LogEntry{{Index: l.index, Data: data}})
	if err != nil {
		return nil, 0, err
	}
	return res[0], l.index, nil
}

// TestPollAfterRestore: a session of a node whose whole state is replaced is told what differs,
// or that its mailbox is another one.
func TestPollAfterRestore(t *testing.T) {
	ctx := context.Background()
	s, err := state.Open(state.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log := &local{s: s}
	s.SetProposer(log)
	deliver := func(n byte) model.MailboxID {
		var out state.Delivered
		op := state.Deliver{Body: model.BodyID{n}, Size: 1, Local: []state.DeliverTo{{Account: 1}}}
		if err := s.Do(ctx, []state.Operation{op}, &out); err != nil {
			t.Fatal(err)
		}
		return out.Local[0].Mailbox
	}
	var inbox model.MailboxID
	for n := range byte(3) {
		inbox = deliver(n)
	}
	early := filepath.Join(t.TempDir(), "early")
	if err := s.Checkpoint(early); err != nil {
		t.Fatal(err)
	}
	v, err := new(view.Cache).Open(boxes{s}, model.Mailbox{ID: inbox}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []state.Operation{
		state.Expunge{Mailbox: inbox, UIDs: []model.UID{1}},
		state.SetFlags{Mailbox: inbox, UIDs: []model.UID{2}, Mode: state.FlagsAdd, Flags: model.FlagSeen},
	} {
		if err := s.Do(ctx, []state.Operation{op}); err != nil {
			t.Fatal(err)
		}
	}
	deliver(9)
	late := filepath.Join(t.TempDir(), "late")
	if err := s.Checkpoint(late); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(late); err != nil {
		t.Fatal(err)
	}
	u, err := v.Poll(true)
	if err != nil || u.Gone || len(u.Expunged) != 1 || u.Expunged[0].UID != 1 || !u.Exists || len(u.Changed) != 1 || v.Messages[u.Changed[0].Index].UID != 2 {
		t.Fatalf("%+v %v", u, err)
	}
	if len(v.Messages) != 3 || v.Messages[2].UID != 4 {
		t.Fatalf("%+v", v.Messages)
	}
	// Back to where UID 1 still was: it can't be told, so the mailbox must be selected again.
	if err := s.Restore(early); err != nil {
		t.Fatal(err)
	}
	if u, err := v.Poll(true); err != nil || !u.Gone {
		t.Fatalf("%+v %v", u, err)
	}
}
