package server

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// queueFilter is what queue list and the acting commands share.
type queueFilter struct{ sender, recipient, domain, state, reason, search string }

func (s *Server) queueLength() (n int, err error) {
	err = s.mail.State.QueueScan(0, func(*model.QueueMessage, []model.QueueRcpt) bool { n++; return true })
	return n, err
}

func (s *Server) stateOf(q *model.QueueMessage, r *model.QueueRcpt) model.QueueState {
	if s.mail.Queue.Processing(q.ID, r.N) {
		return model.QueueProcessing
	}
	return r.State
}

func (s *Server) queueRow(q *model.QueueMessage, r *model.QueueRcpt) api.QueueRow {
	row := api.QueueRow{
		ID: strconv.FormatUint(uint64(q.ID), 10), Queued: stamp(q.Created / 1e9), Sender: q.From, Rcpt: r.Address, State: string(s.stateOf(q, r)),
		Attempts: int(r.Attempts), Next: stamp(r.Next / 1e9), Reason: r.Reason, Size: q.Size, Subject: q.Subject, Remote: r.Remote, TLS: r.TLS, Expires: stamp(q.Expires / 1e9),
	}
	if row.Reason == "" {
		row.Reason = map[string]string{"pending": "waits for its turn", "processing": "is being sent", "held": "held by an administrator"}[row.State]
	}
	if row.State == string(model.QueueHeld) || row.State == string(model.QueueProcessing) {
		row.Next = ""
	}
	return row
}

func (f *queueFilter) match(row *api.QueueRow) bool {
	_, domain, _ := model.SplitAddress(row.Rcpt)
	return matches(f.sender, row.Sender) && matches(f.recipient, row.Rcpt) && (f.domain == "" || strings.EqualFold(f.domain, domain)) &&
		(f.state == "" || f.state == row.State) && matches(f.reason, row.Reason) && matches(f.search, row.ID, row.Sender, row.Rcpt, row.Reason, row.Subject)
}

func (s *Server) queueRows(f queueFilter, limit int) ([]api.QueueRow, error) {
	out := []api.QueueRow{}
	err := s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		for i := range rcpts {
			if row := s.queueRow(q, &rcpts[i]); f.match(&row) {
				out = append(out, row)
			}
		}
		return limit == 0 || len(out) < limit
	})
	return out, err
}

func (s *Server) queueList(_ context.Context, _ *Call, in *api.QueueListIn) ([]api.QueueRow, error) {
	return s.queueRows(queueFilter{in.Sender, in.Recipient, in.Domain, in.State, in.Reason, in.Search}, max(in.Limit, 1))
}

func queueID(text string) (model.QueueID, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, op.Errorf(op.Usage, "%q is no message of the queue; their IDs are numbers", text).With("mpctl queue list")
	}
	return model.QueueID(n), nil
}

func (s *Server) queueShow(_ context.Context, _ *Call, in *api.QueueIn) ([]api.QueueRow, error) {
	id, err := queueID(in.ID)
	if err != nil {
		return nil, err
	}
	q, rcpts, err := s.mail.State.Queued(id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("message in the queue", in.ID, "mpctl queue list")
	}
	out := []api.QueueRow{}
	for i := range rcpts {
		out = append(out, s.queueRow(&q, &rcpts[i]))
	}
	return out, err
}

// queueAct does an action to the messages named, or to all that the filters match.
func (s *Server) queueAct(action state.QueueAction) func(context.Context, *Call, *api.QueueActIn) (api.QueueChanged, error) {
	return func(ctx context.Context, c *Call, in *api.QueueActIn) (out api.QueueChanged, err error) {
		type target struct {
			id    model.QueueID
			rcpts []uint32
		}
		var list []target
		for _, text := range in.IDs {
			id, err := queueID(text)
			if err != nil {
				return out, err
			}
			if _, _, err := s.mail.State.Queued(id); err != nil {
				return out, notFound("message in the queue", text, "mpctl queue list")
			}
			list = append(list, target{id: id})
		}
		if in.All {
			f := queueFilter{in.Sender, in.Recipient, in.Domain, in.State, in.Reason, in.Search}
			err := s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
				t := target{id: q.ID}
				for i := range rcpts {
					if row := s.queueRow(q, &rcpts[i]); f.match(&row) {
						t.rcpts = append(t.rcpts, rcpts[i].N)
					}
				}
				if len(t.rcpts) > 0 {
					list = append(list, t)
				}
				return true
			})
			if err != nil {
				return out, err
			}
		}
		for len(list) > 0 { // entries of a thousand messages: quick, and small in the log
			n := min(len(list), 1000)
			ops := make([]state.Operation, n)
			outs := make([]any, n)
			for i, t := range list[:n] {
				ops[i] = state.QueueChange{Action: action, Queue: t.id, Rcpts: t.rcpts}
				outs[i] = new(state.Changed)
			}
			if !c.DryRun {
				if err := s.mail.State.Do(ctx, ops, outs...); err != nil {
					return out, err
				}
			}
			for i := range outs {
				out.Recipients += outs[i].(*state.Changed).N
			}
			out.Messages += n
			list = list[n:]
		}
		c.Diff(op.FieldDiff{Field: "messages", New: strconv.Itoa(out.Messages)})
		return out, nil
	}
}

// parseTime reads a date, a time, or a duration before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, op.Errorf(op.Usage, "%q is no time; write 2026-01-31, 2026-01-31T15:04:05Z or 2h", text)
}
