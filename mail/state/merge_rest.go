package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"mailplusd/mail/model"
)

// queue brings a message that the loser queued. An entry that both sides have, because its
// proposer has repeated it, was queued once: what either has sent is sent.
func (m *merging) queue(in *MergeQueue) error {
	mark := m.markKey(markQueue, be64(nil, uint64(in.Message.ID)))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	if err := m.b.Set(mark, []byte{1}, nil); err != nil {
		return err
	}
	var ours model.QueueID
	err := scanNotes(m.b, m.rule(), noteQueue, nil, m.br.Fork, func(rest []byte, n *note) error {
		if len(n.Op) > 0 && bytes.Equal(n.Op, in.Op) {
			ours = model.QueueID(binary.BigEndian.Uint64(rest))
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.at = in.At
	if ours != 0 {
		return m.uniteQueued(ours, in)
	}
	if len(in.Rcpts) == 0 {
		return nil
	}
	q := in.Message
	if taken, err := m.marked(queueKey(q.ID)); err != nil {
		return err
	} else if taken {
		n, err := m.next(keyNextQueue)
		if err != nil {
			return err
		}
		q.ID = model.QueueID(n)
	}
	q.Open = uint32(len(in.Rcpts))
	if err := m.putQueue(&q); err != nil {
		return err
	}
	for i := range in.Rcpts {
		if err := m.putRcpt(q.ID, &in.Rcpts[i]); err != nil {
			return err
		}
	}
	m.rep.Counts.Queued++
	m.change.queue = true
	if err := m.note(note{Op: in.Op}, noteQueue, be64(nil, uint64(q.ID))); err != nil {
		return err
	}
	return m.ref(q.Body)
}

// uniteQueued drops from our copy the recipients that the loser has served.
func (m *merging) uniteQueued(ours model.QueueID, in *MergeQueue) error {
	v, err := m.get(queueKey(ours))
	if err != nil || v == nil {
		return err
	}
	rcpts, err := m.queueRcpts(ours)
	if err != nil {
		return err
	}
	for i := range rcpts {
		if slices.ContainsFunc(in.Rcpts, func(r model.QueueRcpt) bool { return r.N == rcpts[i].N }) {
			continue
		}
		q, err := m.queueMessage(ours)
		if err != nil {
			return err
		}
		m.rep.Counts.Sent++
		if err := m.dropRcpt(q, &rcpts[i]); err != nil {
			return err
		}
	}
	m.change.queue = true
	return nil
}

// rcpt brings what the loser did with a recipient that both had. Done on either side is done.
func (m *merging) rcpt(in *MergeRcpt) error {
	v, err := m.get(rcptKey(in.Queue, in.Rcpt.N))
	if err != nil || v == nil {
		return err
	}
	var ours model.QueueRcpt
	if err := decMode.Unmarshal(v, &ours); err != nil {
		return err
	}
	m.at = in.At
	m.change.queue = true
	if in.Done {
		q, err := m.queueMessage(in.Queue)
		if err != nil {
			return err
		}
		m.rep.Counts.Sent++
		return m.dropRcpt(q, &ours)
	}
	n, err := lastNote(m.b, m.rule(), noteRcpt, be32(be64(nil, uint64(in.Queue)), in.Rcpt.N), m.br.Fork)
	if err != nil || n != nil && n.Time >= in.At {
		return err
	}
	if err := m.b.Delete(dueKey(ours.Next, in.Queue, ours.N), nil); err != nil {
		return err
	}
	if err := m.noteRcpt(in.Queue, ours.N, false); err != nil {
		return err
	}
	return m.putRcpt(in.Queue, &in.Rcpt)
}

// row brings a row. The later change holds; settings are listed and not touched, except for
// a user's own password.
func (m *merging) row(in *MergeRow) error {
	t := tableByID(in.Table)
	if t == nil || t.class() == ClassPair {
		return nil // the pair's facts are the winner's
	}
	key := append([]byte{spaceRow, in.Table}, in.Key...)
	v, err := m.get(key)
	if err != nil {
		return err
	}
	var ours []byte
	if len(v) >= 8 {
		ours = v[8:]
	}
	if bytes.Equal(ours, in.Value) {
		return nil
	}
	n, err := lastNote(m.b, m.rule(), noteRowKey, key, m.br.Fork)
	if err != nil {
		return err
	}
	if t.class() == ClassSettings {
		if done, err := m.password(key, in, n); err != nil || done {
			return err
		}
		return m.listed(t, in)
	}
	if in.Table == Sequences.ID {
		return m.sequence(in, ours)
	}
	m.at = in.At
	keep := n != nil && n.Time >= in.At // ours is as late or later
	loses := ours
	if keep {
		loses = in.Value
	} else {
		m.rep.Counts.Rows++
		if err := m.noteRow(key); err != nil {
			return err
		}
		if err := t.replace(m.apply, string(in.Key), in.Value); err != nil {
			return err
		}
	}
	if n == nil || ours == nil || in.Value == nil || n.Time == in.At {
		return nil // changed on one side only, or deleted on one
	}
	return m.conflict(t, in, loses)
}

// password takes over a user's password, if that is all that differs and it is later.
func (m *merging) password(key []byte, in *MergeRow, ours *note) (bool, error) {
	if in.Table != Users.ID || in.Value == nil {
		return false, nil
	}
	same, err := m.unchanged(&RowPut{Key: key, Value: in.Value})
	if err != nil || !same {
		return false, err
	}
	if ours != nil && ours.Time >= in.At {
		return true, nil
	}
	m.at = in.At
	m.rep.Counts.Rows++
	if err := m.noteRow(key); err != nil {
		return true, err
	}
	return true, Users.replace(m.apply, string(in.Key), in.Value)
}

// listed names a setting of the loser in the report. There is none unless both sides were
// made owners of the settings.
func (m *merging) listed(t anyTable, in *MergeRow) error {
	mark := m.markKey(markRow, []byte{in.Table}, []byte(in.Key))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	m.rep.Counts.Settings++
	m.line("%s %q was changed there and not here: not taken over, settings hold as they are here", t.name(), in.Key)
	return m.b.Set(mark, []byte{1}, nil)
}

// sequence: a number that only rises goes on above both.
func (m *merging) sequence(in *MergeRow, ours []byte) error {
	if ours == nil {
		return Sequences.replace(m.apply, string(in.Key), in.Value)
	}
	var a, b Sequence
	if err := decMode.Unmarshal(ours, &a); err != nil {
		return err
	}
	if err := decMode.Unmarshal(in.Value, &b); err != nil || b.Last <= a.Last {
		return nil
	}
	return Sequences.replace(m.apply, string(in.Key), in.Value)
}

// conflict keeps the value that loses under a name that says so, where rows have names that
// people gave.
func (m *merging) conflict(t anyTable, in *MergeRow, value []byte) error {
	mark := m.markKey(markRow, []byte{in.Table}, []byte(in.Key))
	if done, err := m.marked(mark); err != nil || done {
		return err
	}
	m.rep.Counts.Conflicts++
	if err := m.b.Set(mark, []byte{1}, nil); err != nil {
		return err
	}
	name := fmt.Sprintf("%s (conflict %s)", in.Key, time.Unix(0, in.At).UTC().Format("2006-01-02"))
	if in.Table != Tokens.ID {
		m.line("%s %q was changed on both sides: the later change holds", t.name(), in.Key)
		return nil
	}
	var tok model.Token
	if err := decMode.Unmarshal(value, &tok); err != nil {
		return nil
	}
	tok.Name = name
	m.line("%s %q was changed on both sides: the earlier one is kept as %q", t.name(), in.Key, name)
	return putRow(m.apply, Tokens, &tok)
}

// count adds what the loser added.
func (m *merging) count(in *MergeCounter) error {
	mark := m.markKey(markCounter, []byte(in.Name))
	if done, err := m.marked(mark); err != nil || done || in.Add == 0 {
		return err
	}
	m.rep.Counts.Counters++
	if _, err := m.counter(&Counter{Name: in.Name, Add: in.Add}); err != nil {
		return err
	}
	return m.b.Set(mark, []byte{1}, nil)
}
