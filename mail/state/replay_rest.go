package state

import (
	"bytes"
	"encoding/binary"
	"slices"

	"mailplusd/mail/model"
)

// queued reads a queued message; nil when it is done.
func (r *Replay) queued(id model.QueueID) (*model.QueueMessage, []model.QueueRcpt, error) {
	v, err := getCopy(r.snap, queueKey(id))
	if err != nil || v == nil {
		return nil, nil, err
	}
	q := new(model.QueueMessage)
	if err := decMode.Unmarshal(v, q); err != nil {
		return nil, nil, err
	}
	rcpts, err := scanRcpts(r.snap, id)
	return q, rcpts, err
}

func (r *Replay) queue(b *batcher) error {
	return r.notes(noteQueue, func(rest []byte, n *note) error {
		id := model.QueueID(binary.BigEndian.Uint64(rest))
		q, rcpts, err := r.queued(id)
		if err != nil {
			return err
		}
		if q == nil {
			q = &model.QueueMessage{ID: id}
		}
		item := MergeQueue{Message: *q, Rcpts: rcpts, Op: n.Op, At: n.Time}
		b.m.Queue = append(b.m.Queue, item)
		return b.took(item, 256*(1+len(rcpts)))
	})
}

func (r *Replay) rcpts(b *batcher) error {
	return r.notes(noteRcpt, func(rest []byte, n *note) error {
		key := bytes.Clone(rest)
		id, no := model.QueueID(binary.BigEndian.Uint64(key)), binary.BigEndian.Uint32(key[8:])
		if own, err := lastNote(r.snap, r.rule, noteQueue, key[:8], r.branch.Fork); err != nil || own != nil {
			return err // queued since the fork: see queue
		}
		item := MergeRcpt{Queue: id, Rcpt: model.QueueRcpt{N: no}, Done: n.Done, At: n.Time}
		v, err := getCopy(r.snap, rcptKey(id, no))
		if err != nil {
			return err
		}
		if v == nil {
			item.Done = true
		} else if err := decMode.Unmarshal(v, &item.Rcpt); err != nil {
			return err
		}
		b.m.Rcpts = append(b.m.Rcpts, item)
		return b.took(item, 256)
	})
}

func (r *Replay) rows(b *batcher) error {
	return r.notes(noteRowKey, func(rest []byte, n *note) error {
		if len(rest) < 2 || rest[0] != spaceRow {
			return nil
		}
		if t := tableByID(rest[1]); t == nil || t.class() == ClassPair {
			return nil
		}
		v, err := getCopy(r.snap, rest)
		if err != nil {
			return err
		}
		item := MergeRow{Table: rest[1], Key: RowKey(rest[2:]), At: n.Time}
		if len(v) >= 8 {
			item.Value = v[8:]
		}
		b.m.Rows = append(b.m.Rows, item)
		return b.took(item, len(v)+len(rest))
	})
}

func (r *Replay) counters(b *batcher) error {
	sums := map[string]int64{}
	if err := r.notes(noteCount, func(_ []byte, n *note) error { sums[n.Name] += n.Add; return nil }); err != nil {
		return err
	}
	names := make([]string, 0, len(sums))
	for name := range sums {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		item := MergeCounter{Name: name, Add: sums[name]}
		b.m.Counters = append(b.m.Counters, item)
		if err := b.took(item, len(name)); err != nil {
			return err
		}
	}
	return nil
}
