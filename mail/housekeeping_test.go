package mail

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

// covers: I.13
func TestTrimAdminLog(t *testing.T) {
	st, _ := statetest.Open(t)
	s := &Server{State: st, leading: func() bool { return true }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if err := st.Update(ctx, func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		set.Log.AdminDays = 30
		return state.StoreSettings(tx, set)
	}); err != nil {
		t.Fatal(err)
	}
	for day := range 1200 { // more than one batch is too old
		at := now.AddDate(0, 0, -20).Add(time.Duration(-day) * time.Hour)
		if err := st.Update(ctx, func(tx *state.Tx) error {
			return state.AdminLog.Put(tx, &model.AdminEvent{Time: at.UnixNano(), Actor: "root", Op: "test"})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.TrimAdminLog(ctx, now); err != nil {
		t.Fatal(err)
	}
	kept, err := state.AdminLog.List(st, "")
	if err != nil || len(kept) != 241 {
		t.Errorf("%d lines are kept, want 241 (10 days of 24 and the edge); %v", len(kept), err)
	}
}
