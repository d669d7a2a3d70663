package mailfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Target writes mail into files below a directory.
type Target struct {
	dir    string
	format string

	mailbox string // the one whose mbox is open
	mbox    *os.File
	w       mboxWriter
	skipped map[string]bool            // mailboxes whose mbox is there already
	there   map[string]map[string]bool // by Maildir: messages that are in it already
	words   map[string][]string
}

// Create prepares a directory, which it makes if need be.
func Create(dir, format string) (*Target, error) {
	if !slices.Contains([]string{Mbox, Maildir, EML}, format) {
		return nil, fmt.Errorf("%q is no format; there are mbox, maildir and eml", format)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Target{dir: dir, format: format, skipped: map[string]bool{}, there: map[string]map[string]bool{}, words: map[string][]string{}}, nil
}

// Piece is one message that is being written.
type Piece struct {
	t     *Target
	it    Item
	f     *os.File // Maildir, EML: under a temporary name
	final string
	start int64 // mbox: where the message begins
}

// Message begins a message; nil when it is there already. Messages of one mailbox come together.
func (t *Target) Message(it Item) (*Piece, error) {
	switch t.format {
	case Mbox:
		return t.mboxMessage(it)
	case Maildir:
		return t.maildirMessage(it)
	}
	dir := filepath.Join(t.dir, pathOf(it.Mailbox))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d-%010d.eml", it.UIDValidity, it.UID)
	return t.file(it, filepath.Join(dir, name), filepath.Join(dir, "."+name+".part"))
}

// file begins a message in a file of its own.
func (t *Target) file(it Item, final, part string) (*Piece, error) {
	if _, err := os.Lstat(final); err == nil {
		return nil, nil
	}
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) { // of an export that was interrupted
		return nil, err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &Piece{t: t, it: it, f: f, final: final}, nil
}

func (t *Target) maildirMessage(it Item) (*Piece, error) {
	dir := filepath.Join(t.dir, pathOf(it.Mailbox))
	there := t.there[dir]
	if there == nil {
		var err error
		if there, err = maildirBases(dir); err != nil {
			return nil, err
		}
		t.there[dir] = there
	}
	base := fmt.Sprintf("%d.V%dU%010d.mailplusd", it.Date.Unix(), it.UIDValidity, it.UID)
	if there[base] { // whatever flags its reader has given it
		return nil, nil
	}
	letters, err := t.letters(dir, it.Flags)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s,S=%d:2,%s", base, it.Size, letters)
	return t.file(it, filepath.Join(dir, "cur", name), filepath.Join(dir, "tmp", base))
}

// maildirBases makes a Maildir where there is none and lists the messages in it, without size and flags.
func maildirBases(dir string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, sub := range []string{"cur", "new", "tmp"} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		if sub == "tmp" {
			continue
		}
		list, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			name, _, _ := strings.Cut(e.Name(), ":")
			name, _, _ = strings.Cut(name, ",")
			out[name] = true
		}
	}
	return out, nil
}

// letters gives a message's flags as Maildir letters in the order of the alphabet. Keywords take
// small letters as in Dovecot, which are listed in dovecot-keywords; the 27th has none.
func (t *Target) letters(dir string, flags []string) (string, error) {
	var out []byte
	for c, f := range maildirFlags {
		if slices.ContainsFunc(flags, func(x string) bool { return strings.EqualFold(x, f) }) {
			out = append(out, c)
		}
	}
	words := t.words[dir]
	if words == nil {
		words = make([]string, 0, 26)
		have := dovecotKeywords(dir)
		for c := byte('a'); have[c] != ""; c++ {
			words = append(words, have[c])
		}
	}
	known := len(words)
	for _, f := range flags {
		if strings.HasPrefix(f, `\`) || strings.EqualFold(f, "$Forwarded") || !isKeyword(f) {
			continue
		}
		i := slices.Index(words, f)
		if i < 0 && len(words) < 26 {
			i, words = len(words), append(words, f)
		}
		if i >= 0 {
			out = append(out, byte('a'+i))
		}
	}
	t.words[dir] = words
	slices.Sort(out)
	if len(words) == known {
		return string(out), nil
	}
	return string(out), appendKeywords(filepath.Join(dir, keywordsFile), words, known)
}

func appendKeywords(path string, words []string, known int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for i := known; i < len(words); i++ {
		if _, err = fmt.Fprintf(f, "%d %s\n", i, words[i]); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// mboxMessage begins a message in its mailbox's mbox, which gets its name when it is complete.
func (t *Target) mboxMessage(it Item) (*Piece, error) {
	if t.mbox == nil || t.mailbox != it.Mailbox {
		if err := t.endMbox(); err != nil {
			return nil, err
		}
		final := t.mboxPath(it.Mailbox)
		if _, err := os.Lstat(final); err == nil {
			t.skipped[it.Mailbox] = true
		}
		if t.skipped[it.Mailbox] {
			return nil, nil
		}
		if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
			return nil, err
		}
		part := final + ".part"
		if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		t.mbox, t.mailbox = f, it.Mailbox
		t.w = mboxWriter{w: bufio.NewWriterSize(f, 64<<10)}
	}
	at, err := t.mbox.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	return &Piece{t: t, it: it, start: at}, t.w.begin(&it)
}

func (t *Target) mboxPath(mailbox string) string {
	return filepath.Join(t.dir, pathOf(mailbox)+".mbox")
}

func (t *Target) endMbox() error {
	if t.mbox == nil {
		return nil
	}
	f := t.mbox
	t.mbox = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return place(f.Name(), t.mboxPath(t.mailbox))
}

// place gives a finished file its name unless that is taken.
func place(part, final string) error {
	if err := os.Link(part, final); err != nil {
		return err
	}
	return os.Remove(part)
}

// Skipped names the mailboxes that were left alone because their mbox is there already.
func (t *Target) Skipped() []string {
	var out []string
	for m := range t.skipped {
		out = append(out, m)
	}
	slices.Sort(out)
	return out
}

// Close completes what is open.
func (t *Target) Close() error { return t.endMbox() }

// Abort leaves an unfinished mbox under its temporary name.
func (t *Target) Abort() {
	if t.mbox != nil {
		t.mbox.Close()
		t.mbox = nil
	}
}

// Write implements io.Writer.
func (p *Piece) Write(b []byte) (int, error) {
	if p.f != nil {
		return p.f.Write(b)
	}
	return p.t.w.Write(b)
}

// Commit completes the message.
func (p *Piece) Commit() error {
	if p.f == nil {
		return p.t.w.end()
	}
	err := p.f.Close()
	if err == nil && !p.it.Date.IsZero() {
		err = os.Chtimes(p.f.Name(), time.Time{}, p.it.Date)
	}
	if err != nil {
		return err
	}
	return place(p.f.Name(), p.final)
}

// Abort takes away what was written of the message.
func (p *Piece) Abort() error {
	if p.f != nil {
		return errors.Join(p.f.Close(), os.Remove(p.f.Name()))
	}
	p.t.w.w.Reset(p.t.mbox)
	if err := p.t.mbox.Truncate(p.start); err != nil {
		return err
	}
	_, err := p.t.mbox.Seek(p.start, io.SeekStart)
	return err
}
