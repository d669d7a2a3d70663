package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"mailplusd/mail/message"
)

// Columns of the index. TEXT asks all of them.
const (
	colSubject = iota
	colFrom
	colTo
	colCc
	colBcc
	colOther // every other field, and the names of those above
	colBody
	columns
)

var columnOf = map[string]int{"SUBJECT": colSubject, "FROM": colFrom, "TO": colTo, "CC": colCc, "BCC": colBcc}

// A token is one octet for its kind and then text. Words are what stands between spaces, without
// the parts in scripts that write without spaces; those are indexed as single characters and pairs.
const (
	kindWord    = 'w' // in the dictionary, too
	kindTriple  = '3' // three characters of a word that is too long for the dictionary
	kindLong    = 'L' // such a word is there
	kindChar    = '1' // a Chinese, Japanese or Korean character
	kindPair    = '2' // such a character and its neighbour in the same word
	maxWord     = 40  // characters; longer ones are signatures, addresses of pages and the like
	wordOctets  = maxWord * utf8.UTFMax
	asciiPuncts = `!"#$%&'()*+,-./:;<=>?@[\]^_` + "`{|}~"
)

// wide tells about characters of scripts that don't separate words by spaces, and of Korean.
func wide(r rune) bool {
	return r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo) || r == 'ー' || r == '々'
}

// tokens is the set of a message's tokens by column, and the order of its words.
type tokens struct {
	cjk  bool
	sets [columns]map[string]struct{}
	seq  sequence
}

// tokensOf takes a message apart. cjk: with the characters of Chinese, Japanese and Korean.
func tokensOf(w *message.Words, cjk bool) *tokens {
	t := &tokens{cjk: cjk}
	for i := range t.sets {
		t.sets[i] = map[string]struct{}{}
	}
	for i := range w.Fields {
		f := &w.Fields[i]
		col, own := columnOf[strings.ToUpper(f.Name)]
		if !own {
			col = colOther
		}
		t.seq.begin(colOther)
		t.text(colOther, message.Fold(f.Name)+":")
		if strings.HasPrefix(f.Value, " ") { // two spaces: no needle has them
			t.seq.begin(col)
		} else {
			t.seq.goOn(col)
		}
		t.text(col, f.Value)
	}
	for _, s := range w.Body {
		t.seq.begin(colBody)
		t.text(colBody, s)
	}
	return t
}

func (t *tokens) add(col int, kind byte, s string) { t.sets[col][string(kind)+s] = struct{}{} }

// text adds the tokens of a folded text.
func (t *tokens) text(col int, s string) {
	for word := range strings.SplitSeq(s, " ") {
		if word != "" {
			t.word(col, word)
		}
	}
}

// word adds the tokens of what stands between two spaces.
func (t *tokens) word(col int, s string) {
	start, prev, prevAt := 0, rune(-1), 0 // of the narrow run; of the character before
	for i, r := range s {
		if w := wide(r); w || wide(prev) {
			if prev >= 0 && t.cjk {
				t.add(col, kindPair, s[prevAt:i+utf8.RuneLen(r)])
			}
			if w {
				t.narrow(col, s[start:i])
				start = i + utf8.RuneLen(r)
				if t.cjk {
					t.add(col, kindChar, s[i:start])
				}
			}
		}
		prev, prevAt = r, i
	}
	t.narrow(col, s[start:])
	if start == 0 && !isLong(s) {
		t.seq.word(s)
	} else {
		t.seq.unknown(s)
	}
}

// isLong tells about words that are not in the dictionary.
func isLong(s string) bool { return len(s) > maxWord && utf8.RuneCountInString(s) > maxWord }

// narrow adds a run without wide characters.
func (t *tokens) narrow(col int, s string) {
	if s == "" {
		return
	}
	if !isLong(s) {
		t.add(col, kindWord, s)
		return
	}
	t.add(col, kindLong, "")
	for _, tri := range grams(s, 3) {
		t.add(col, kindTriple, tri)
	}
}

// grams gives every run of n characters of s; nothing when it is shorter.
func grams(s string, n int) []string {
	var at []int
	for i := range s {
		at = append(at, i)
	}
	at = append(at, len(s))
	var out []string
	for i := 0; i+n < len(at); i++ {
		out = append(out, s[at[i]:at[i+n]])
	}
	return out
}

// piece is a part of a needle between spaces.
type piece struct {
	text       string
	head, tail bool // a word starts, ends here
	chars      int
	wide       bool
}

// pieces takes a folded needle apart. None: the needle is nothing but spaces.
func pieces(needle string) (out []piece) {
	words := strings.Split(needle, " ")
	for i, w := range words {
		if w == "" {
			continue
		}
		out = append(out, piece{text: w, head: i > 0, tail: i < len(words)-1, chars: utf8.RuneCountInString(w), wide: strings.ContainsFunc(w, wide)})
	}
	return out
}
