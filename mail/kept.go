package mail

import (
	"context"
	"time"

	"mailplusd/mail/state"
)

// PurgeExpunged forgets mail that was expunged longer ago than storage.keep-expunged. Only the
// node that leads proposes it, in entries of bounded size, so each message goes once.
func (s *Server) PurgeExpunged(ctx context.Context, now time.Time) error {
	if !s.leading() {
		return nil
	}
	before := now.AddDate(0, 0, -s.State.Current().Storage.ExpungedDays).Unix()
	for ctx.Err() == nil {
		some, err := s.State.KeptBefore(before)
		if err != nil || !some {
			return err
		}
		var out state.KeptPurged
		if err := s.State.Do(ctx, []state.Operation{state.KeptPurge{Before: before, Limit: state.MaxKeptPurge}}, &out); err != nil {
			return err
		}
		if !out.More {
			return nil
		}
	}
	return ctx.Err()
}
