package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// queueShow tells the story of a message, recipient by recipient.
func (s *Server) queueShow(_ context.Context, _ *Call, in *api.QueueIn) ([]api.QueueStep, error) {
	id, err := queueID(in.ID)
	if err != nil {
		return nil, err
	}
	q, rcpts, err := s.mail.State.Queued(id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("message in the queue", in.ID, "mpctl queue list")
	}
	if err != nil {
		return nil, err
	}
	out := []api.QueueStep{}
	for i := range rcpts {
		r := &rcpts[i]
		tries, err := state.Tries(r)
		if err != nil {
			return nil, err
		}
		row := s.queueRow(&q, r)
		step := api.QueueStep{
			Rcpt: row.Rcpt, State: row.State, Attempts: row.Attempts, Next: row.Next, ID: row.ID, Queued: row.Queued, Sender: row.Sender,
			Size: row.Size, Subject: row.Subject, Expires: row.Expires,
		}
		for k, t := range tries {
			try := step
			try.What = fmt.Sprintf("try %d", int(r.Attempts)-len(tries)+k+1)
			try.At, try.Remote, try.TLS, try.Reason, try.Code = stamp(t.At/1e9), t.Remote, t.TLS, t.Reason, t.Code
			out = append(out, try)
		}
		step.What, step.At, step.Reason = "next", row.Next, row.Reason
		switch model.QueueState(row.State) {
		case model.QueueProcessing:
			step.What, step.Reason = "now", "is being sent"
		case model.QueueHeld:
			step.What, step.Reason = "held", "held by an administrator"
			if r.HeldBy != "" {
				step.Reason = s.heldReason(r.HeldBy)
			}
		}
		out = append(out, step)
	}
	return out, nil
}

// heldReason says which rule holds mail, and why, if the rule is still there and says so.
func (s *Server) heldReason(rule string) string {
	reason := model.HeldBy(rule)
	if r, err := state.HoldRules.Get(s.mail.State, rule); err == nil && r.Description != "" {
		reason += ": " + r.Description
	}
	return reason
}

// queueStats counts by destination; the one with the most mail comes first.
func (s *Server) queueStats(_ context.Context, _ *Call, in *api.QueueStatsIn) ([]api.QueueStat, error) {
	f, err := newQueueFilter(&in.QueueFilter, time.Now())
	if err != nil {
		return nil, err
	}
	stats := map[string]*queueStat{}
	err = s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		for i := range rcpts {
			r := &rcpts[i]
			if !f.may(q, r) {
				continue
			}
			row := s.queueRow(q, r)
			if !f.match(q, r, &row) {
				continue
			}
			name := s.mail.Queue.Destination(q, r)
			if stats[name] == nil {
				stats[name] = &queueStat{row: api.QueueStat{Destination: name}}
			}
			stats[name].add(q, r, row.State)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	out := make([]api.QueueStat, 0, len(stats))
	for name, st := range stats {
		st.row.Oldest, st.row.Next = stamp(st.oldest/1e9), stamp(st.next/1e9)
		if until := s.mail.Queue.DownUntil(name); !until.IsZero() {
			st.row.DownUntil = stamp(until.Unix())
		}
		out = append(out, st.row)
	}
	slices.SortFunc(out, func(a, b api.QueueStat) int {
		return cmp.Or(cmp.Compare(b.Recipients, a.Recipients), cmp.Compare(a.Destination, b.Destination))
	})
	return out[:min(len(out), max(in.Limit, 1))], nil
}

// queueStat is a row that is being counted; times are Unix nanoseconds.
type queueStat struct {
	row                api.QueueStat
	oldest, next, last int64
}

func (st *queueStat) add(q *model.QueueMessage, r *model.QueueRcpt, where string) {
	st.row.Recipients++
	st.row.Size += q.Size
	switch model.QueueState(where) {
	case model.QueuePending:
		st.row.Pending++
	case model.QueueProcessing:
		st.row.Processing++
	case model.QueueDeferred:
		st.row.Deferred++
	case model.QueueHeld:
		st.row.Held++
	}
	if st.oldest == 0 || q.Created < st.oldest {
		st.oldest = q.Created
	}
	if waits := where == string(model.QueuePending) || where == string(model.QueueDeferred); waits && (st.next == 0 || r.Next < st.next) {
		st.next = r.Next
	}
	if r.Reason != "" && r.LastAt >= st.last {
		st.last, st.row.Reason = r.LastAt, r.Reason
	}
	if st.row.Reason == "" && where == string(model.QueueHeld) && r.HeldBy != "" {
		st.row.Reason = model.HeldBy(r.HeldBy)
	}
}
