package imapd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/view"
	"mailplusd/mail/wire"
)

const (
	maxBad   = 30  // bad commands in a row before the session is closed
	maxEarly = 100 // commands before login
)

// phase is the state of a session (RFC 3501 §3).
type phase uint8

const (
	notAuthenticated phase = 1 << iota
	authenticated
	selected
)

// session is one connection.
type session struct {
	srv      *Server
	c        *wire.Conn
	ctx      context.Context
	log      *slog.Logger
	account  *login.Account
	view     *view.View
	readOnly bool
	enabled  feature     // what the client has turned on
	saved    []model.UID // what $ stands for (RFC 5182), ascending
	tag      string
	bad      int
	early    int
	buf      []byte // answer under construction, reused
	bye      bool
}

// no is a refusal that is answered with NO, bad one that is answered with BAD.
type no struct{ code, text string }
type bad struct{ text string }

func (e no) Error() string  { return e.text }
func (e bad) Error() string { return e.text }

func (ss *session) phase() phase {
	switch {
	case ss.view != nil:
		return selected
	case ss.account != nil:
		return authenticated
	}
	return notAuthenticated
}

func (ss *session) run() {
	// With implicit TLS what is offered depends on it, and the greeting says that.
	if err := ss.c.Handshake(); err != nil {
		ss.log.Debug("IMAP session ends", "err", err)
		return
	}
	ss.put("* OK [CAPABILITY ", ss.capabilities(), "] ", ss.srv.Settings().System.Hostname, " IMAP4rev1 ready\r\n")
	for !ss.bye {
		if err := ss.send(); err != nil {
			return
		}
		if err := ss.command(); err != nil {
			if !errors.Is(err, io.EOF) {
				ss.log.Debug("IMAP session ends", "err", err)
			}
			return
		}
	}
	ss.send()
	ss.c.Flush()
}

// put appends to the answer.
func (ss *session) put(parts ...string) {
	for _, p := range parts {
		ss.buf = append(ss.buf, p...)
	}
}

const sendAt = 64 << 10

// send hands the answer to the connection, which writes it when it would otherwise wait.
func (ss *session) send() error {
	if len(ss.buf) == 0 {
		return nil
	}
	_, err := ss.c.Write(ss.buf)
	if cap(ss.buf) > 4*sendAt {
		ss.buf = nil
	} else {
		ss.buf = ss.buf[:0]
	}
	return err
}

// readLine reads a line. Of one that is too long, errLong has what is needed to stay in step.
func (ss *session) readLine() ([]byte, error) {
	line, err := ss.c.ReadLine(maxLine)
	if errors.Is(err, wire.ErrLineTooLong) {
		head, tail := ss.c.Overlong()
		tag, _ := tagOf(head)
		return nil, &errLong{tag: tag, tail: string(tail)}
	}
	if err != nil {
		return nil, &connError{err}
	}
	return line, nil
}

// errLong is a line that was longer than allowed: its tag, if it began a command, and its end.
type errLong struct{ tag, tail string }

func (e *errLong) Error() string { return "the line is too long" }

// command reads one command, does it and answers it with its tag.
func (ss *session) command() error {
	ss.buf = trim(ss.buf)
	line, err := ss.readLine()
	if long := new(errLong); errors.As(err, &long) {
		return ss.tooLong(long.tag, long)
	}
	if err != nil {
		return err
	}
	tag, rest := tagOf(line)
	if tag == "" {
		text := string(line)
		ss.put("* BAD a command needs a tag\r\n")
		if err := ss.skip(text); err != nil {
			return err
		}
		return ss.wrong()
	}
	ss.tag = tag
	if ss.account == nil {
		if ss.early++; ss.early > maxEarly {
			ss.put("* BYE too many commands before login\r\n")
			ss.bye = true
			return nil
		}
	}
	word, text := commandWord(string(rest))
	err = ss.perform(tag, word, text)
	if long := new(errLong); errors.As(err, &long) {
		return ss.tooLong(tag, long)
	}
	if ss.has(featQresync) && ss.view != nil && ss.view.Pending() {
		ss.putHighest() // mod-sequences above those of expunges to come don't count yet (RFC 7162 §3.2)
	}
	return ss.finish(tag, word, err)
}

// commandWord splits what follows a tag into the command's name, of two words with UID, and its
// arguments with the space before them.
func commandWord(rest string) (word, text string) {
	name, _, _ := strings.Cut(rest, " ")
	word, text = strings.ToUpper(name), rest[len(name):]
	if word == "UID" {
		sub, _, _ := strings.Cut(strings.TrimPrefix(text, " "), " ")
		word += " " + strings.ToUpper(sub)
		text = strings.TrimPrefix(text, " ")[len(sub):]
	}
	return word, text
}

