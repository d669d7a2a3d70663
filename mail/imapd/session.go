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

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/view"
	"mailplusd/mail/wire"
)

const (
	maxLine         = 64 << 10  // octets of a command without its literals
	maxLiteral      = 1 << 20   // octets of all literals of a command, APPEND's message apart
	maxEarlyLiteral = 8 << 10   // the same before login
	maxDiscard      = 200 << 20 // a refused non-synchronising literal is read and thrown away up to here
	maxBad          = 30        // bad commands in a row before the session is closed
	maxEarly        = 100       // commands before login
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

// command reads one command, does it and answers it with its tag.
func (ss *session) command() error {
	ss.buf = trim(ss.buf)
	line, err := ss.c.ReadLine(maxLine)
	if errors.Is(err, wire.ErrLineTooLong) {
		ss.put("* BAD the line is too long\r\n")
		return ss.wrong()
	}
	if err != nil {
		return err
	}
	tag, rest, ok := bytes.Cut(line, []byte(" "))
	if len(tag) == 0 || !ok && len(tag) == 0 || !validTag(tag) {
		ss.put("* BAD a command needs a tag\r\n")
		return ss.wrong()
	}
	t := string(tag)
	ss.tag = t
	name, _, _ := bytes.Cut(rest, []byte(" "))
	word := strings.ToUpper(string(bytes.TrimRight(name, " ")))
	if ss.account == nil {
		if ss.early++; ss.early > maxEarly {
			ss.put("* BYE too many commands before login\r\n")
			ss.bye = true
			return nil
		}
	}
	text := string(rest[len(name):])
	if word == "UID" {
		sub, _, _ := strings.Cut(strings.TrimPrefix(text, " "), " ")
		if sub == "" {
			return ss.finish(t, word, bad{"UID needs a command"})
		}
		word += " " + strings.ToUpper(sub)
		text = strings.TrimPrefix(text, " ")[len(sub):]
	}
	cmd, known := commands[word]
	if known && cmd.raw {
		return ss.finish(t, word, ss.allowed(cmd, func() error { return cmd.doRaw(ss, t, text) }))
	}
	p, err := ss.args(text)
	if err != nil {
		var b bad
		if errors.As(err, &b) {
			return ss.finish(t, word, err)
		}
		return err
	}
	if !known {
		return ss.finish(t, word, bad{fmt.Sprintf("unknown command %.20q", word)})
	}
	return ss.finish(t, word, ss.allowed(cmd, func() error {
		if cmd.args {
			if err := p.Space(); err != nil {
				return bad{cmd.usage}
			}
		} else if err := p.End(); err != nil {
			return bad{err.Error()}
		}
		return cmd.do(ss, p)
	}))
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

func (ss *session) allowed(cmd command, do func() error) error {
	if cmd.in&ss.phase() == 0 {
		if ss.account == nil {
			return bad{"log in first"}
		}
		if cmd.in == notAuthenticated {
			return bad{"already logged in"}
		}
		return bad{"select a mailbox first"}
	}
	return do()
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

// args reads a command's literals and gives a parser of the whole.
func (ss *session) args(text string) (*imapparse.Parser, error) {
	var lits [][]byte
	total := 0
	limit := maxEarlyLiteral
	if ss.account != nil {
		limit = maxLiteral
	}
	if strings.IndexByte(text, 0) >= 0 {
		return nil, bad{"NUL in a command"}
	}
	var b strings.Builder
	for {
		n, sync, ok := literalAt(text)
		if !ok {
			b.WriteString(text)
			return imapparse.New(b.String(), lits), nil
		}
		if total+int(min(n, 1<<30)) > limit || len(lits) > 200 {
			if err := ss.refuseLiteral(n, sync); err != nil {
				return nil, err
			}
			return nil, bad{"the literal is too large"}
		}
		b.WriteString(text[:strings.LastIndexByte(text, '{')])
		b.WriteString("\x00" + strconv.Itoa(len(lits)) + "\x00")
		if sync {
			if err := ss.goAhead(); err != nil {
				return nil, err
			}
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(ss.c.Literal(n), lit); err != nil {
			return nil, &connError{err}
		}
		lits = append(lits, lit)
		total += int(n)
		line, err := ss.c.ReadLine(maxLine)
		if err != nil {
			return nil, &connError{err}
		}
		if bytes.IndexByte(line, 0) >= 0 || b.Len()+len(line) > maxLine {
			return nil, bad{"NUL in a command, or the command is too long"}
		}
		text = string(line)
	}
}

// refuseLiteral keeps in step with a client whose literal isn't taken: a synchronising one is not
// asked for, the other is read and thrown away.
func (ss *session) refuseLiteral(n int64, sync bool) error {
	if sync {
		return nil
	}
	if n > maxDiscard {
		ss.put("* BYE the literal is too large\r\n")
		ss.send()
		ss.c.Flush()
		return &connError{errors.New("literal too large")}
	}
	if _, err := io.Copy(io.Discard, ss.c.Literal(n)); err != nil {
		return &connError{err}
	}
	if _, err := ss.c.ReadLine(maxLine); err != nil {
		return &connError{err}
	}
	return nil
}

func (ss *session) goAhead() error {
	ss.put("+ OK\r\n")
	if err := ss.send(); err != nil {
		return &connError{err}
	}
	return nil
}

// literalAt tells whether a line ends with {n} or {n+}.
func literalAt(s string) (n int64, sync, ok bool) {
	if !strings.HasSuffix(s, "}") {
		return 0, false, false
	}
	i := strings.LastIndexByte(s, '{')
	if i < 0 {
		return 0, false, false
	}
	num, plus := strings.CutSuffix(s[i+1:len(s)-1], "+")
	if num == "" || len(num) > 15 {
		return 0, false, false
	}
	n, err := strconv.ParseInt(num, 10, 64)
	return n, !plus, err == nil && n >= 0
}

// mailboxName reads a mailbox name and decodes it.
func mailboxName(p *imapparse.Parser) (string, error) {
	raw, err := p.Mailbox()
	if err != nil {
		return "", bad{err.Error()}
	}
	name, err := decodeUTF7(raw)
	if err != nil {
		return "", no{"CANNOT", err.Error()}
	}
	return model.CanonicalMailboxName(strings.TrimSuffix(name, model.Delimiter)), nil
}

// usual wraps an error of the parser.
func usual(err error) error {
	if err == nil {
		return nil
	}
	return bad{err.Error()}
}
