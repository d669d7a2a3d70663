package wire

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	maxAuthLine = 12288 // RFC 4954 §4
	verbEnd     = "."   // the reply after a message's end
	verbSASL    = "334" // an answer to a challenge
)

// Replies of the gate to commands out of order and the like.
var (
	errLong     = &Reply{Code: 500, Enh: "5.5.2", Text: "Error: command line too long"}
	errControl  = &Reply{Code: 500, Enh: "5.5.2", Text: "Error: control character in command"}
	errUnknown  = &Reply{Code: 500, Enh: "5.5.2", Text: "Error: command not recognized"}
	errSyntax   = &Reply{Code: 501, Enh: "5.5.4", Text: "Error: bad syntax"}
	errNoHelo   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: send HELO or EHLO first"}
	errNested   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: nested MAIL command"}
	errNoMail   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: need MAIL command"}
	errNoRcpt   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: no valid recipients"}
	errInMail   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: not during a mail transaction"}
	errInChunks = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: not between chunks"}
	errAuthed   = &Reply{Code: 503, Enh: "5.5.1", Text: "Error: already authenticated"}
	errNeedTLS  = &Reply{Code: 538, Enh: "5.7.11", Text: "Error: encryption required"}
	errNoTLS    = &Reply{Code: 502, Enh: "5.5.1", Text: "Error: TLS not available"}
	errBareLF   = &Reply{Code: 521, Enh: "5.5.2", Text: "Error: bare <LF> received", Close: true}
	errBareCR   = &Reply{Code: 521, Enh: "5.5.2", Text: "Error: bare <CR> received", Close: true}
	errAhead    = &Reply{Code: 521, Enh: "5.5.0", Text: "Error: improper use of SMTP command pipelining", Close: true}
	errPregreet = &Reply{Code: 521, Enh: "5.5.1", Text: "Error: client talked before the greeting", Close: true}
)