// tooLong refuses a command of which a line was too long to be read.
func (ss *session) tooLong(tag string, long *errLong) error {
	if tag == "" {
		tag = "*"
	}
	ss.put(tag, " BAD the line is longer than ", strconv.Itoa(maxLine), " octets\r\n")
	if err := ss.skip(long.tail); err != nil {
		return err
	}
	return ss.wrong()
}

// perform does a command. When it is refused before its literals were read, they are thrown away.
func (ss *session) perform(tag, word, text string) error {
	cmd, known := commands[word]
	if known && cmd.in&ss.phase() == 0 {
		return ss.refuse(text, ss.misplaced(cmd))
	}
	if known && cmd.raw {
		return cmd.doRaw(ss, tag, text)
	}
	if !known {
		return ss.refuse(word+text, bad{fmt.Sprintf("unknown command %.20q", word)})
	}
	p, err := ss.args(text)
	if err != nil {
		return err
	}
	if cmd.args {
		if err := p.Space(); err != nil {
			return bad{cmd.usage}
		}
	} else if err := p.End(); err != nil {
		return bad{err.Error()}
	}
	return cmd.do(ss, p)
}

// misplaced says why a command can't come now.
func (ss *session) misplaced(cmd command) error {
	if ss.account == nil {
		return bad{"log in first"}
	}
	if cmd.in == notAuthenticated {
		return bad{"already logged in"}
	}
	return bad{"select a mailbox first"}
}

func trim(b []byte) []byte {
	if cap(b) > 16<<10 {
		return nil
	}
	return b[:0]
}

func validTag(tag []byte) bool {
	if len(tag) > 64 {
		return false
	}
	for _, c := range tag {
		if c <= ' ' || c >= 0x7f || bytes.IndexByte([]byte(`(){%*"\+`), c) >= 0 {
			return false
		}
	}
	return len(tag) > 0
}

// finish writes the tagged answer. Errors of the connection end the session.
func (ss *session) finish(tag, name string, err error) error {
	var n no
	var b bad
	switch {
	case err == nil:
		ss.bad = 0
		ss.put(tag, " OK ", ss.okText(name), "\r\n")
		return nil
	case errors.As(err, &n):
		ss.put(tag, " NO ")
		if n.code != "" {
			ss.put("[", n.code, "] ")
		}
		ss.put(clean(n.text), "\r\n")
		return nil
	case errors.As(err, &b):
		ss.put(tag, " BAD ", clean(b.text), "\r\n")
		return ss.wrong()
	case errors.Is(err, errTagged):
		return nil
	}
	if s := new(selectDone); errors.As(err, s) {
		ss.bad = 0
		ss.put(tag, " OK ", s.text, "\r\n")
		return nil
	}
	if conn := new(connError); errors.As(err, &conn) {
		return err
	}
	n = ss.explain(err)
	ss.put(tag, " NO [", n.code, "] ", clean(n.text), "\r\n")
	return nil
}

// errTagged says that the command has written its tagged answer itself.
var errTagged = errors.New("answered")

// connError is a failure of the connection, after which nothing can be answered.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

// explain turns an error of the store into NO.
func (ss *session) explain(err error) no {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return no{"NONEXISTENT", "there is no such mailbox"}
	case errors.Is(err, store.ErrExists):
		return no{"ALREADYEXISTS", err.Error()}
	case errors.Is(err, store.ErrLimit):
		return no{"LIMIT", err.Error()}
	case errors.Is(err, store.ErrInvalid):
		return no{"CANNOT", err.Error()}
	case errors.Is(err, store.ErrNoSpace):
		return no{"OVERQUOTA", "the disk is full, try again later"}
	case errors.Is(err, context.Canceled):
		return no{"UNAVAILABLE", "the connection ends"}
	}
	ss.log.Error("IMAP command failed", "err", err)
	return no{"UNAVAILABLE", "it can't be done at the moment"}
}

func (ss *session) okText(name string) string {
	if name == "LOGIN" || name == "AUTHENTICATE" {
		return "[CAPABILITY " + ss.capabilities() + "] logged in"
	}
	return name + " completed"
}

// wrong counts bad commands; too many end the session.
func (ss *session) wrong() error {
	if ss.bad++; ss.bad > maxBad {
		ss.put("* BYE too many bad commands\r\n")
		ss.bye = true
	}
	return nil
}

// clean keeps a text on one line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.TrimSpace(s)
}

// usual wraps an error of the parser.
func usual(err error) error {
	if err == nil {
		return nil
	}
	return bad{err.Error()}
}
