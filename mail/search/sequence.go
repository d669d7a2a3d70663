package search

import (
	"database/sql"
	"encoding/binary"
	mathbits "math/bits"
	"slices"
	"strings"
)

// A sequence is the words of a document in their order, for needles of several words and for
// needles that very many words contain. Each word is its number in the dictionary, as a varint,
// above the codes that say where texts begin.
const (
	codeBegin   = 0               // plus the column: a text begins
	codeGoOn    = columns         // plus the column: the text goes on in another column (the value behind the name of a field)
	codeUnknown = 2 * columns     // a word that is not in the dictionary
	codeWide    = codeUnknown + 1 // one of wide characters and punctuation only
	codeWord    = codeWide + 1
)

// maxNumber bounds the numbers of words: sets of them are made of what a database says.
const maxNumber = 1 << 28

// Limits of a sequence; a document with a longer one has none.
const (
	maxSequence      = 256 << 10 // codes
	maxPieces        = 64        // pieces of a needle that are looked for in sequences
	sequenceDocument = 8         // documents are read one by one when no more than one in this many is wanted
)

// sequence gathers the words of a document.
type sequence struct {
	words []string // each one once
	index map[string]uint32
	codes []uint32 // of words: the index above codeWord
}

func (q *sequence) put(code uint32) {
	if len(q.codes) <= maxSequence {
		q.codes = append(q.codes, code)
	}
}

func (q *sequence) begin(col int) { q.put(codeBegin + uint32(col)) }
func (q *sequence) goOn(col int)  { q.put(codeGoOn + uint32(col)) }

// unknown adds a word that is not in the dictionary.
func (q *sequence) unknown(s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return !wide(r) && !strings.ContainsRune(asciiPuncts, r) }) {
		q.put(codeUnknown)
	} else {
		q.put(codeWide)
	}
}

func (q *sequence) word(s string) {
	i, ok := q.index[s]
	if !ok {
		if q.index == nil {
			q.index = map[string]uint32{}
		}
		i = uint32(len(q.words))
		q.index[s], q.words = i, append(q.words, s)
	}
	q.put(codeWord + i)
}

// encode gives the stored form; nil: it is too long. numbers are those of the tokens.
func (q *sequence) encode(numbers map[string]uint32) []byte {
	if len(q.codes) > maxSequence {
		return nil
	}
	of := make([]uint32, len(q.words))
	for i, w := range q.words {
		of[i] = numbers[string(kindWord)+w]
	}
	out := make([]byte, 0, 2*len(q.codes))
	for _, c := range q.codes {
		if c >= codeWord {
			c = codeWord + of[c-codeWord]
		}
		out = binary.AppendUvarint(out, uint64(c))
	}
	return out
}

// phrase is a needle that is looked for in sequences.
type phrase struct {
	fits   []wordBits // for each piece the words that fit
	wide   uint64     // bits of the pieces that a word of wide characters and punctuation may contain
	last   uint64     // the bit of the last piece
	active [columns]bool
	across bool // columns are one text where it goes on
}

// wordBits is a set of words by their numbers.
type wordBits []uint64

func (b wordBits) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }

