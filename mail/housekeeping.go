package mail

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// houseKeeping does every hour what a node does by itself.
func (s *Server) houseKeeping() {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			for _, work := range []struct {
				failed string
				do     func(context.Context, time.Time) error
			}{
				{"recovered mail not removed", s.EmptyRecovered}, {"old junk mail not removed", s.PurgeJunk}, {"expunged mail not purged", s.PurgeExpunged}, {"unused bodies not removed", s.CollectBodies}, {"admin log not trimmed", s.TrimAdminLog}, {"old MTA-STS policies not removed", s.TrimSTSPolicies}, {"ended sessions not removed", s.TrimSessions},
			} {
				if err := work.do(s.ctx, time.Now()); err != nil && s.ctx.Err() == nil {
					s.log.Error(work.failed, "err", err)
				}
			}
		}
	}
}

// TrimAdminLog removes lines older than log.admin-keep, some at a time.
func (s *Server) TrimAdminLog(ctx context.Context, now time.Time) error {
	if !s.leading() {
		return nil
	}
	before := now.AddDate(0, 0, -s.State.Current().Log.AdminDays).UnixNano()
	const batch = 500
	for {
		var old []string
		for e, err := range state.AdminLog.All(s.State, "") {
			if err != nil {
				return err
			}
			if e.Time >= before || len(old) == batch {
				break
			}
			old = append(old, state.AdminLog.Key(e))
		}
		if len(old) == 0 {
			return nil
		}
		if err := s.State.Update(ctx, func(tx *state.Tx) error {
			for _, key := range old {
				if err := state.AdminLog.Delete(tx, key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// TrimSessions removes sessions of the administration that have ended.
func (s *Server) TrimSessions(ctx context.Context, now time.Time) error {
	if !s.leading() {
		return nil
	}
	var old []string
	for t, err := range state.Tokens.All(s.State, "") {
		if err != nil {
			return err
		}
		if t.Session && t.Expires < now.Unix() && len(old) < 500 {
			old = append(old, t.Name)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return s.State.Update(ctx, func(tx *state.Tx) error {
		for _, name := range old {
			if err := state.Tokens.Delete(tx, name); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// EmptyRecovered removes mail that a merge has put into "Recovered by merge" 30 days ago. The node
// that acts does it, for both.
func (s *Server) EmptyRecovered(ctx context.Context, now time.Time) error {
	if !s.leading() {
		return nil
	}
	return s.expungeBefore(ctx, now.AddDate(0, 0, -state.RecoveredDays), func(m *model.Mailbox) bool { return m.Name == state.RecoveredMailbox })
}

// PurgeJunk expunges what came into a Junk mailbox longer ago than storage.junk-days, once a day. A
// message counts from the day on which it was filed there, not from its date.
func (s *Server) PurgeJunk(ctx context.Context, now time.Time) error {
	days := s.State.Current().Storage.JunkDays
	if !s.leading() || days == 0 || now.Before(s.junkPurged.Add(24*time.Hour)) && !now.Before(s.junkPurged) {
		return nil
	}
	if err := s.expungeBefore(ctx, now.AddDate(0, 0, -days), func(m *model.Mailbox) bool { return m.Use == model.UseJunk }); err != nil {
		return err
	}
	s.junkPurged = now
	return nil
}

// expungeBefore expunges what came into some mailboxes before a time, in entries of bounded size.
func (s *Server) expungeBefore(ctx context.Context, before time.Time, fits func(*model.Mailbox) bool) error {
	boxes, err := s.State.MailboxesWhere(fits)
	if err != nil {
		return err
	}
	const batch = 500
	for _, box := range boxes {
		var old []model.UID
		if _, err := s.State.View(box.ID, 1, ^model.UID(0), func(m *model.MessageState) bool {
			if m.SaveDate < before.Unix() {
				old = append(old, m.UID)
			}
			return true
		}); err != nil && !errors.Is(err, state.ErrNotFound) { // deleted meanwhile
			return err
		}
		for len(old) > 0 {
			n := min(batch, len(old))
			if _, err := s.Store.Expunge(ctx, state.Expunge{Mailbox: box.ID, UIDs: old[:n]}); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
			old = old[n:]
		}
	}
	return nil
}

// CollectBodies removes bodies without references since longer than storage.keep-removed, those
// that no entry of the state names, and the segments that are mostly dead; unless Options.Hold
// says that bodies must stay.
func (s *Server) CollectBodies(ctx context.Context, now time.Time) error {
	set := s.State.Current().Storage
	if err := s.dropUnreferenced(ctx, now.Add(-time.Duration(set.KeepHours)*time.Hour)); err != nil {
		return err
	}
	if err := s.sweep(ctx, now); err != nil {
		return err
	}
	_, err := s.Bodies.Compact(ctx, float64(set.CompactRatio)/100, nil)
	return err
}

// dropUnreferenced has the state forget bodies. It runs once in a pair; the other node's disk
// follows by sweep.
func (s *Server) dropUnreferenced(ctx context.Context, before time.Time) error {
	for s.leading() && ctx.Err() == nil && (s.hold == nil || !s.hold()) {
		list, err := s.State.Unreferenced(before.Unix(), 1000)
		if err != nil || len(list) == 0 {
			return err
		}
		var out state.Dropped
		if err := s.State.Do(ctx, []state.Operation{state.BodiesDropped{Bodies: list}}, &out); err != nil {
			return err
		}
		ids := make([]segment.ID, len(out.Bodies))
		for i, b := range out.Bodies {
			ids[i] = segment.ID(b)
		}
		if err := s.Bodies.Delete(ids...); err != nil {
			return err
		}
	}
	return nil
}

const (
	// A body is on the disk before its entry is proposed. What no entry has named for an hour
	// none will name: whoever stored it was cut off, or the other node's state has forgotten it.
	nameless  = 55 * time.Minute
	maxSuspic = 200_000 // nameless bodies remembered at once; more wait for the next time
	sweepPage = 4096
)

// suspects are bodies on this node's disk that its state did not name when it was asked first.
type suspects struct {
	mu    sync.Mutex
	since map[segment.ID]time.Time
}

// sweep removes bodies of this disk that the state has not named for an hour: on the node that
// follows everything that the other one has dropped, on both what was never accepted.
func (s *Server) sweep(ctx context.Context, now time.Time) error {
	if s.hold != nil && s.hold() {
		return nil
	}
	s.suspects.mu.Lock()
	defer s.suspects.mu.Unlock()
	found, err := s.unknownBodies(ctx)
	if err != nil {
		return err
	}
	since := make(map[segment.ID]time.Time, len(found))
	var old []segment.ID
	for _, id := range found {
		first, seen := s.suspects.since[id]
		if !seen {
			first = now
		}
		if now.Sub(first) < nameless {
			since[id] = first
			continue
		}
		// Named since the list was made? Whoever stores it from here on finds it and keeps it (segment.Store.Keep).
		known, err := s.State.KnowsBody(model.BodyID(id))
		if err != nil {
			return err
		}
		if !known {
			old = append(old, id)
		}
	}
	s.suspects.since = since
	if len(old) == 0 || s.hold != nil && s.hold() {
		return nil
	}
	s.log.Info("bodies that nothing names removed", "bodies", len(old))
	return s.Bodies.Delete(old...)
}

// unknownBodies lists bodies of the disk that the state does not know. Both are read in the order
// of their names.
func (s *Server) unknownBodies(ctx context.Context) (out []segment.ID, err error) {
	var page []model.BodyID
	var last model.BodyID
	end := false
	each := s.Bodies.Each(func(id segment.ID, _ int64) bool {
		for !end && (len(page) == 0 || bytes.Compare(page[0][:], id[:]) < 0) {
			if len(page) > 0 {
				page = page[1:]
				continue
			}
			if err = ctx.Err(); err != nil {
				return false
			}
			if page, err = s.State.BodiesAfter(last, sweepPage); err != nil {
				return false
			}
			if end = len(page) == 0; !end {
				last = page[len(page)-1]
			}
		}
		if len(page) > 0 && page[0] == model.BodyID(id) {
			return true
		}
		out = append(out, id)
		return len(out) < maxSuspic
	})
	if err != nil {
		return nil, err
	}
	return out, each
}
