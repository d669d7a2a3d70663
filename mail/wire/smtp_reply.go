package wire

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"
)

var bg = context.Background()

// Write takes the engine's replies, line by line as it flushes them, and passes
// them on whole.
func (s *SMTPConn) Write(p []byte) (int, error) {
	if !s.greeted {
		s.greeted = true
		s.greet()
		return len(p), nil
	}
	whole := p
	if len(s.out) > 0 || !lastLine(p) {
		s.out = append(s.out, p...)
		if !lastLine(s.out) {
			return len(p), nil
		}
		whole = s.out
	}
	s.handle(whole)
	s.out = nil
	return len(p), nil
}

// lastLine reports whether b ends with the last line of a reply: "250 text".
func lastLine(b []byte) bool {
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		return false
	}
	i := bytes.LastIndexByte(b[:len(b)-2], '\n') + 1
	return len(b)-i >= 5 && b[i+3] != '-'
}

// greet tests the client and sends the greeting instead of the engine's.
func (s *SMTPConn) greet() {
	if err := s.prepare(); err != nil {
		_ = s.hangup(err)
		return
	}
	delay := s.cfg.Pregreet
	if s.cfg.PregreetDelay != nil {
		delay = s.cfg.PregreetDelay(s)
	}
	if !s.IsTLS() {
		if delay > 0 && s.cfg.Teaser != "" {
			_, _ = s.Conn.WriteString("220-" + s.cfg.Teaser + "\r\n")
		}
		s.pregreet = s.talksFirst(delay)
		if s.gone {
			return
		}
	}
	var r *Reply
	if s.pregreet {
		r = errPregreet
		if s.cfg.OnPregreet != nil {
			r = s.cfg.OnPregreet(s)
		} else if delay <= 0 {
			r = nil // no test was asked for
		}
	}
	if r == nil && s.cfg.OnConnect != nil {
		r = s.cfg.OnConnect(s)
	}
	if r != nil {
		s.end(r, ReasonProtocol)
		return
	}
	_, _ = s.Conn.Write(s.banner().line())
}

func (s *SMTPConn) banner() *Reply {
	text := s.cfg.Banner
	if text == "" {
		text = "ESMTP"
	}
	return &Reply{Code: 220, Text: s.cfg.Hostname + " " + text}
}

// talksFirst waits for input for a time and reports whether some came.
func (s *SMTPConn) talksFirst(d time.Duration) bool {
	if d <= 0 {
		return s.waiting()
	}
	c := s.Conn
	c.clock.restart(phaseIdle)
	_ = c.SetReadDeadline(time.Now().Add(d))
	err := c.fill(1)
	_ = c.SetReadDeadline(time.Time{})
	if err != nil && !isTimeout(err) {
		_ = s.hangup(err)
		return false
	}
	return err == nil
}

// handle passes on a whole reply of the engine and follows the state it brings.
func (s *SMTPConn) handle(b []byte) {
	verb := s.verb
	code, err := strconv.Atoi(string(b[:min(3, len(b))]))
	if err != nil {
		code = 0
	}
	if s.mode == modeData || (s.mode == modeBDAT && s.gone) {
		s.mode = modeCommand // the engine has given the message up
	}
	if s.gone {
		return
	}
	if w := s.swap; w != nil && w.reply != nil {
		s.swapped(w, verb)
		return
	}
	r := s.reply(verb, code, b)
	s.follow(verb, code)
	switch {
	case r != nil:
		s.answer(r)
	case code >= 400:
		s.answerLines(code, code == 421 || code == 521, b)
	default:
		_, _ = s.Conn.Write(b)
	}
	if s.closing || (verb == "QUIT" && code == 221) {
		s.gone = true
		_ = s.Conn.CloseWith(ReasonServer)
	}
}

// swapped answers in place of the engine, which was only made to reset.
func (s *SMTPConn) swapped(w *swap, verb string) {
	r := w.reply
	s.swap = nil
	s.mode = modeCommand
	if verb != verbSASL {
		s.endTransaction()
	}
	if w.then != nil {
		s.swap = &swap{then: w.then}
	}
	s.answer(r)
}

// reply turns the engine's reply into ours; nil passes it unchanged.
func (s *SMTPConn) reply(verb string, code int, b []byte) *Reply {
	if (verb == verbEnd || verb == "BDAT") && s.fault != nil {
		return s.fault
	}
	if code == 250 && (verb == "EHLO" || verb == "HELO") {
		return s.heloReply(verb, b)
	}
	if bytes.Count(b, []byte("\n")) > 1 {
		return nil
	}
	r := parseReply(code, b)
	switch {
	case verb == "MAIL" && code == 250:
		r.Enh, r.Text = "2.1.0", "Ok"
	case verb == "RCPT" && code == 250:
		r.Enh, r.Text = "2.1.5", "Ok"
	case code == 354:
		r.Text = "End data with <CR><LF>.<CR><LF>"
	case code == 502 && r.Enh == "5.5.1":
		r.Code = 503 // the gate lets only implemented commands through
	case code >= 400 && leaks(r.Text):
		r.Text = "Error: internal error, try again later"
	}
	if s.cfg.OnReply != nil {
		s.cfg.OnReply(s, verb, r)
	}
	return r
}

