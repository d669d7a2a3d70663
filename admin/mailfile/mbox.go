package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// mboxReader reads the messages of an mbox one after the other.
//
// A message begins with a line "From sender date" at the start of the file or behind an empty
// line. A line that only looks a little like it (a sentence that begins with "From") is text. Text
// lines of the form ">…>From " have been quoted by the writer and lose one ">" (mboxrd).
type mboxReader struct {
	br    *bufio.Reader
	from  []byte // the "From " line of the next message, when it has been read
	n     int    // messages so far
	err   error
	start bool // nothing has been read yet
}

func newMboxReader(r io.Reader) *mboxReader {
	return &mboxReader{br: bufio.NewReaderSize(r, 64<<10), start: true}
}

// next gives the next message; io.EOF behind the last one. What is left of the one before is passed over.
func (m *mboxReader) next() (*mboxMessage, error) {
	if m.start {
		m.start = false
		for {
			line, err := m.line()
			if len(bytes.TrimSpace(line)) > 0 {
				if !bytes.HasPrefix(line, []byte("From ")) {
					return nil, errors.New("is no mbox: it does not begin with a \"From \" line")
				}
				m.from = bytes.Clone(line)
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if m.from == nil {
		if m.err == nil {
			m.err = io.EOF
		}
		return nil, m.err
	}
	m.n++
	msg := &mboxMessage{m: m, atStart: true}
	msg.date, _ = fromDate(m.from)
	m.from = nil
	return msg, msg.readHeader()
}

// line reads up to a line end, or a piece of a line that is longer than the buffer.
func (m *mboxReader) line() ([]byte, error) {
	line, err := m.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return line, err
}

// mboxMessage reads one message without what the mbox has put in.
type mboxMessage struct {
	m       *mboxReader
	flags   []string
	date    time.Time
	folder  bool   // the pseudo message in which some programs keep data of their own
	pending []byte // to be given out
	blank   bool   // an empty line has been read that belongs to the text only if more comes
	atStart bool   // at the start of a line
	done    bool
}

// Read implements io.Reader.
func (m *mboxMessage) Read(p []byte) (int, error) {
	for len(m.pending) == 0 {
		if m.done {
			return 0, io.EOF
		}
		text, err := m.text()
		if err != nil {
			return 0, err
		}
		m.pending = text
	}
	n := copy(p, m.pending)
	m.pending = m.pending[n:]
	return n, nil
}

// text gives the next line of the message, with CRLF and unquoted; empty at its end.
func (m *mboxMessage) text() ([]byte, error) {
	if m.m.err != nil {
		m.done = true
		return nil, nil
	}
	line, err := m.m.line()
	if err != nil && !errors.Is(err, io.EOF) {
		m.done = true
		return nil, err
	}
	m.m.err = err
	if len(line) == 0 {
		m.done = true
		return nil, nil
	}
	whole := line[len(line)-1] == '\n'
	if !whole && err == nil && len(line) > 1 && line[len(line)-1] == '\r' { // perhaps of the line end
		if err := m.m.br.UnreadByte(); err != nil {
			return nil, err
		}
		line = line[:len(line)-1]
	}
	if m.atStart && bytes.HasPrefix(line, []byte("From ")) && m.blank {
		if _, ok := fromDate(line); ok {
			m.m.from, m.done = bytes.Clone(line), true
			return nil, nil
		}
	}
	var out []byte
	if m.blank {
		out = append(out, '\r', '\n')
		m.blank = false
	}
	if m.atStart && isBlank(line) {
		m.blank = true
		return out, nil
	}
	if m.atStart && quotedFrom(line) {
		line = line[1:]
	}
	m.atStart = whole
	if whole {
		line = bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
	}
	out = append(out, line...)
	if whole || err != nil { // a message ends with a line end, though the file may not
		out = append(out, '\r', '\n')
	}
	return out, nil
}

func isBlank(line []byte) bool { return len(line) == 1 && line[0] == '\n' || string(line) == "\r\n" }

// quotedFrom recognises ">From ", ">>From " and so on.
func quotedFrom(line []byte) bool {
	rest := bytes.TrimLeft(line, ">")
	return len(rest) < len(line) && bytes.HasPrefix(rest, []byte("From "))
}

// mboxFields are the header fields in which programs keep flags and numbers in an mbox.
var mboxFields = []string{"status", "x-status", "x-keywords", "x-uid", "x-imap", "x-imapbase"}

// readHeader reads the header, takes the flags and leaves the mbox's own fields out. A header that
// is too long is text from there on.
func (m *mboxMessage) readHeader() error {
	var head []byte
	drop := false
	for len(head) < maxHeader {
		line, err := m.text()
		if err != nil {
			return err
		}
		if m.blank || m.done { // the empty line behind the header, or no more
			head = append(head, line...)
			break
		}
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if !drop {
				head = append(head, line...)
			}
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if drop = ok && slices.Contains(mboxFields, name); drop {
			m.field(name, strings.TrimSpace(value))
			continue
		}
		head = append(head, line...)
	}
	m.pending = head
	return nil
}

// field takes the flags of one field, as mutt and Dovecot write them.
func (m *mboxMessage) field(name, value string) {
	add := func(of map[rune]string) {
		for _, c := range value {
			if f := of[c]; f != "" && !slices.Contains(m.flags, f) {
				m.flags = append(m.flags, f)
			}
		}
	}
	switch name {
	case "status":
		add(map[rune]string{'R': `\Seen`})
	case "x-status":
		add(map[rune]string{'A': `\Answered`, 'F': `\Flagged`, 'D': `\Deleted`, 'T': `\Draft`})
	case "x-keywords":
		for _, w := range strings.Fields(value) {
			if isKeyword(w) && !slices.Contains(m.flags, w) {
				m.flags = append(m.flags, w)
			}
		}
	case "x-imap":
		m.folder = true
	}
}

// isKeyword tells whether a word can be a keyword (an atom of RFC 9051 that is no system flag).
func isKeyword(w string) bool {
	return w != "" && len(w) <= 255 && !strings.ContainsFunc(w, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
	})
}

// fromDate reads the time of a "From " line: weekday, month, day, time and year behind the sender,
// perhaps with a zone. ok is false when there is none.
func fromDate(line []byte) (t time.Time, ok bool) {
	f := strings.Fields(string(line[:min(len(line), 512)]))
	for i := 1; i+4 < len(f); i++ {
		if len(f[i]) != 3 || len(f[i+1]) != 3 {
			continue
		}
		rest := f[i : i+5]
		zone := ""
		if i+5 < len(f) && len(rest[4]) != 4 { // Mon Jan 2 15:04:05 MST 2006
			zone, rest = rest[4], append(slices.Clone(rest[:4]), f[i+5])
		} else if i+5 < len(f) {
			zone = f[i+5] // Mon Jan 2 15:04:05 2006 +0100
		}
		for _, layout := range []string{"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04 2006"} {
			text := strings.Join(rest, " ")
			if t, err := time.Parse(layout+" -0700", text+" "+zone); err == nil {
				return t, true
			}
			if t, err := time.Parse(layout, text); err == nil {
				return t, true
			}
		}
	}
	return t, false
}

// readMbox gives every message of an mbox.
func readMbox(r io.Reader, mailbox, name string, take Take) error {
	m := newMboxReader(r)
	for {
		msg, err := m.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !msg.folder {
			it := Item{Mailbox: mailbox, Name: fmt.Sprintf("%s, message %d", name, m.n), Flags: msg.flags, Date: msg.date}
			if err := take(it, msg, nil); err != nil {
				return err
			}
		}
		if _, err := io.Copy(io.Discard, msg); err != nil {
			return err
		}
	}
}
