package search

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"strings"

	"mailplusd/mail/model"
)

// added is a message to be put into the index. A body that has a document already needs no tokens.
type added struct {
	uid    model.UID
	body   model.BodyID
	tokens *tokens // nil: the document is there
}

// dictChunk is how large a row of the dictionary grows, in octets.
const dictChunk = 64 << 10

// update is one transaction on a user's index. The FTS5 table is written at its end: any statement
// on another table that may have to be undone makes it write out what it has gathered.
type update struct {
	ctx   context.Context
	tx    *sql.Tx
	known map[string]uint32 // numbers of words in the dictionary; 0: looked up at the end
	fresh []string          // words to be added to the dictionary, if they are not there
	docs  [][]any           // rows to be inserted into the FTS5 table
	seqs  []*sequence       // the words of each of them
	gone  []uint32          // documents to be deleted from it
}

// maxKnown bounds the words that are remembered between transactions.
const maxKnown = 1 << 17

// write carries out fn in one transaction; commit is called to call what commits it. known is kept
// from one transaction to the next.
func write(ctx context.Context, db *sql.DB, known map[string]uint32, fn func(*update) error, commit func(func() error) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if len(known) > maxKnown {
		clear(known)
	}
	u := &update{ctx: ctx, tx: tx, known: known}
	if err = fn(u); err == nil {
		err = u.storeWords()
	}
	if err == nil {
		err = u.storeSequences()
	}
	if err == nil {
		err = u.storeText()
	}
	if err == nil {
		err = commit(tx.Commit)
	}
	if err != nil {
		clear(known)
	}
	return err
}

