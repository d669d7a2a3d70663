package pop3d

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/wire"
)

const (
	maxLine      = 255 // octets of a command with CRLF (RFC 2449 §4)
	maxAuthLine  = 12288
	maxBad       = 20 // wrong commands before the session is closed
	maxPreLogin  = 60 // commands before login
	uidlTemplate = "%08x%08x"
)

// message is one message of the snapshot.
type message struct {
	uid     model.UID
	size    int64
	body    model.BodyID
	deleted bool
}

// session is one connection: AUTHORIZATION until account is set, then TRANSACTION.
type session struct {
	srv      *Server
	c        *wire.Conn
	ctx      context.Context
	log      *slog.Logger
	user     string // given by USER
	account  *login.Account
	locked   bool
	mailbox  model.Mailbox
	messages []message
	utf8     bool
	bad      int
	commands int
	quit     bool
}

// command is one keyword: in which state it may come and what it does.
type command struct {
	login bool // TRANSACTION only
	both  bool
	do    func(*session, string) error
}

var commands = map[string]command{
	"USER": {do: (*session).doUser},
	"PASS": {do: (*session).doPass},
	"AUTH": {do: (*session).doAuth},
	"STLS": {do: (*session).doSTLS},
	"CAPA": {both: true, do: (*session).doCAPA},
	"UTF8": {both: true, do: (*session).doUTF8},
	"LANG": {both: true, do: (*session).doLANG},
	"QUIT": {both: true, do: (*session).doQuit},
	"NOOP": {login: true, do: func(ss *session, _ string) error { return ss.ok("") }},
	"STAT": {login: true, do: (*session).doStat},
	"LIST": {login: true, do: (*session).doList},
	"UIDL": {login: true, do: (*session).doUIDL},
	"RETR": {login: true, do: (*session).doRetr},
	"TOP":  {login: true, do: (*session).doTop},
	"DELE": {login: true, do: (*session).doDele},
	"RSET": {login: true, do: (*session).doRset},
}

func (ss *session) run() {
	if err := ss.ok(ss.srv.Settings().System.Hostname + " POP3 server ready"); err != nil {
		return
	}
	for !ss.quit {
		line, err := ss.c.ReadLine(maxLine)
		if errors.Is(err, wire.ErrLineTooLong) {
			if ss.wrong("the line is longer than 255 octets") != nil {
				return
			}
			continue
		}
		if err != nil {
			return
		}
		if err := ss.command(string(line)); err != nil {
			return
		}
	}
}

var errTooMany = errors.New("too many wrong commands")

func (ss *session) command(line string) error {
	name, arg, _ := strings.Cut(line, " ")
	if name = strings.ToUpper(name); name != "PASS" {
		arg = strings.TrimRight(arg, " ")
	}
	cmd, known := commands[name]
	ss.commands++
	if ss.account == nil && ss.commands > maxPreLogin {
		ss.fail("", "too many commands before login")
		return errTooMany
	}
	switch {
	case !known:
		return ss.wrong("unknown command")
	case cmd.both:
	case cmd.login && ss.account == nil:
		return ss.wrong("log in first")
	case !cmd.login && ss.account != nil:
		return ss.wrong("already logged in")
	}
	return cmd.do(ss, arg)
}

// wrong answers a bad command; too many of them end the session.
func (ss *session) wrong(text string) error {
	if ss.bad++; ss.bad > maxBad {
		ss.fail("", errTooMany.Error())
		return errTooMany
	}
	return ss.fail("", text)
}

func (ss *session) ok(text string) error {
	if text == "" {
		_, err := ss.c.WriteString("+OK\r\n")
		return err
	}
	_, err := ss.c.WriteString("+OK " + text + "\r\n")
	return err
}

// fail answers -ERR; code is a response code of RFC 2449 or RFC 3206 without brackets.
func (ss *session) fail(code, text string) error {
	if code != "" {
		text = "[" + code + "] " + text
	}
	_, err := ss.c.WriteString("-ERR " + text + "\r\n")
	return err
}

func (ss *session) end() {
	if ss.locked {
		ss.srv.unlock(ss.account.ID)
	}
}

func (ss *session) doCAPA(string) error {
	var b strings.Builder
	b.WriteString("+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nLOGIN-DELAY 0\r\nUTF8 USER\r\nLANG\r\n")
	if ss.account == nil {
		if ss.mayLogin() {
			b.WriteString("USER\r\nSASL PLAIN LOGIN\r\n")
		}
		if ss.c.CanTLS() {
			b.WriteString("STLS\r\n")
		}
	} else {
		b.WriteString("IMPLEMENTATION mailplusd\r\n")
	}
	b.WriteString(".\r\n")
	_, err := ss.c.WriteString(b.String())
	return err
}

func (ss *session) doUTF8(string) error {
	if ss.account != nil {
		return ss.wrong("UTF8 comes before login")
	}
	ss.utf8 = true
	return ss.ok("UTF-8 enabled")
}