func (b *wordBits) set(n uint32) {
	for int(n/64) >= len(*b) {
		*b = append(*b, make([]uint64, max(64, len(*b)))...)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

// fieldColumn is one more than the column of a field that has its own.
var fieldColumn = [...]int{Body: colBody + 1, Subject: colSubject + 1, From: colFrom + 1, To: colTo + 1, Cc: colCc + 1, Bcc: colBcc + 1, Header: 0}

func newPhrase(field Field, list []piece, fits []wordBits) *phrase {
	p := &phrase{fits: fits, across: field == Text, last: 1 << (len(fits) - 1)}
	for i := range fits {
		if list[i].wide || strings.Trim(list[i].text, asciiPuncts) == "" {
			p.wide |= 1 << i
		}
	}
	for col := range columns {
		p.active[col] = field == Text || field == Header && col != colBody || fieldColumn[field] == col+1
	}
	return p
}

// in looks for the phrase in a sequence. sure is 1<<i when the words up to here end with the pieces
// up to i, and possible is the same where a word stands between that is not known.
func (p *phrase) in(raw []byte) (Answer, error) {
	var sure, possible uint64
	maybe, active := false, false
	for len(raw) > 0 {
		c := uint32(raw[0])
		if c < 0x80 {
			raw = raw[1:]
		} else {
			v, n := binary.Uvarint(raw)
			if n <= 0 || v > 1<<32-1 {
				return Maybe, errDamaged
			}
			c, raw = uint32(v), raw[n:]
		}
		switch {
		case c >= codeWord:
			if !active {
				continue
			}
			n := c - codeWord
			if sure|possible == 0 { // most words
				if p.fits[0].has(n) {
					sure = 1
				}
			} else {
				sure, possible = p.step(sure, possible, n)
			}
		case c == codeUnknown:
			if active {
				sure, possible = 0, (sure|possible)<<1|1
			}
		case c == codeWide:
			if active {
				sure, possible = 0, ((sure|possible)<<1|1)&p.wide
			}
		case c >= codeGoOn:
			active = p.active[c-codeGoOn]
			if !p.across {
				sure, possible = 0, 0
			}
		default:
			active = p.active[c]
			sure, possible = 0, 0
		}
		if sure&p.last != 0 {
			return Yes, nil
		}
		maybe = maybe || possible&p.last != 0
	}
	if maybe {
		return Maybe, nil
	}
	return No, nil
}

// step is one more word.
func (p *phrase) step(sure, possible uint64, word uint32) (uint64, uint64) {
	sure, possible = sure<<1|1, possible<<1
	var fit uint64
	for left := sure | possible; left != 0; left &= left - 1 {
		i := mathbits.TrailingZeros64(left)
		if i >= len(p.fits) {
			break
		}
		if p.fits[i].has(word) {
			fit |= 1 << i
		}
	}
	return sure & fit, possible & fit
}

// order looks for the needle's pieces, one behind the other, in the sequences of those of the
// documents that are candidates. exact: a document that has them there contains the needle. A
// document without a sequence stays a candidate.
func (f *finder) order(p *phrase, exact bool, candidates bits, docs []uint32) (yes, maybe bits, err error) {
	yes, maybe = newBits(f.max), newBits(f.max)
	var list []uint32
	for _, d := range docs {
		if candidates.has(d) && !maybe.has(d) {
			maybe.set(d)
			list = append(list, d)
		}
	}
	err = f.sequences(list, maybe, func(doc uint32, raw []byte) error {
		a, err := p.in(raw)
		switch {
		case a == No:
			maybe.unset(doc)
		case a == Yes && exact:
			maybe.unset(doc)
			yes.set(doc)
		}
		return err
	})
	return yes, maybe, err
}

// sequences reads the sequences of some documents: all that lie between them, or one by one.
func (f *finder) sequences(list []uint32, wanted bits, fn func(doc uint32, raw []byte) error) error {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	first, last := list[0], list[len(list)-1]
	if uint64(len(list))*sequenceDocument > uint64(last-first) {
		return f.sequenceRows(`SELECT id, words FROM seq WHERE id BETWEEN ? AND ?`, wanted, fn, int64(first), int64(last))
	}
	for _, d := range list {
		if err := f.sequenceRows(`SELECT id, words FROM seq WHERE id = ?`, wanted, fn, int64(d)); err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) sequenceRows(query string, wanted bits, fn func(doc uint32, raw []byte) error, args ...any) error {
	rows, err := f.tx.QueryContext(f.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var doc int64
		var raw sql.RawBytes
		if err := rows.Scan(&doc, &raw); err != nil {
			return err
		}
		if doc < 0 || doc > int64(f.max) || !wanted.has(uint32(doc)) {
			continue
		}
		if err := fn(uint32(doc), raw); err != nil {
			return err
		}
	}
	return rows.Err()
}