// Read gives the engine its input: one command at a time, and bodies.
func (s *SMTPConn) Read(p []byte) (int, error) {
	for {
		if len(s.feed) > 0 {
			n := copy(p, s.feed)
			s.feed = s.feed[n:]
			return n, nil
		}
		var n int
		var err error
		switch {
		case s.gone && (s.mode == modeData || s.mode == modeBDAT):
			// Not EOF: for go-smtp that would be the proper end of a chunk.
			return 0, io.ErrUnexpectedEOF
		case s.gone:
			return 0, io.EOF
		case s.mode == modeData:
			n, err = s.readData(p)
		case s.mode == modeBDAT:
			n, err = s.readChunk(p)
		default:
			err = s.command()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// command reads one command, answers it or puts it into feed.
func (s *SMTPConn) command() error {
	if w := s.swap; w != nil && w.reply == nil {
		// The answer is out; now what it announced (the TLS handshake).
		s.swap = nil
		if err := w.then(); err != nil {
			return s.hangup(err)
		}
		return nil
	}
	line, err := s.Conn.rawLine(maxAuthLine)
	if err != nil {
		return s.commandError(err)
	}
	text := line[:max(0, len(line)-2)]
	if s.tracing() {
		kind := TraceLines
		if s.mode == modeAuth {
			kind = TraceSecret
		}
		s.traceText(traceDirIn, kind, line)
	}
	if r := s.lineFault(line, text); r != nil {
		s.answer(r)
		return nil
	}
	if s.mode == modeAuth {
		s.verb = verbSASL
		s.feed = line
		return nil
	}
	verb, arg, _ := strings.Cut(string(text), " ")
	verb = strings.ToUpper(verb)
	arg = strings.Trim(arg, " \t")
	if s.ahead(verb) {
		return nil
	}
	s.dispatch(verb, arg, line)
	return nil
}

// lineFault checks the bytes of a command line.
func (s *SMTPConn) lineFault(line, text []byte) *Reply {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errBareLF
	}
	for _, ch := range text {
		switch {
		case ch == '\r':
			return errBareCR
		case ch < ' ' && ch != '\t', ch == 0x7f:
			if s.mode == modeAuth {
				return nil // base64 decoding refuses it and ends the exchange
			}
			return errControl
		}
	}
	if s.mode != modeAuth && len(line) > or(s.cfg.MaxCommand, 4096) &&
		(len(text) < 5 || !strings.EqualFold(string(text[:5]), "AUTH ")) {
		return errLong
	}
	return nil
}

func (s *SMTPConn) commandError(err error) error {
	var te *TimeoutError
	switch {
	case errors.Is(err, ErrLineTooLong):
		if s.mode == modeAuth {
			// The exchange can't go on without the answer.
			s.mode, s.verb, s.feed = modeAuth, verbSASL, []byte("*\r\n")
			s.swap = &swap{reply: errLong}
			return nil
		}
		s.answer(errLong)
		return nil
	case errors.Is(err, ErrFlood):
		s.end(&Reply{Code: 421, Enh: "4.7.0", Text: s.cfg.Hostname + " Error: endless line", Close: true}, ReasonProtocol)
	case errors.As(err, &te):
		s.end(&Reply{Code: 421, Enh: "4.4.2", Text: s.cfg.Hostname + " Error: timeout exceeded", Close: true}, te.Reason)
	default:
		return s.hangup(err)
	}
	return io.EOF
}

// hangup closes quietly and lets the engine see an ordinary end.
func (s *SMTPConn) hangup(error) error {
	s.gone = true
	_ = s.Conn.CloseWith(ReasonClient)
	return io.EOF
}

// ahead deals with a client that sends more where it has to wait: behind a
// command whose answer decides what comes next, or at all before EHLO.
func (s *SMTPConn) ahead(verb string) bool {
	switch verb {
	case "EHLO", "HELO", "DATA", "AUTH", "STARTTLS", "XCLIENT":
	case "QUIT":
		return false
	default:
		if s.esmtp {
			return false
		}
	}
	if !s.waiting() {
		return false
	}
	s.early = true
	var r *Reply
	switch {
	case s.cfg.OnPipelining != nil:
		r = s.cfg.OnPipelining(s, verb)
	case s.cfg.RejectPipelining:
		r = errAhead
	}
	if r == nil {
		return false
	}
	s.end(r, ReasonProtocol)
	return true
}

// dispatch answers a command or passes it to the engine.
func (s *SMTPConn) dispatch(verb, arg string, line []byte) {
	if s.cfg.OnCommand != nil {
		if r := s.cfg.OnCommand(s, verb, arg); r != nil {
			if verb == "BDAT" {
				s.refuseChunk(arg, r)
				return
			}
			s.answer(r)
			return
		}
	}
	switch verb {
	case "EHLO", "HELO":
		name, _, _ := strings.Cut(arg, " ") // the rest means nothing; old clients send it
		if name == "" {
			s.answer(errSyntax)
			return
		}
		s.nextHelo = name
		s.pass(verb, []byte(verb+" "+name+"\r\n"))
	case "MAIL":
		s.mailCommand(arg, line)
	case "RCPT":
		s.rcptCommand(arg, line)
	case "DATA":
		s.dataCommand(arg)
	case "BDAT":
		s.chunkCommand(arg)
	case "RSET":
		s.junkSeen()
		s.pass(verb, []byte("RSET\r\n"))
	case "QUIT":
		s.pass(verb, []byte("QUIT\r\n"))
	case "AUTH":
		s.authCommand(arg, line)
	case "STARTTLS":
		s.startTLS(arg)
	case "XCLIENT":
		s.xclientCommand(arg)
	case "NOOP":
		s.junkSeen()
		s.answer(&Reply{Code: 250, Enh: "2.0.0", Text: "Ok"})
	case "VRFY":
		s.junkSeen()
		if arg == "" {
			s.answer(errSyntax)
			return
		}
		s.answer(&Reply{Code: 252, Enh: "2.5.2", Text: "Cannot VRFY user, but will accept message and attempt delivery"})
	case "HELP":
		s.junkSeen()
		s.answer(&Reply{Code: 214, Enh: "2.0.0", Text: "See RFC 5321"})
	case "EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML":
		s.junkSeen()
		s.answer(&Reply{Code: 502, Enh: "5.5.1", Text: "Error: command not implemented"})
	default:
		s.answer(errUnknown)
	}
}

// pass feeds a command to the engine.
func (s *SMTPConn) pass(verb string, line []byte) { s.verb, s.feed = verb, line }

func (s *SMTPConn) mailCommand(arg string, line []byte) {
	path, params, ok := parsePath(arg, "FROM:")
	switch {
	case s.helo == "":
		s.answer(errNoHelo)
		return
	case s.mail:
		s.answer(errNested)
		return
	case !ok:
		s.answer(&Reply{Code: 501, Enh: "5.1.7", Text: "Error: bad sender address syntax"})
		return
	}
	s.nextBinary = false
	for f := range strings.FieldsSeq(params) {
		key, val, _ := strings.Cut(f, "=")
		switch {
		case strings.EqualFold(key, "SIZE"):
			n, err := strconv.ParseUint(val, 10, 64)
			switch {
			case err != nil && !errors.Is(err, strconv.ErrRange):
				s.answer(errSyntax)
				return
			case err != nil, n > 1<<32-1, s.maxMessage > 0 && n > uint64(s.maxMessage):
				s.answer(tooBig)
				return
			}
		case strings.EqualFold(key, "BODY"):
			s.nextBinary = strings.EqualFold(val, "BINARYMIME")
		}
	}
	s.path = path
	s.pass("MAIL", line)
}

func (s *SMTPConn) rcptCommand(arg string, line []byte) {
	path, params, ok := parsePath(arg, "TO:")
	switch {
	case !s.mail:
		s.answer(errNoMail)
		return
	case s.chunks:
		s.answer(errInChunks)
		return
	case !ok || path == "":
		s.answer(&Reply{Code: 501, Enh: "5.1.3", Text: "Error: bad recipient address syntax"})
		return
	}
	s.path = path
	if strings.EqualFold(path, "postmaster") {
		line = []byte("RCPT TO:<" + path + "@" + PostmasterDomain + "> " + params + "\r\n")
	}
	s.pass("RCPT", line)
}

func (s *SMTPConn) dataCommand(arg string) {
	switch {
	case arg != "":
		s.answer(errSyntax)
	case !s.mail:
		s.answer(errNoMail)
	case s.chunks:
		s.answer(errInChunks)
	case s.rcpts == 0:
		s.answer(errNoRcpt)
	case s.binary: // RFC 3030 §3
		s.answer(&Reply{Code: 503, Enh: "5.5.1", Text: "Error: BINARYMIME needs BDAT"})
	default:
		s.pass("DATA", []byte("DATA\r\n"))
	}
}

func (s *SMTPConn) authCommand(arg string, line []byte) {
	switch {
	case s.helo == "":
		s.answer(errNoHelo)
	case s.authed:
		s.answer(errAuthed)
	case s.mail: // RFC 4954 §4
		s.answer(errInMail)
	case !s.IsTLS() && !s.cfg.AuthOverPlain:
		s.answer(errNeedTLS)
	case arg == "":
		s.answer(errSyntax)
	default:
		s.pass("AUTH", line)
	}
}

// startTLS lets the engine forget the transaction, answers, and upgrades when
// the engine reads again.
func (s *SMTPConn) startTLS(arg string) {
	switch {
	case arg != "":
		s.answer(errSyntax)
	case s.IsTLS():
		s.answer(&Reply{Code: 503, Enh: "5.5.1", Text: "Error: TLS already active"})
	case !s.CanTLS():
		s.answer(errNoTLS)
	case s.authed:
		s.answer(errAuthed)
	default:
		s.reset("RSET", &Reply{Code: 220, Enh: "2.0.0", Text: "Ready to start TLS"}, func() error {
			ctx, cancel := s.Context(bg)
			defer cancel()
			if err := s.StartTLS(ctx); err != nil {
				return err
			}
			s.forget("STARTTLS")
			return nil
		})
	}
}

// reset puts in a command that clears the engine's transaction and answers r
// instead of its reply; then runs before the next command.
func (s *SMTPConn) reset(verb string, r *Reply, then func() error) {
	s.pass(verb, []byte(verb+"\r\n"))
	s.swap = &swap{reply: r, then: then}
}

// forget begins the session anew.
func (s *SMTPConn) forget(verb string) {
	s.helo, s.esmtp = "", false
	s.endTransaction()
	if s.cfg.OnReset != nil {
		s.cfg.OnReset(s, verb)
	}
}

func (s *SMTPConn) endTransaction() {
	s.mail, s.rcpts, s.binary, s.chunks, s.last = false, 0, false, false, false
	s.fault, s.told, s.fast = nil, false, false
}

// junkSeen counts a command that does nothing; too many are slowed down.
func (s *SMTPConn) junkSeen() {
	s.junk++
	if over := s.junk - or(s.cfg.JunkLimit, 100); over > 0 && over%10 == 0 {
		s.pause(or(s.cfg.JunkDelay, time.Second))
	}
}
