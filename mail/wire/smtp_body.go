package wire

import (
	"bytes"
	"io"
)

// maxDiscard is how much of a refused message is read away beyond the limit
// before the connection is cut.
const maxDiscard = 64 << 20

// body reads a DATA section from raw bytes: removes dot stuffing and finds its
// end, which is CRLF.CRLF and nothing else (RFC 5321 §4.1.1.4).
type body struct {
	bol     bool // at the start of a line that a real CRLF began
	lf      bool // the CR of a CRLF is out, its LF is owed
	done    bool
	lenient bool // normalise bare CR and LF, or skip over them
	maxLine int
	line    int // bytes of the present line
	longest int
	size    int64
	bareLF  int
	bareCR  int
	lastCR  bool // BDAT: the chunk before ended in CR
}

// event is why scan stopped.
type event uint8

const (
	evMore event = iota // input or room used up
	evDone
	evBare
	evLong
)

// scan moves body bytes from src to dst. It stops short of input that needs
// more behind it to be judged: a CR, or a dot at the start of a line, at the end
// of src. So what it returns never depends on how the input was cut.
func (b *body) scan(dst, src []byte) (out, used int, ev event) {
	if b.lf && len(dst) > 0 {
		dst[0], out, b.lf = '\n', 1, false
	}
	for used < len(src) && out < len(dst) {
		rest := src[used:]
		if b.bol && rest[0] == '.' {
			end, known := isEnd(rest)
			if !known {
				return out, used, evMore
			}
			if end {
				b.done = true
				return out, used + 3, evDone
			}
			b.bol = false
			b.line++
			used++
			continue
		}
		seg := rest
		lf := bytes.IndexByte(rest, '\n')
		if lf >= 0 {
			seg = rest[:lf+1]
		}
		cr := bytes.IndexByte(seg, '\r')
		if lf >= 0 && cr == lf-1 && cr >= 0 {
			n, whole := b.crlf(dst[out:], seg)
			out, used = out+n, used+n
			if whole {
				used += len(seg) - n
			}
			if b.line > b.maxLine {
				return out, used, evLong
			}
			continue
		}
		n, u, ev := b.odd(dst[out:], seg, cr, lf)
		out, used = out+n, used+u
		if ev != evMore || u == 0 {
			return out, used, ev
		}
		if b.line > b.maxLine {
			return out, used, evLong
		}
	}
	return out, used, evMore
}

// isEnd judges a dot at the start of a line; known is false if more is needed.
func isEnd(p []byte) (end, known bool) {
	switch {
	case len(p) >= 2 && p[1] != '\r':
		return false, true
	case len(p) >= 3:
		return p[2] == '\n', true
	}
	return false, false
}

// crlf copies a line that ends in CRLF. CR and LF leave the input together: whole
// is true when the line is consumed, though its LF may still be owed.
func (b *body) crlf(dst, seg []byte) (n int, whole bool) {
	n = copy(dst, seg)
	if n < len(seg)-1 {
		b.line += n
		b.bol = false
		return n, false
	}
	b.lf = n == len(seg)-1
	b.line += len(seg)
	b.longest = max(b.longest, b.line)
	if b.line <= b.maxLine {
		b.line = 0
	}
	b.bol = true
	return n, true
}

// odd handles a piece that is no whole CRLF line: the beginning of a longer
// line, or one with a bare CR (at cr) or a bare LF (at lf) in it.
func (b *body) odd(dst, seg []byte, cr, lf int) (out, used int, ev event) {
	clean := len(seg)
	switch {
	case cr >= 0:
		clean = cr
	case lf >= 0:
		clean = lf
	}
	if clean > 0 {
		n := copy(dst, seg[:clean])
		b.line += n
		b.longest = max(b.longest, b.line)
		b.bol = false
		return n, n, evMore
	}
	if cr == 0 && len(seg) == 1 {
		return 0, 0, evMore // may become CRLF
	}
	if cr == 0 {
		b.bareCR++
	} else {
		b.bareLF++
	}
	if !b.lenient {
		return 0, 0, evBare
	}
	b.bol = false
	if cr == 0 {
		dst[0] = ' '
		b.line++
		return 1, 1, evMore
	}
	// A line begins, but not one that a dot could end.
	dst[0], b.lf, b.line = '\r', true, 0
	if len(dst) > 1 {
		dst[1], b.lf = '\n', false
		return 2, 1, evMore
	}
	return 1, 1, evMore
}

// readBody returns unstuffed body bytes, io.EOF at the end of the message, a
// *Reply when it is refused, and another error when the connection is lost.
func (s *SMTPConn) readBody(p []byte) (int, error) {
	c, b := s.Conn, &s.body
	for {
		if b.done && !b.lf {
			return 0, io.EOF
		}
		out, used, ev := b.scan(p, c.buf[c.r:c.w])
		c.r += used
		b.size += int64(out)
		switch {
		case ev == evBare:
			s.refuse(bareReply(b))
			return out, s.fault
		case ev == evLong:
			s.refuse(&Reply{Code: 554, Enh: "5.6.0", Text: "Error: line too long in message"})
			return out, s.fault
		case s.fault == nil && s.maxMessage > 0 && b.size > s.maxMessage:
			s.refuse(tooBig)
			return out, s.fault
		case out > 0:
			if c.log != discard {
				c.traceRead(p[:out])
			}
			return out, nil
		case ev == evDone:
			return 0, io.EOF
		case used == 0:
			if err := c.fill(max(bigBuf, c.Buffered()+1)); err != nil {
				return 0, s.lost(err)
			}
		}
	}
}

