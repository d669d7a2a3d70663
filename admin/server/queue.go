package server

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) queueLength() (n int, err error) { return s.mail.State.QueueLength() }

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
	if row.State == string(model.QueueHeld) && r.HeldBy != "" {
		row.Reason = model.HeldBy(r.HeldBy)
	}
	if row.Reason == "" {
		row.Reason = map[string]string{"pending": "waits for its turn", "processing": "is being sent", "held": "held by an administrator"}[row.State]
	}
	if row.State == string(model.QueueHeld) || row.State == string(model.QueueProcessing) {
		row.Next = ""
	}
	return row
}

func (s *Server) queueList(_ context.Context, _ *Call, in *api.QueueListIn) ([]api.QueueRow, error) {
	f, err := newQueueFilter(&in.QueueFilter, time.Now())
	if err != nil {
		return nil, err
	}
	out, limit := []api.QueueRow{}, max(in.Limit, 1)
	err = s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		for i := range rcpts {
			if !f.may(q, &rcpts[i]) {
				continue
			}
			if row := s.queueRow(q, &rcpts[i]); len(out) < limit && f.match(q, &rcpts[i], &row) {
				out = append(out, row)
			}
		}
		return len(out) < limit
	})
	return out, err
}

func queueID(text string) (model.QueueID, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, op.Errorf(op.Usage, "%q is no message of the queue; their IDs are numbers", text).With("mpctl queue list")
	}
	return model.QueueID(n), nil
}

// queueTarget is a message to act on: its recipients, or all of them when none are named.
type queueTarget struct {
	id    model.QueueID
	rcpts []uint32
	n     int // recipients that it is about
	held  int // recipients that are held
}

// concerns counts the recipients that an action changes.
func concerns(action state.QueueAction, rcpts []model.QueueRcpt) (n int) {
	for i := range rcpts {
		held := rcpts[i].State == model.QueueHeld
		if action == state.QueueRelease && !held || action == state.QueueResend && held { // what is held is released, or stays
			continue
		}
		n++
	}
	return n
}

// queueTargets finds what a call names, or what its filters match.
func (s *Server) queueTargets(action state.QueueAction, in *api.QueueActIn) (list []queueTarget, err error) {
	for _, text := range in.IDs {
		id, err := queueID(text)
		if err != nil {
			return nil, err
		}
		_, rcpts, err := s.mail.State.Queued(id)
		if err != nil {
			return nil, notFound("message in the queue", text, "mpctl queue list")
		}
		if !slices.ContainsFunc(list, func(t queueTarget) bool { return t.id == id }) {
			list = append(list, queueTarget{id: id, n: concerns(action, rcpts), held: concerns(state.QueueRelease, rcpts)})
		}
	}
	if !in.All {
		return list, nil
	}
	f, err := newQueueFilter(&in.QueueFilter, time.Now())
	if err != nil {
		return nil, err
	}
	err = s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		t := queueTarget{id: q.ID}
		var chosen []model.QueueRcpt
		for i := range rcpts {
			if !f.may(q, &rcpts[i]) {
				continue
			}
			if row := s.queueRow(q, &rcpts[i]); f.match(q, &rcpts[i], &row) {
				t.rcpts, chosen = append(t.rcpts, rcpts[i].N), append(chosen, rcpts[i])
			}
		}
		if t.n, t.held = concerns(action, chosen), concerns(state.QueueRelease, chosen); t.n > 0 || t.held > 0 && action == state.QueueResend {
			list = append(list, t)
		}
		return true
	})
	return list, err
}

// queueAct does an action to the messages named, or to all that the filters match.
func (s *Server) queueAct(action state.QueueAction) func(context.Context, *Call, *api.QueueActIn) (api.QueueChanged, error) {
	return func(ctx context.Context, c *Call, in *api.QueueActIn) (out api.QueueChanged, err error) {
		list, err := s.queueTargets(action, in)
		if err != nil {
			return out, err
		}
		if action == state.QueueResend {
			n := 0
			for _, t := range list {
				n += t.held
			}
			list = slices.DeleteFunc(list, func(t queueTarget) bool { return t.n == 0 })
			if n > 0 {
				c.Warn("%d recipients are held and stay so: mpctl queue list --state held; mpctl queue release ID", n)
			}
		}
		if out, err = s.queueDo(ctx, c, state.QueueChange{Action: action}, list); err == nil && action == state.QueueResend && !c.DryRun {
			s.mail.Queue.Resume()
		}
		return out, err
	}
}

// queueDo does what an operation says to a list of messages.
func (s *Server) queueDo(ctx context.Context, c *Call, do state.QueueChange, list []queueTarget) (out api.QueueChanged, err error) {
	before := slices.Clip(c.diff)
	for len(list) > 0 { // entries of a thousand messages: quick, and small in the log
		n := min(len(list), 1000)
		results, want := make([]any, n), out
		for i, t := range list[:n] {
			results[i] = new(state.Changed)
			want.Recipients += t.n
		}
		want.Messages += n
		err := s.change(ctx, c, func(tx *state.Tx) error {
			c.diff = append(before, op.FieldDiff{Field: "messages", New: strconv.Itoa(want.Messages)}, op.FieldDiff{Field: "recipients", New: strconv.Itoa(want.Recipients)})
			for _, t := range list[:n] {
				do.Queue, do.Rcpts = t.id, t.rcpts
				tx.Also(do)
			}
			return nil
		}, results...)
		if err != nil {
			return out, err
		}
		if c.DryRun {
			out.Recipients = want.Recipients
		}
		for i := range results {
			out.Recipients += results[i].(*state.Changed).N
		}
		out.Messages, list = want.Messages, list[n:]
	}
	return out, nil
}

// bulkQueueAct does an action to the messages of --file, one a row. IDs that come twice, as in a
// list of recipients, count once; clearing what is gone changes nothing.
func (s *Server) bulkQueueAct(action state.QueueAction) func(*state.Tx) (func(*api.QueueBulkIn) (bool, error), error) {
	return func(tx *state.Tx) (func(*api.QueueBulkIn) (bool, error), error) {
		seen := map[model.QueueID]bool{}
		return func(row *api.QueueBulkIn) (bool, error) {
			id, err := queueID(row.ID)
			if err != nil {
				return false, err
			}
			_, rcpts, err := s.mail.State.Queued(id)
			switch {
			case errors.Is(err, state.ErrNotFound) && action == state.QueueClear:
				return false, nil
			case errors.Is(err, state.ErrNotFound):
				return false, notFound("message in the queue", row.ID, "mpctl queue list")
			case err != nil || seen[id] || concerns(action, rcpts) == 0:
				return false, err
			}
			seen[id] = true
			tx.Also(state.QueueChange{Action: action, Queue: id})
			return true, nil
		}, nil
	}
}
