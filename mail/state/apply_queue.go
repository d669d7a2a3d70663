package state

import (
	"slices"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// enqueue stores the queued part of a transaction.
func (a *apply) enqueue(op *Deliver) (model.QueueID, error) {
	n, err := a.next(keyNextQueue)
	if err != nil {
		return 0, err
	}
	q := op.Queue.Message
	q.ID, q.Body, q.Size = model.QueueID(n), op.Body, op.Size
	q.Open = uint32(len(op.Queue.Rcpts))
	if q.Created == 0 {
		q.Created = a.entry.Time
	}
	if err := a.putQueue(&q); err != nil {
		return 0, err
	}
	for i, r := range op.Queue.Rcpts {
		r.N = uint32(i)
		if r.State == "" {
			r.State = model.QueuePending
		}
		if r.Next == 0 {
			r.Next = q.Created
		}
		if err := a.putRcpt(q.ID, &r); err != nil {
			return 0, err
		}
	}
	a.change.queue = true
	if err := a.noteQueued(q.ID); err != nil {
		return 0, err
	}
	return q.ID, a.ref(op.Body)
}

func (a *apply) putQueue(q *model.QueueMessage) error {
	v, err := encMode.Marshal(q)
	if err != nil {
		return err
	}
	return a.b.Set(queueKey(q.ID), v, nil)
}

// putRcpt stores a recipient and, unless it is held, when its turn comes.
func (a *apply) putRcpt(id model.QueueID, r *model.QueueRcpt) error {
	v, err := encMode.Marshal(r)
	if err != nil {
		return err
	}
	if r.State != model.QueueHeld {
		if err := a.b.Set(dueKey(r.Next, id, r.N), nil, nil); err != nil {
			return err
		}
		a.change.due = append(a.change.due, Due{At: r.Next, Queue: id, N: r.N})
	}
	return a.b.Set(rcptKey(id, r.N), v, nil)
}

func (a *apply) queueMessage(id model.QueueID) (*model.QueueMessage, error) {
	v, err := a.get(queueKey(id))
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, refuse(ErrNotFound, "message %d is not in the queue", id)
	}
	q := new(model.QueueMessage)
	return q, decMode.Unmarshal(v, q)
}

func (a *apply) queueRcpts(id model.QueueID) ([]model.QueueRcpt, error) {
	return scanRcpts(a.b, id)
}

func scanRcpts(r pebble.Reader, id model.QueueID) ([]model.QueueRcpt, error) {
	prefix := be64([]byte{spaceRcpt}, uint64(id))
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []model.QueueRcpt
	for it.First(); it.Valid(); it.Next() {
		var rc model.QueueRcpt
		if err := decMode.Unmarshal(it.Value(), &rc); err != nil {
			return nil, err
		}
		out = append(out, rc)
	}
	return out, it.Error()
}

// dropRcpt takes a recipient out; the last one takes the message with it.
func (a *apply) dropRcpt(q *model.QueueMessage, r *model.QueueRcpt) error {
	if err := a.b.Delete(dueKey(r.Next, q.ID, r.N), nil); err != nil {
		return err
	}
	if err := a.b.Delete(rcptKey(q.ID, r.N), nil); err != nil {
		return err
	}
	if err := a.attemptOver(q.ID, r.N); err != nil {
		return err
	}
	if err := a.noteRcpt(q.ID, r.N, true); err != nil {
		return err
	}
	q.Open--
	if q.Open > 0 {
		return a.putQueue(q)
	}
	if err := a.b.Delete(queueKey(q.ID), nil); err != nil {
		return err
	}
	return a.unref(q.Body)
}

func (a *apply) attempt(op *Attempt) (any, error) {
	q, err := a.queueMessage(op.Queue)
	if err != nil {
		return nil, err
	}
	rcpts, err := a.queueRcpts(op.Queue)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, res := range op.Results {
		i := slices.IndexFunc(rcpts, func(r model.QueueRcpt) bool { return r.N == res.N })
		if i < 0 {
			continue // cleared meanwhile
		}
		n++
		if res.Outcome != model.OutcomeDeferred {
			if err := a.dropRcpt(q, &rcpts[i]); err != nil {
				return nil, err
			}
			continue
		}
		if err := a.deferRcpt(q.ID, &rcpts[i], res); err != nil {
			return nil, err
		}
	}
	if op.Warned && !q.Warned && q.Open > 0 {
		q.Warned = true
		if err := a.putQueue(q); err != nil {
			return nil, err
		}
	}
	a.change.queue = true
	return Changed{N: n}, nil
}

func (a *apply) deferRcpt(id model.QueueID, r *model.QueueRcpt, res AttemptResult) error {
	if err := a.b.Delete(dueKey(r.Next, id, r.N), nil); err != nil {
		return err
	}
	r.Next, r.Reason = res.Next, res.Reason
	if !res.Waiting {
		r.Attempts++
		r.LastAt, r.LastCode, r.Remote, r.TLS = a.entry.Time, res.Code, res.Remote, res.TLS
		if err := addTry(r); err != nil {
			return err
		}
	}
	if r.State != model.QueueHeld {
		r.State = model.QueueDeferred
	}
	if err := a.attemptOver(id, r.N); err != nil {
		return err
	}
	if err := a.noteRcpt(id, r.N, false); err != nil {
		return err
	}
	return a.putRcpt(id, r)
}

func (a *apply) queueChange(op *QueueChange) (any, error) {
	q, err := a.queueMessage(op.Queue)
	if err != nil {
		return nil, err
	}
	rcpts, err := a.queueRcpts(op.Queue)
	if err != nil {
		return nil, err
	}
	n := 0
	for i := range rcpts {
		r := &rcpts[i]
		if len(op.Rcpts) > 0 && !slices.Contains(op.Rcpts, r.N) {
			continue
		}
		if held := r.State == model.QueueHeld; op.Action == QueueRelease && !held || op.Action == QueueResend && held {
			continue
		}
		n++
		if op.Action == QueueClear {
			if err := a.dropRcpt(q, r); err != nil {
				return nil, err
			}
			continue
		}
		if err := a.b.Delete(dueKey(r.Next, q.ID, r.N), nil); err != nil {
			return nil, err
		}
		switch op.Action {
		case QueueHold:
			if r.State != model.QueueHeld { // who was first is who holds it
				r.State, r.HeldBy = model.QueueHeld, op.By
			}
		case QueueResend, QueueRelease:
			r.State, r.Next, r.HeldBy = model.QueuePending, a.entry.Time, ""
		default:
			return nil, refuse(ErrInvalid, "unknown queue action %d", op.Action)
		}
		if err := a.putRcpt(q.ID, r); err != nil {
			return nil, err
		}
		if err := a.noteRcpt(q.ID, r.N, false); err != nil {
			return nil, err
		}
	}
	a.change.queue = true
	return Changed{N: n}, nil
}