// storeText writes the FTS5 table.
func (u *update) storeText() error {
	for _, doc := range u.gone {
		if err := u.exec(`DELETE FROM fts WHERE rowid = ?`, int64(doc)); err != nil {
			return err
		}
	}
	if len(u.docs) == 0 {
		return nil
	}
	insert, err := u.tx.PrepareContext(u.ctx, `INSERT INTO fts(rowid, subject, sender, recipient, cc, bcc, other, body) VALUES (?,?,?,?,?,?,?,?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, args := range u.docs {
		if _, err := insert.ExecContext(u.ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (u *update) exec(q string, args ...any) error {
	_, err := u.tx.ExecContext(u.ctx, q, args...)
	return err
}

// put adds messages of one mailbox.
func (u *update) put(box model.MailboxID, list []added) error {
	places := make([]place, 0, len(list))
	for i := range list {
		m := &list[i]
		doc, err := u.document(m)
		if err != nil {
			return err
		}
		if doc != 0 {
			places = append(places, place{m.uid, doc, bodyMark(m.body)})
		}
	}
	return u.place(box, places)
}

// document gives a message's document with one reference more; 0: it is gone meanwhile.
func (u *update) document(m *added) (uint32, error) {
	var id int64
	err := u.tx.QueryRowContext(u.ctx, `UPDATE doc SET refs = refs + 1 WHERE body = ? RETURNING id`, m.body[:]).Scan(&id)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return uint32(id), err
	}
	if m.tokens == nil {
		return 0, nil
	}
	if err := u.tx.QueryRowContext(u.ctx, `INSERT INTO doc(body, refs) VALUES (?, 1) RETURNING id`, m.body[:]).Scan(&id); err != nil {
		return 0, err
	}
	args := make([]any, 1, columns+1)
	args[0] = id
	for col := range columns {
		args = append(args, m.tokens.column(col))
		u.learn(m.tokens.sets[col])
	}
	u.docs, u.seqs = append(u.docs, args), append(u.seqs, &m.tokens.seq)
	return uint32(id), nil
}

// column is a column's tokens as the table takes them.
func (t *tokens) column(col int) string {
	var b strings.Builder
	for tok := range t.sets[col] {
		b.WriteString(tok)
		b.WriteByte(' ')
	}
	return b.String()
}

// learn notes the words of a set for the dictionary.
func (u *update) learn(set map[string]struct{}) {
	for tok := range set {
		if tok[0] != kindWord {
			continue
		}
		if _, ok := u.known[tok]; ok {
			continue
		}
		u.known[tok] = 0
		u.fresh = append(u.fresh, tok[1:])
	}
}

// storeWords gives every new word its number and adds those that are new to the index, too.
func (u *update) storeWords() error {
	if len(u.fresh) == 0 {
		return nil
	}
	find, err := u.tx.PrepareContext(u.ctx, `SELECT id FROM word WHERE w = ?`)
	if err != nil {
		return err
	}
	defer find.Close()
	insert, err := u.tx.PrepareContext(u.ctx, `INSERT INTO word(w, id) VALUES (?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	d, err := u.lastChunk()
	if err != nil {
		return err
	}
	for _, w := range u.fresh {
		var id int64
		err := find.QueryRowContext(u.ctx, []byte(w)).Scan(&id)
		if err == nil && id > 0 && id < int64(d.next) {
			u.known[string(kindWord)+w] = uint32(id)
			continue
		}
		if err == nil {
			return errDamaged
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if len(d.words)+len(w)+1 > dictChunk {
			if err := u.storeChunkOfWords(d); err != nil {
				return err
			}
			d.id, d.first, d.words = d.id+1, d.next, append(d.words[:0], '\n')
		}
		if _, err := insert.ExecContext(u.ctx, []byte(w), int64(d.next)); err != nil {
			return err
		}
		u.known[string(kindWord)+w] = d.next
		d.words = append(append(d.words, w...), '\n')
		d.next++
	}
	return u.storeChunkOfWords(d)
}

// chunkOfWords is a row of the dictionary: words between line feeds, whose numbers follow each other.
type chunkOfWords struct {
	id    int64
	first uint32 // number of its first word
	next  uint32 // number of the word that comes next
	words []byte
}

// lastChunk is the row of the dictionary that grows.
func (u *update) lastChunk() (*chunkOfWords, error) {
	d := &chunkOfWords{id: 1, first: 1, words: []byte{'\n'}}
	err := u.tx.QueryRowContext(u.ctx, `SELECT id, first, words FROM dict ORDER BY id DESC LIMIT 1`).Scan(&d.id, &d.first, &d.words)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	d.next = d.first + uint32(max(bytes.Count(d.words, []byte{'\n'}), 1)-1)
	return d, nil
}

func (u *update) storeChunkOfWords(d *chunkOfWords) error {
	return u.exec(`INSERT OR REPLACE INTO dict(id, first, words) VALUES (?, ?, ?)`, d.id, int64(d.first), d.words)
}

// storeSequences writes the order of the words of new documents.
func (u *update) storeSequences() error {
	for i, q := range u.seqs {
		raw := q.encode(u.known)
		if raw == nil {
			continue
		}
		if err := u.exec(`INSERT INTO seq(id, words) VALUES (?, ?)`, u.docs[i][0], raw); err != nil {
			return err
		}
	}
	return nil
}

// place adds places, whose UIDs rise, to a mailbox. A place that is there already is kept.
func (u *update) place(box model.MailboxID, list []place) error {
	for len(list) > 0 {
		chunk, n := chunkOf(list[0].uid), 0
		for n < len(list) && chunkOf(list[n].uid) == chunk {
			n++
		}
		have, err := u.chunk(box, chunk)
		if err != nil {
			return err
		}
		for _, p := range list[:n] {
			at, ok := placeOf(have, p.uid)
			if ok {
				if err := u.release(p.doc); err != nil {
					return err
				}
				continue
			}
			have = append(have, place{})
			copy(have[at+1:], have[at:])
			have[at] = p
		}
		if err := u.storeChunk(box, chunk, have); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (u *update) chunk(box model.MailboxID, chunk int64) ([]place, error) {
	var raw []byte
	err := u.tx.QueryRowContext(u.ctx, `SELECT data FROM place WHERE box = ? AND chunk = ?`, int64(box), chunk).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodePlaces(nil, raw)
}

func (u *update) storeChunk(box model.MailboxID, chunk int64, list []place) error {
	if len(list) == 0 {
		return u.exec(`DELETE FROM place WHERE box = ? AND chunk = ?`, int64(box), chunk)
	}
	return u.exec(`INSERT OR REPLACE INTO place(box, chunk, data) VALUES (?, ?, ?)`, int64(box), chunk, encodePlaces(list))
}

// release takes a reference from a document; without references it is removed.
func (u *update) release(doc uint32) error {
	var refs int64
	err := u.tx.QueryRowContext(u.ctx, `UPDATE doc SET refs = refs - 1 WHERE id = ? RETURNING refs`, int64(doc)).Scan(&refs)
	if errors.Is(err, sql.ErrNoRows) {
		return errPlaces
	}
	if err != nil || refs > 0 {
		return err
	}
	if err := u.exec(`DELETE FROM doc WHERE id = ?`, int64(doc)); err != nil {
		return err
	}
	if err := u.exec(`DELETE FROM seq WHERE id = ?`, int64(doc)); err != nil {
		return err
	}
	u.gone = append(u.gone, doc)
	return nil
}

// remove takes messages out of a mailbox; the UIDs rise.
func (u *update) remove(box model.MailboxID, uids []model.UID) error {
	for len(uids) > 0 {
		chunk := chunkOf(uids[0])
		have, err := u.chunk(box, chunk)
		if err != nil {
			return err
		}
		n, changed := 0, false
		for ; n < len(uids) && chunkOf(uids[n]) == chunk; n++ {
			at, ok := placeOf(have, uids[n])
			if !ok {
				continue
			}
			if err := u.release(have[at].doc); err != nil {
				return err
			}
			have, changed = append(have[:at], have[at+1:]...), true
		}
		if changed {
			if err := u.storeChunk(box, chunk, have); err != nil {
				return err
			}
		}
		uids = uids[n:]
	}
	return nil
}

// setBox says up to which mod-sequence a mailbox is in the index.
func (u *update) setBox(m *model.Mailbox) error {
	return u.exec(`INSERT OR REPLACE INTO box(id, guid, modseq) VALUES (?, ?, ?)`, int64(m.ID), m.GUID[:], int64(m.HighestModSeq))
}

// drop takes a whole mailbox out.
func (u *update) drop(box model.MailboxID) error {
	rows, err := u.tx.QueryContext(u.ctx, `SELECT data FROM place WHERE box = ?`, int64(box))
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []place
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return err
		}
		list, err := decodePlaces(nil, raw)
		if err != nil {
			return err
		}
		all = append(all, list...)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, p := range all {
		if err := u.release(p.doc); err != nil {
			return err
		}
	}
	if err := u.exec(`DELETE FROM place WHERE box = ?`, int64(box)); err != nil {
		return err
	}
	return u.exec(`DELETE FROM box WHERE id = ?`, int64(box))
}
