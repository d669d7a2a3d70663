package search

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

// Field is where a text is looked for.
type Field uint8

// The fields of SEARCH (RFC 9051 §6.4.4).
const (
	Text Field = iota // header and body
	Body
	Subject
	From
	To
	Cc
	Bcc
	Header // any field; never answers Yes
)

var columnFilter = [...]string{
	Text: "", Body: "body:", Subject: "subject:", From: "sender:", To: "recipient:", Cc: "cc:", Bcc: "bcc:",
	Header: "{subject sender recipient cc bcc other}:",
}

// Answer is what the index knows about a message and a text.
type Answer uint8

// The answers. Maybe: look into the message.
const (
	Maybe Answer = iota
	Yes
	No
)

// Found is the answer for every message of a mailbox.
type Found struct {
	places     []place
	yes, maybe bits
}

// Of answers for a message. One that is not in the index is a Maybe.
func (f *Found) Of(uid model.UID) Answer {
	i, ok := placeOf(f.places, uid)
	switch {
	case !ok:
		return Maybe
	case f.yes.has(f.places[i].doc):
		return Yes
	case f.maybe.has(f.places[i].doc):
		return Maybe
	}
	return No
}

// Limits of what FTS5 is asked for one piece of a needle. Above them the sequences tell cheaper.
const (
	maxWords = 4000 // words of the dictionary that contain it
	maxHits  = 10   // times as many hits of them as there are documents
)

// errTooMany says that a piece is in too many words, or in too frequent ones.
var errTooMany = errors.New("search: too many words contain the text")

// finder asks one index for one needle, at one moment.
type finder struct {
	ctx    context.Context
	tx     *sql.Tx
	field  Field
	filter string
	words  int    // see maxWords
	max    uint32 // largest document
}

func newFinder(ctx context.Context, tx *sql.Tx, field Field, words int) (*finder, error) {
	f := &finder{ctx: ctx, tx: tx, field: field, filter: columnFilter[field], words: words}
	var max sql.NullInt64
	err := tx.QueryRowContext(ctx, `SELECT max(id) FROM doc`).Scan(&max)
	f.max = uint32(max.Int64)
	return f, err
}

// find gives the documents that contain a folded needle, and those that may; docs are the documents
// that the question is about.
func (f *finder) find(needle string, docs []uint32) (yes, maybe bits, err error) {
	list := pieces(needle)
	ends := list[0].head || list[len(list)-1].tail // spaces around it, which no sequence has
	fits := make([]wordBits, 0, len(list))
	for i := range list[:min(len(list), maxPieces)] { // more would each cost a set, and narrow no further
		exact, all, fit, err := f.piece(&list[i])
		switch {
		case errors.Is(err, errTooMany):
			all = nil // says nothing
		case err != nil:
			return nil, nil, err
		case len(list) == 1 && !ends:
			return exact, all, nil
		}
		fits = append(fits, fit)
		if all == nil {
			continue
		}
		if maybe == nil {
			maybe = all
		} else if maybe.and(all); maybe.empty() {
			return newBits(f.max), maybe, nil
		}
	}
	if maybe == nil {
		maybe = everyBit(f.max)
	}
	exact := !ends && len(list) <= maxPieces
	return f.order(newPhrase(f.field, list, fits), exact, maybe, docs)
}

// piece gives the documents with a word that contains a piece, those that may have one, and the
// words of the dictionary that contain it; these with errTooMany, too.
func (f *finder) piece(p *piece) (exact, all bits, fit wordBits, err error) {
	if p.wide {
		exact, all, err = f.widePiece(p)
		return exact, all, nil, err
	}
	words, fit, err := f.dictionary(p)
	if err != nil {
		return nil, nil, fit, err
	}
	if exact, err = f.any(words); err != nil {
		return nil, nil, fit, err
	}
	all = append(bits(nil), exact...)
	long := []string{string(kindLong)}
	if p.chars >= 3 {
		long = tagged(kindTriple, grams(p.text, 3))
	}
	more, err := f.match(long, " AND ")
	if err != nil {
		return nil, nil, fit, err
	}
	all.or(more)
	if p.chars == 3 && !p.head && !p.tail {
		exact.or(more)
	}
	return exact, all, fit, nil
}

// widePiece is a piece with Chinese, Japanese or Korean characters.
func (f *finder) widePiece(p *piece) (exact, all bits, err error) {
	var want []string
	if p.chars == 1 {
		want = tagged(kindChar, []string{p.text})
	} else {
		for _, g := range grams(p.text, 2) {
			if strings.ContainsFunc(g, wide) {
				want = append(want, string(kindPair)+g)
			}
		}
	}
	if all, err = f.match(want, " AND "); err != nil {
		return nil, nil, err
	}
	if p.chars <= 2 {
		return all, all, nil
	}
	return newBits(f.max), all, nil
}

func tagged(kind byte, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(kind) + s
	}
	return out
}

