package wire

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// maxSkipChunk is the largest chunk that is read away to keep step; a client
// that announces more to a refusal is cut off.
const maxSkipChunk = 1 << 28

// chunkCommand handles BDAT (RFC 3030 §2). The octets follow whatever the reply
// is, so their number must be known exactly: without it the connection ends.
func (s *SMTPConn) chunkCommand(arg string) {
	n, last, ok := parseChunk(arg)
	switch {
	case !ok:
		s.end(&Reply{Code: 501, Enh: "5.5.4", Text: "Error: bad chunk size", Close: true}, ReasonProtocol)
		return
	case !s.mail:
		s.skipChunk(n, errNoMail)
		return
	case s.rcpts == 0:
		s.skipChunk(n, errNoRcpt)
		return
	}
	if !s.chunks {
		s.startBody()
		s.chunks = true
	}
	var r *Reply
	switch {
	case s.maxMessage > 0 && s.body.size+n > s.maxMessage:
		r = tooBig
	case n == 0 && last && s.body.lastCR && !s.binary:
		s.body.bareCR++
		r = bareReply(&s.body)
	}
	if r != nil {
		if s.skipOctets(n, r) {
			s.reset("RSET", r, nil)
		}
		return
	}
	s.last, s.left = last, n
	line := "BDAT " + strconv.FormatInt(n, 10)
	if last {
		line += " LAST"
	}
	s.pass("BDAT", []byte(line+"\r\n"))
	if n > 0 {
		s.mode = modeBDAT
		s.clock.restart(phaseData)
	}
}

func parseChunk(arg string) (n int64, last, ok bool) {
	f := strings.Fields(arg)
	if len(f) == 0 || len(f) > 2 || (len(f) == 2 && !strings.EqualFold(f[1], "LAST")) {
		return 0, false, false
	}
	// go-smtp counts in 32 bits.
	u, err := strconv.ParseUint(f[0], 10, 32)
	return int64(u), len(f) == 2, err == nil
}

// refuseChunk answers a BDAT that a hook refused.
func (s *SMTPConn) refuseChunk(arg string, r *Reply) {
	n, _, ok := parseChunk(arg)
	if !ok {
		s.end(&Reply{Code: 501, Enh: "5.5.4", Text: "Error: bad chunk size", Close: true}, ReasonProtocol)
		return
	}
	s.skipChunk(n, r)
}

// skipChunk reads the octets of a refused chunk away and answers.
func (s *SMTPConn) skipChunk(n int64, r *Reply) {
	if s.skipOctets(n, r) {
		s.answer(r)
	}
}

func (s *SMTPConn) skipOctets(n int64, r *Reply) bool {
	if n > maxSkipChunk {
		s.end(&Reply{Code: r.Code, Enh: r.Enh, Text: r.Text, Close: true}, ReasonProtocol)
		return false
	}
	if err := s.Literal(n).Discard(); err != nil {
		_ = s.lost(err)
		return false
	}
	return true
}

// readChunk gives the engine the octets of a chunk. A fault is reported once
// before the octets it is in, so that the session can't see a proper end.
func (s *SMTPConn) readChunk(p []byte) (int, error) {
	if s.left == 0 {
		s.mode = modeCommand
		return 0, nil
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.Conn.readData(p)
	if err != nil {
		return 0, s.lost(err)
	}
	s.left -= int64(n)
	s.body.size += int64(n)
	if s.log != discard {
		s.traceRead(p[:n])
	}
	if s.fault == nil && !s.binary {
		if r := s.body.chunk(p[:n], s.last && s.left == 0); r != nil {
			s.refuse(r)
			s.feed = append([]byte(nil), p[:n]...)
			return 0, s.fault
		}
	}
	return n, nil
}

// chunk checks the line ends of BDAT octets; state goes over chunk borders.
func (b *body) chunk(p []byte, end bool) *Reply {
	if b.lastCR && len(p) > 0 && p[0] != '\n' {
		b.bareCR++
		return bareReply(b)
	}
	prev := b.lastCR
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		seg := p
		if i >= 0 {
			seg = p[:i]
		}
		j := bytes.IndexByte(seg, '\r')
		if j >= 0 && j < len(seg)-1 {
			b.bareCR++
			return bareReply(b)
		}
		cr := j >= 0 || (len(seg) == 0 && prev)
		b.line += len(seg)
		if b.line > b.maxLine {
			return &Reply{Code: 554, Enh: "5.6.0", Text: "Error: line too long in message"}
		}
		b.longest = max(b.longest, b.line+2)
		if i < 0 {
			b.lastCR = cr
			break
		}
		if !cr {
			b.bareLF++
			return bareReply(b)
		}
		b.line, prev, b.lastCR = 0, false, false
		p = p[i+1:]
	}
	if end && b.lastCR {
		b.bareCR++
		return bareReply(b)
	}
	return nil
}

var _ io.Reader = (*SMTPConn)(nil)
