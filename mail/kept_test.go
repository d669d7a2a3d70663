package mail

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

// TestPurgeExpunged: only the node that leads purges, only what is older than the setting, in as
// many entries as it takes.
func TestPurgeExpunged(t *testing.T) {
	st, log := statetest.Open(t)
	leads := false
	s := &Server{State: st, leading: func() bool { return leads }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	const n = state.MaxKeptPurge + 200
	var uids []model.UID
	op := state.Deliver{Size: 1, Local: []state.DeliverTo{{Account: 1}}}
	var out state.Delivered
	for i := range n {
		op.Body = model.BodyID{byte(i), byte(i >> 8), 1}
		if err := st.Do(ctx, []state.Operation{op}, &out); err != nil {
			t.Fatal(err)
		}
		uids = append(uids, out.Local[0].UID)
	}
	box := out.Local[0].Mailbox
	if err := st.Do(ctx, []state.Operation{state.Expunge{Mailbox: box, UIDs: uids}}); err != nil {
		t.Fatal(err)
	}
	left := func() int { m, _ := st.Mailbox(box); return int(m.Kept) }
	soon, late := time.Now().AddDate(0, 0, 13), time.Now().AddDate(0, 0, 15)
	for _, c := range []struct {
		leads bool
		now   time.Time
		want  int
	}{{false, late, n}, {true, soon, n}, {true, late, 0}} {
		leads = c.leads
		before := len(log.Entries)
		if err := s.PurgeExpunged(ctx, c.now); err != nil || left() != c.want {
			t.Errorf("leads %v, day %v: %d are left, want %d: %v", c.leads, time.Until(c.now), left(), c.want, err)
		}
		if made := len(log.Entries) - before; c.want == 0 && made != 2 || c.want > 0 && made != 0 {
			t.Errorf("%s entries", fmt.Sprint(made))
		}
	}
}