// dictionary gives the words of the dictionary that contain a piece, as tokens and by their numbers.
// With errTooMany it gives the numbers of all of them.
func (f *finder) dictionary(p *piece) (tokens []string, fit wordBits, err error) {
	if len(p.text) > wordOctets {
		return nil, nil, nil
	}
	want := p.text
	if p.head {
		want = "\n" + want
	}
	if p.tail {
		want += "\n"
	}
	rows, err := f.tx.QueryContext(f.ctx, `SELECT first, words FROM dict`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var first int64
		var chunk sql.RawBytes
		if err := rows.Scan(&first, &chunk); err != nil {
			return nil, nil, err
		}
		if len(chunk) == 0 || chunk[0] != '\n' || chunk[len(chunk)-1] != '\n' || first <= 0 || first > maxNumber {
			return nil, nil, errDamaged
		}
		scanWords(chunk, []byte(want), func(i int, word []byte) {
			fit.set(uint32(first) + uint32(i))
			if len(tokens) <= f.words {
				tokens = append(tokens, string(kindWord)+string(word))
			}
		})
	}
	if err := rows.Err(); err != nil {
		return nil, nil, err
	}
	if len(tokens) > f.words {
		return nil, fit, errTooMany
	}
	return tokens, fit, nil
}

// scanWords calls fn for the words of a row of the dictionary, each one between line feeds, that
// contain want; i counts words.
func scanWords(chunk, want []byte, fn func(i int, word []byte)) {
	n, counted := -1, 0 // line feeds before counted, less one
	for off := 0; off < len(chunk); {
		i := bytes.Index(chunk[off:], want)
		if i < 0 {
			return
		}
		at := off + i
		if chunk[at] == '\n' {
			at++
		}
		start := bytes.LastIndexByte(chunk[:at], '\n') + 1
		end := at + bytes.IndexByte(chunk[at:], '\n')
		n, counted = n+bytes.Count(chunk[counted:start], []byte{'\n'}), start
		fn(n, chunk[start:end])
		off = end // the line feed belongs to the next word, too
	}
}

// any gives the documents that have one of many tokens.
func (f *finder) any(tokens []string) (bits, error) {
	out := newBits(f.max)
	const step = 16
	for hits := uint64(0); len(tokens) > 0; {
		n := min(step, len(tokens))
		got, err := f.match(tokens[:n], " OR ")
		if err != nil {
			return nil, err
		}
		out.or(got)
		tokens = tokens[n:]
		if hits += uint64(got.count()); hits > maxHits*uint64(f.max) && len(tokens) > 0 {
			return nil, errTooMany
		}
	}
	return out, nil
}

// maxTerms bounds the tokens of one question that has to match all of them; with fewer, more match.
const maxTerms = 64

// match gives the documents that have the tokens: one of them, or all of them with op AND.
func (f *finder) match(tokens []string, op string) (bits, error) {
	out := newBits(f.max)
	if len(tokens) > maxTerms {
		tokens = tokens[:maxTerms]
	}
	quoted := make([]string, len(tokens))
	for i, t := range tokens {
		quoted[i] = `"` + strings.ReplaceAll(t, `"`, `""`) + `"`
	}
	q := f.filter + "(" + strings.Join(quoted, op) + ")"
	var list sql.NullString // one row of all numbers costs a fraction of as many rows
	if err := f.tx.QueryRowContext(f.ctx, `SELECT group_concat(rowid) FROM fts WHERE fts MATCH ?`, q).Scan(&list); err != nil {
		return nil, err
	}
	if list.String == "" {
		return out, nil
	}
	for s := range strings.SplitSeq(list.String, ",") {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || uint32(n) > f.max {
			return nil, errDamaged
		}
		out.set(uint32(n))
	}
	return out, nil
}

// readPlaces gives a mailbox's places.
func (f *finder) readPlaces(box model.MailboxID) ([]place, error) {
	rows, err := f.tx.QueryContext(f.ctx, `SELECT data FROM place WHERE box = ? ORDER BY chunk`, int64(box))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []place
	for rows.Next() {
		var raw sql.RawBytes
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		if out, err = decodePlaces(out, raw); err != nil {
			return nil, err
		}
	}
	return out, rows.Err()
}

// Find looks for a text in a mailbox. False: the index can't say anything about it.
func (ix *Index) Find(ctx context.Context, account model.AccountID, box model.MailboxID, field Field, text string) (*Found, bool) {
	needle := message.Fold(text)
	list := pieces(needle)
	cfg := ix.o.Config()
	if len(list) == 0 || !cfg.On {
		return nil, false
	}
	for _, p := range list {
		if p.wide && !cfg.CJK {
			return nil, false
		}
	}
	u := ix.lookup(account)
	if u == nil {
		return nil, false
	}
	var out *Found
	err := ix.use(u, false, func(db *sql.DB) (err error) {
		out, err = ix.findIn(ctx, u, db, box, field, needle)
		return err
	})
	switch {
	case err == nil:
		return out, true
	case errors.Is(err, errNoIndex), ctx.Err() != nil:
	default:
		ix.failed(u, err)
	}
	return nil, false
}

func (ix *Index) findIn(ctx context.Context, u *user, db *sql.DB, box model.MailboxID, field Field, needle string) (*Found, error) {
	view, err := u.begin(ctx, db, box, ix.o.Source.Generation())
	if err != nil {
		return nil, err
	}
	defer view.tx.Rollback()
	f, err := newFinder(ctx, view.tx, field, ix.maxWords)
	if err != nil {
		return nil, err
	}
	out := new(Found)
	if out.places, err = f.readPlaces(box); err != nil {
		return nil, err
	}
	if out.places, err = ix.sound(u, view, box, out.places); err != nil || len(out.places) == 0 {
		return out, err
	}
	docs := make([]uint32, len(out.places))
	for i := range out.places {
		docs[i] = out.places[i].doc
	}
	if out.yes, out.maybe, err = f.find(needle, docs); err == nil && field == Header {
		out.maybe.or(out.yes)
		out.yes = nil
	}
	return out, err
}
