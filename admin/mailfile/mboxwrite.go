package mailfile

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// mboxWriter writes the text of one message into an mbox: LF line ends, "From " lines quoted.
type mboxWriter struct {
	w     *bufio.Writer
	cr    bool // a CR has come whose line end may follow
	start bool // at the start of a line, of which gt ">" and from octets of "From " have come
	gt    int
	from  int
	last  byte
}

// begin writes the separator and the flags, which stand before all other fields.
func (m *mboxWriter) begin(it *Item) error {
	date := it.Date
	if date.IsZero() {
		date = time.Unix(0, 0)
	}
	status, x, words := "O", "", []string{}
	for _, f := range it.Flags {
		switch strings.ToLower(f) {
		case `\seen`:
			status = "RO"
		case `\answered`:
			x += "A"
		case `\flagged`:
			x += "F"
		case `\draft`:
			x += "T"
		case `\deleted`:
			x += "D"
		default:
			if isKeyword(f) {
				words = append(words, f)
			}
		}
	}
	fmt.Fprintf(m.w, "From MAILER-DAEMON %s\nStatus: %s\n", date.UTC().Format("Mon Jan _2 15:04:05 2006"), status)
	if x != "" {
		fmt.Fprintf(m.w, "X-Status: %s\n", x)
	}
	if len(words) > 0 {
		fmt.Fprintf(m.w, "X-Keywords: %s\n", strings.Join(words, " "))
	}
	m.cr, m.start, m.gt, m.from, m.last = false, true, 0, 0, '\n'
	return nil
}

const fromWord = "From "

// Write implements io.Writer.
func (m *mboxWriter) Write(p []byte) (int, error) {
	for _, c := range p {
		if m.cr {
			m.cr = false
			if c != '\n' {
				m.put('\r')
			}
		}
		if c == '\r' {
			m.cr = true
			continue
		}
		m.put(c)
	}
	return len(p), nil
}

func (m *mboxWriter) put(c byte) {
	if m.start {
		switch {
		case m.from == 0 && c == '>':
			m.gt++
			return
		case c == fromWord[m.from]:
			if m.from++; m.from == len(fromWord) {
				m.w.WriteByte('>')
				m.undecided()
			}
			return
		}
		m.undecided()
	}
	m.w.WriteByte(c)
	m.start, m.last = c == '\n', c
}

// undecided writes the start of a line that was held back.
func (m *mboxWriter) undecided() {
	for range m.gt {
		m.w.WriteByte('>')
		m.last = '>'
	}
	if m.from > 0 {
		m.w.WriteString(fromWord[:m.from])
		m.last = fromWord[m.from-1]
	}
	m.start, m.gt, m.from = false, 0, 0
}

// end completes the message: a line end, and the empty line before the next one.
func (m *mboxWriter) end() error {
	if m.cr {
		m.cr = false
		m.put('\r')
	}
	m.undecided()
	if m.last != '\n' {
		m.w.WriteByte('\n')
	}
	m.w.WriteByte('\n')
	return m.w.Flush()
}

var _ io.Writer = (*mboxWriter)(nil)