// parseReply takes a one-line reply apart.
func parseReply(code int, b []byte) *Reply {
	text := strings.TrimRight(string(b[min(4, len(b)):]), "\r\n")
	r := &Reply{Code: code, Text: text}
	if enh, rest, ok := strings.Cut(text, " "); ok && len(enh) >= 5 && enh[1] == '.' && strings.Count(enh, ".") == 2 &&
		strings.Trim(enh, "0123456789.") == "" {
		r.Enh, r.Text = enh, rest
	}
	return r
}

// leaks recognises the text of a Go network error, which names both sockets.
func leaks(text string) bool {
	return strings.Contains(text, "->") && (strings.Contains(text, "tcp") || strings.Contains(text, "unix"))
}

// heloReply begins with our name (RFC 5321 §4.1.1.1) and edits the extensions.
func (s *SMTPConn) heloReply(verb string, b []byte) *Reply {
	if verb == "HELO" {
		return &Reply{Code: 250, Text: s.cfg.Hostname}
	}
	var caps []string
	for i, line := range strings.Split(strings.TrimRight(string(b), "\r\n"), "\r\n") {
		if i == 0 || len(line) < 5 {
			continue
		}
		word, _, _ := strings.Cut(line[4:], " ")
		switch strings.ToUpper(word) {
		case "SIZE", "STARTTLS", "XCLIENT":
		case "AUTH":
			if s.IsTLS() || s.cfg.AuthOverPlain {
				caps = append(caps, line[4:])
			}
		default:
			caps = append(caps, line[4:])
		}
	}
	size := "SIZE"
	if s.maxMessage > 0 {
		size += " " + strconv.FormatInt(s.maxMessage, 10)
	}
	caps = append(caps, size)
	if s.CanTLS() && !s.authed {
		caps = append(caps, "STARTTLS")
	}
	if s.mayXClient() {
		caps = append(caps, "XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT")
	}
	if s.cfg.EHLO != nil {
		caps = s.cfg.EHLO(s, caps)
	}
	r := &Reply{Code: 250, Text: s.cfg.Hostname}
	if len(caps) > 0 {
		var t strings.Builder
		for _, line := range append([]string{s.cfg.Hostname}, caps[:len(caps)-1]...) {
			t.WriteString("250-" + line + "\r\n")
		}
		_, _ = s.Conn.WriteString(t.String())
		r.Text = caps[len(caps)-1]
	}
	return r
}

// follow moves the gate's state to where the engine's reply put the engine.
func (s *SMTPConn) follow(verb string, code int) {
	s.verb = ""
	ok := code/100 == 2
	switch verb {
	case "EHLO", "HELO":
		if ok {
			s.helo, s.esmtp = s.nextHelo, verb == "EHLO"
			s.endTransaction()
		}
	case "MAIL":
		s.mail, s.binary = ok, ok && s.nextBinary
	case "RCPT":
		if ok {
			s.rcpts++
		}
	case "DATA":
		if code == 354 {
			s.mode = modeData
			s.startBody()
			s.clock.restart(phaseData)
		}
	case verbEnd:
		s.delivered(ok)
	case "BDAT":
		if s.last || !ok {
			s.delivered(ok && s.last)
		}
	case "RSET":
		if ok {
			s.endTransaction()
		}
	case "AUTH", verbSASL:
		s.mode = modeCommand
		if code == 334 {
			s.mode = modeAuth
		}
		s.authed = code == 235
	}
}

func (s *SMTPConn) startBody() {
	s.body = body{bol: true, lenient: s.cfg.BareNewline == BareNormalise, maxLine: or(s.cfg.MaxBodyLine, 1<<20)}
	s.lastOut = '\n'
}

// delivered ends a transaction with or without a message.
func (s *SMTPConn) delivered(ok bool) {
	if ok && s.fault == nil {
		s.messages++
	}
	s.endTransaction()
}

// answer sends a reply.
func (s *SMTPConn) answer(r *Reply) { s.answerLines(r.Code, r.closes(), r.line()) }

// answerLines sends a reply, counts errors, and slows down or ends a client that
// makes too many.
func (s *SMTPConn) answerLines(code int, last bool, b []byte) {
	if s.gone {
		return
	}
	if code >= 500 && !last {
		s.errors++
		switch {
		case s.errors >= or(s.cfg.HardErrors, 20):
			_, _ = s.Conn.Write(b)
			s.end(&Reply{Code: 421, Enh: "4.7.0", Text: s.cfg.Hostname + " Error: too many errors"}, ReasonProtocol)
			return
		case s.errors > or(s.cfg.SoftErrors, 10):
			s.pause(or(s.cfg.Tarpit, time.Second))
		}
	}
	_, _ = s.Conn.Write(b)
	if last {
		s.gone = true
		_ = s.Conn.CloseWith(ReasonProtocol)
	}
}

// end sends a last reply and closes. The engine is fed EOF from here on.
func (s *SMTPConn) end(r *Reply, why string) {
	if s.gone {
		return
	}
	s.gone = true
	_, _ = s.Conn.Write(r.line())
	_ = s.Conn.CloseWith(why)
}

// pause holds the client up; what was answered before leaves first.
func (s *SMTPConn) pause(d time.Duration) {
	_ = s.Flush()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.Done():
	}
}
