package search

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// errStale says that the state was replaced meanwhile.
var errStale = errors.New("search: the state was replaced")

// syncing brings one account's index up to date.
type syncing struct {
	ix  *Index
	u   *user
	db  *sql.DB
	ctx context.Context
	gen uint64 // of the state that is read

	known map[string]uint32 // see update
}

// wanted is a message that has to come into the index.
type wanted struct {
	uid  model.UID
	body model.BodyID
	size int64
}

// box is a row of the table box.
type box struct {
	guid   [16]byte
	modseq uint64
}

// sync compares an account's index with its mailboxes and puts in what is missing. It may be
// interrupted at any moment: what is done is kept.
func (ix *Index) sync(ctx context.Context, u *user) error {
	return ix.use(u, true, func(db *sql.DB) error {
		s := &syncing{ix: ix, u: u, db: db, ctx: ctx, gen: ix.o.Source.Generation(), known: map[string]uint32{}}
		boxes, err := ix.o.Source.Mailboxes(u.id)
		if err != nil {
			return err
		}
		have, err := s.boxes()
		if err != nil {
			return err
		}
		if err := s.dropOthers(boxes, have); err != nil {
			return err
		}
		if err := s.tally(boxes); err != nil {
			return err
		}
		for i := range boxes {
			if err := s.mailbox(&boxes[i], have[boxes[i].ID]); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
		}
		if err := s.tally(boxes); err != nil {
			return err
		}
		u.setCount(func(c *Count) { c.Skipped, c.Known = max(0, c.Messages-c.Indexed), true })
		return nil
	})
}

// tally counts messages and what is indexed of them.
func (s *syncing) tally(boxes []model.Mailbox) error {
	var indexed int64
	if err := s.db.QueryRowContext(s.ctx, `SELECT coalesce(sum(length(data)), 0) / ? FROM place`, placeBytes).Scan(&indexed); err != nil {
		return err
	}
	var messages int64
	for i := range boxes {
		messages += int64(boxes[i].Messages)
	}
	s.u.setCount(func(c *Count) { c.Messages, c.Indexed = messages, indexed })
	return nil
}