func (ss *session) doLANG(arg string) error {
	switch strings.ToLower(arg) {
	case "":
		_, err := ss.c.WriteString("+OK\r\nen English\r\n.\r\n")
		return err
	case "en", "*", "i-default":
		return ss.ok("en")
	}
	return ss.wrong("only en is spoken here")
}

// find gives the message with a number of the snapshot.
func (ss *session) find(arg string) (*message, error) {
	n, ok := number(arg)
	if !ok || n < 1 || n > len(ss.messages) || ss.messages[n-1].deleted {
		return nil, ss.fail("", "no such message")
	}
	return &ss.messages[n-1], nil
}

// number reads digits and nothing else.
func number(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// total counts what is not deleted.
func (ss *session) total() (n int, size int64) {
	for i := range ss.messages {
		if !ss.messages[i].deleted {
			n++
			size += ss.messages[i].size
		}
	}
	return n, size
}

func (ss *session) doStat(string) error {
	n, size := ss.total()
	return ss.ok(fmt.Sprintf("%d %d", n, size))
}

// listing answers LIST and UIDL: one message, or all of them.
func (ss *session) listing(arg string, value func(*message) string) error {
	if arg != "" {
		m, err := ss.find(arg)
		if m == nil {
			return err
		}
		return ss.ok(arg + " " + value(m))
	}
	var b bytes.Buffer
	b.WriteString("+OK\r\n")
	for i := range ss.messages {
		if m := &ss.messages[i]; !m.deleted {
			b.WriteString(strconv.Itoa(i + 1))
			b.WriteByte(' ')
			b.WriteString(value(m))
			b.WriteString("\r\n")
		}
	}
	b.WriteString(".\r\n")
	_, err := ss.c.Write(b.Bytes())
	return err
}

func (ss *session) doList(arg string) error {
	return ss.listing(arg, func(m *message) string { return strconv.FormatInt(m.size, 10) })
}

// doUIDL names a message by UIDVALIDITY and UID: stable, and never used again.
func (ss *session) doUIDL(arg string) error {
	return ss.listing(arg, func(m *message) string { return fmt.Sprintf(uidlTemplate, ss.mailbox.UIDValidity, m.uid) })
}

func (ss *session) doRetr(arg string) error {
	m, err := ss.find(arg)
	if m == nil {
		return err
	}
	return ss.send(m, -1)
}

func (ss *session) doTop(arg string) error {
	which, lines, _ := strings.Cut(arg, " ")
	n, ok := number(lines)
	if !ok {
		return ss.wrong("TOP needs a message and a number of lines")
	}
	m, err := ss.find(which)
	if m == nil {
		return err
	}
	return ss.send(m, n)
}

// send writes a message, its dots stuffed; with lines >= 0 the header and so many lines.
func (ss *session) send(m *message, lines int) error {
	body, err := ss.srv.Store.Body(m.body)
	if err != nil && ss.removed(m) {
		return ss.fail("", "the message was removed by another program meanwhile")
	}
	if err != nil {
		ss.log.Error("body can't be read", "uid", m.uid, "body", m.body.String(), "err", err)
		return ss.fail("SYS/PERM", "the message can't be read; the administrator has been told")
	}
	defer body.Close()
	if lines < 0 {
		err = ss.ok(fmt.Sprintf("%d octets", m.size))
	} else {
		err = ss.ok("")
	}
	if err != nil {
		return err
	}
	ss.c.TraceOut(wire.TraceBody)
	defer ss.c.TraceOut(wire.TraceLines)
	w := &stuffer{w: ss.c, lines: lines, bol: true}
	if _, err := body.WriteTo(w); err != nil && !errors.Is(err, errEnough) {
		return err // the answer is cut: only closing tells the client so
	}
	return w.finish()
}

// removed tells whether a message of the snapshot is gone, by IMAP for example.
func (ss *session) removed(m *message) bool {
	_, err := ss.srv.Store.Message(ss.mailbox.ID, m.uid)
	return errors.Is(err, store.ErrNotFound)
}

func (ss *session) doDele(arg string) error {
	m, err := ss.find(arg)
	if m == nil {
		return err
	}
	m.deleted = true
	return ss.ok("deleted")
}

func (ss *session) doRset(string) error {
	for i := range ss.messages {
		ss.messages[i].deleted = false
	}
	n, size := ss.total()
	return ss.ok(fmt.Sprintf("%d messages (%d octets)", n, size))
}

// doQuit enters UPDATE: only now are messages removed (RFC 1939 §6).
func (ss *session) doQuit(string) error {
	ss.quit = true
	var uids []model.UID
	for i := range ss.messages {
		if ss.messages[i].deleted {
			uids = append(uids, ss.messages[i].uid)
		}
	}
	if len(uids) > 0 {
		if err := ss.expunge(uids); err != nil {
			ss.log.Error("deleted messages not removed", "err", err)
			return ss.fail("SYS/TEMP", "some deleted messages were not removed")
		}
	}
	return ss.ok("bye")
}