var tooBig = &Reply{Code: 552, Enh: "5.3.4", Text: "Error: message too big"}

func bareReply(b *body) *Reply {
	what := "<LF>"
	if b.bareCR > 0 {
		what = "<CR>"
	}
	return &Reply{Code: 550, Enh: "5.6.11", Text: "Error: bare " + what + " received"}
}

// refuse notes why the message is refused. The rest of it is only read away.
func (s *SMTPConn) refuse(r *Reply) {
	if s.fault == nil {
		s.fault = r
	}
	s.body.lenient = true
	s.body.maxLine = int(^uint(0) >> 1)
}

// discardBody reads to the end of a message, keeping step with the client.
func (s *SMTPConn) discardBody() error {
	var scrap [4096]byte
	for n := int64(0); ; {
		m, err := s.readBody(scrap[:])
		if err == io.EOF {
			return nil
		}
		if _, refused := err.(*Reply); err != nil && (!refused || s.gone) {
			return err
		}
		if n += int64(m); n > maxDiscard+2*s.maxMessage {
			r := s.fault
			if r == nil {
				r = tooBig
			}
			s.end(&Reply{Code: r.Code, Enh: r.Enh, Text: r.Text, Close: true}, ReasonProtocol)
			return io.ErrUnexpectedEOF
		}
	}
}

// lost ends the connection after a failed read within a message. After a
// time-out the client is told, and nothing that follows is read as commands.
func (s *SMTPConn) lost(err error) error {
	if s.gone {
		return io.ErrUnexpectedEOF
	}
	if isTimeout(err) {
		s.end(&Reply{Code: 451, Enh: "4.4.2", Text: "Error: timeout within message", Close: true}, ReasonData)
	} else {
		s.gone = true
		_ = s.Conn.CloseWith(ReasonClient)
	}
	return io.ErrUnexpectedEOF
}

// bodyReader is the session's fast way to the message.
type bodyReader struct{ s *SMTPConn }

func (r bodyReader) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case r.s.fault != nil:
		return 0, r.s.fault
	case r.s.mode != modeData:
		return 0, io.ErrClosedPipe
	}
	return r.s.readBody(p)
}

// Body returns a reader of the message that go-smtp hands to Session.Data as r,
// dots unstuffed, several times faster than r. With BDAT it is r itself. Use
// either r or Body, within Session.Data only.
func (s *SMTPConn) Body(r io.Reader) io.Reader {
	if _, bdat := r.(*io.PipeReader); bdat {
		return r
	}
	s.fast = true
	return bodyReader{s}
}

// readData gives the engine the message in its stuffed form, cleaned, and always
// a proper end.
func (s *SMTPConn) readData(p []byte) (int, error) {
	if s.fault != nil && !s.fast && !s.told {
		s.told = true
		return 0, s.fault
	}
	if s.fault != nil || s.fast {
		if err := s.discardBody(); err != nil {
			return 0, err
		}
		s.endBody()
		return 0, nil
	}
	half := p
	if len(p) > 1 {
		half = p[:len(p)/2]
	}
	n, err := s.readBody(half)
	if n > 0 {
		n = s.stuff(p, n)
	}
	switch {
	case err == nil:
	case err == io.EOF:
		s.endBody()
		err = nil
	case s.fault != nil && n > 0:
		err = nil // the next call says it
	case s.fault != nil:
		s.told = true
	}
	return n, err
}

// stuff doubles the dots at line starts within p[:n] in place; what has no room
// in p goes to feed.
func (s *SMTPConn) stuff(p []byte, n int) int {
	last := s.lastOut
	dots := bytes.Count(p[:n], []byte("\n."))
	if last == '\n' && p[0] == '.' {
		dots++
	}
	s.lastOut = p[n-1]
	if dots == 0 {
		return n
	}
	src := append([]byte(nil), p[:n]...)
	buf := make([]byte, 0, n+dots)
	for _, ch := range src {
		if ch == '.' && last == '\n' {
			buf = append(buf, '.')
		}
		buf = append(buf, ch)
		last = ch
	}
	m := copy(p, buf)
	s.feed = buf[m:]
	return m
}

// endBody feeds the end of data. The engine's parser does not recognise it after
// a CR without its LF, so what is owed comes first.
func (s *SMTPConn) endBody() {
	end := "\r\n.\r\n"
	switch s.lastOut {
	case '\n':
		end = ".\r\n"
	case '\r':
		end = "\n.\r\n"
	}
	s.feed = append(s.feed[:len(s.feed):len(s.feed)], end...)
	s.mode = modeCommand
	s.verb = verbEnd
}