// boxes reads what the index knows of mailboxes.
func (s *syncing) boxes() (map[model.MailboxID]*box, error) {
	rows, err := s.db.QueryContext(s.ctx, `SELECT id, guid, modseq FROM box`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[model.MailboxID]*box{}
	for rows.Next() {
		var id, modseq int64
		var guid []byte
		if err := rows.Scan(&id, &guid, &modseq); err != nil {
			return nil, err
		}
		b := &box{modseq: uint64(modseq)}
		copy(b.guid[:], guid)
		out[model.MailboxID(id)] = b
	}
	return out, rows.Err()
}

// dropOthers removes mailboxes that are no more, and those that are other ones than before.
func (s *syncing) dropOthers(boxes []model.Mailbox, have map[model.MailboxID]*box) error {
	still := map[model.MailboxID]*model.Mailbox{}
	for i := range boxes {
		still[boxes[i].ID] = &boxes[i]
	}
	for id, b := range have {
		if m := still[id]; m != nil && m.GUID == b.guid {
			continue
		}
		if err := s.write(func(u *update) error { return u.drop(id) }); err != nil {
			return err
		}
		delete(have, id)
	}
	return nil
}

// mailbox brings one mailbox up to date; have: what the index knows of it, or nil.
func (s *syncing) mailbox(m *model.Mailbox, have *box) error {
	s.u.snapMu.Lock()
	checked := s.u.checked[m.ID] == s.gen+1
	s.u.snapMu.Unlock()
	if checked && have != nil && have.modseq == m.HighestModSeq {
		return nil
	}
	var gone []model.UID
	var want []wanted
	var now model.Mailbox
	var err error
	if checked && have != nil {
		now, gone, want, err = s.changes(m.ID, have.modseq)
	} else {
		now, gone, want, err = s.compare(m.ID)
	}
	if err != nil {
		return err
	}
	if have == nil || len(gone) > 0 {
		// The row comes first: a mailbox without one is not found when it is deleted.
		err := s.write(func(u *update) error {
			if have == nil {
				if err := u.setBox(&model.Mailbox{ID: now.ID, GUID: now.GUID}); err != nil {
					return err
				}
			}
			return u.remove(m.ID, gone)
		})
		if err != nil {
			return err
		}
	}
	for len(want) > 0 {
		n := batchLength(want)
		if err := s.batch(m.ID, want[:n]); err != nil {
			return err
		}
		want = want[n:]
	}
	if err := s.write(func(u *update) error { return u.setBox(&now) }); err != nil {
		return err
	}
	s.u.snapMu.Lock()
	s.u.checked[m.ID] = s.gen + 1
	s.u.snapMu.Unlock()
	return nil
}

func batchLength(want []wanted) int {
	n, octets := 0, int64(0)
	for n < len(want) && n < batchCount && (n == 0 || octets+want[n].size <= batchOctets) {
		octets += want[n].size
		n++
	}
	return n
}

// changes reads what happened in a mailbox since a mod-sequence.
func (s *syncing) changes(id model.MailboxID, since uint64) (now model.Mailbox, gone []model.UID, want []wanted, err error) {
	c, err := s.ix.o.Source.Changes(id, since)
	if err != nil {
		return now, nil, nil, err
	}
	slices.Sort(c.Expunged)
	slices.SortFunc(c.Changed, func(a, b model.MessageState) int { return int(int64(a.UID) - int64(b.UID)) })
	have, err := s.places(id)
	if err != nil {
		return now, nil, nil, err
	}
	for i := range c.Changed {
		st := &c.Changed[i]
		if _, ok := placeOf(have, st.UID); !ok {
			want = append(want, wanted{st.UID, st.Body, st.Size})
		}
	}
	left := len(have) + len(want)
	for _, uid := range c.Expunged {
		if _, ok := placeOf(have, uid); ok {
			left--
		}
	}
	if left > int(c.Mailbox.Messages) {
		return s.compare(id) // the state has forgotten that something was expunged
	}
	return c.Mailbox, c.Expunged, want, nil
}

// compare finds what differs between a mailbox and the index, message by message.
func (s *syncing) compare(id model.MailboxID) (now model.Mailbox, gone []model.UID, want []wanted, err error) {
	have, err := s.places(id)
	if err != nil {
		return now, nil, nil, err
	}
	at := 0
	now, err = s.ix.o.Source.View(id, 1, 1<<32-1, func(st *model.MessageState) bool {
		for ; at < len(have) && have[at].uid < st.UID; at++ {
			gone = append(gone, have[at].uid)
		}
		if at < len(have) && have[at].uid == st.UID {
			at++
			if have[at-1].body == bodyMark(st.Body) {
				return true
			}
			gone = append(gone, st.UID)
		}
		want = append(want, wanted{st.UID, st.Body, st.Size})
		return true
	})
	for ; at < len(have); at++ {
		gone = append(gone, have[at].uid)
	}
	return now, gone, want, err
}

func (s *syncing) places(id model.MailboxID) ([]place, error) {
	tx, err := s.db.BeginTx(s.ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	return (&finder{ctx: s.ctx, tx: tx}).readPlaces(id)
}

// batch puts messages into the index in one transaction, and then rests.
func (s *syncing) batch(id model.MailboxID, list []wanted) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.ix.lookup(s.u.id) != s.u {
		return errNoIndex // switched off meanwhile
	}
	started := time.Now()
	cjk := s.ix.o.Config().CJK
	if cjk != s.u.cjk {
		return errStale
	}
	in := make([]added, 0, len(list))
	for _, w := range list {
		a, err := s.read(w, cjk)
		if err != nil {
			return err
		}
		if a != nil {
			in = append(in, *a)
		}
	}
	if err := s.write(func(u *update) error { return u.put(id, in) }); err != nil {
		return err
	}
	s.u.setCount(func(c *Count) { c.Indexed += int64(len(in)) })
	s.ix.tell()
	return s.rest(time.Since(started))
}

// rest keeps the work to its share of a processor.
func (s *syncing) rest(worked time.Duration) error {
	cpu := s.ix.o.Config().CPU
	if cpu <= 0 || cpu >= 100 {
		return nil
	}
	if !wait(s.ctx, min(worked*time.Duration(100-cpu)/time.Duration(cpu), maxPause)) {
		return s.ctx.Err()
	}
	return nil
}

// read gives a message as it comes into the index; nil: it can't be indexed.
func (s *syncing) read(w wanted, cjk bool) (*added, error) {
	var one int
	err := s.db.QueryRowContext(s.ctx, `SELECT 1 FROM doc WHERE body = ?`, w.body[:]).Scan(&one)
	if err == nil {
		return &added{uid: w.uid, body: w.body}, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if w.size > MaxBody {
		return nil, nil
	}
	raw, err := s.ix.readBody(w.body)
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, segment.ErrNotFound) {
		return nil, nil // it may come from the other node yet
	}
	if err != nil {
		return nil, fmt.Errorf("message body %s: %w", w.body, err)
	}
	words := message.Walk(raw, message.DefaultLimits()).Root.Words(raw)
	return &added{uid: w.uid, body: w.body, tokens: tokensOf(&words, cjk)}, nil
}

func (ix *Index) readBody(id model.BodyID) ([]byte, error) {
	b, err := ix.o.Source.Body(id)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	raw := make([]byte, b.Size())
	if _, err := b.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return raw, nil
}

// write carries out one transaction. What was read of a state that has been replaced meanwhile is
// not vouched for.
func (s *syncing) write(fn func(*update) error) error {
	return write(s.ctx, s.db, s.known, fn, func(commit func() error) error {
		s.u.snapMu.Lock()
		defer s.u.snapMu.Unlock()
		if s.ix.o.Source.Generation() != s.gen {
			return errStale
		}
		err := commit()
		if s.ix.o.Source.Generation() != s.gen {
			s.u.checked = map[model.MailboxID]uint64{}
			s.u.cleared++
			err = errors.Join(err, errStale)
		}
		return err
	})
}
