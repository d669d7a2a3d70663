package pop3d

import (
	"errors"
	"io"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// expungeBatch bounds one entry.
const expungeBatch = 500

func (ss *session) expunge(uids []model.UID) error {
	for len(uids) > 0 {
		n := min(len(uids), expungeBatch)
		if _, err := ss.srv.Store.Expunge(ss.ctx, state.Expunge{Mailbox: ss.mailbox.ID, UIDs: uids[:n]}); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

var errEnough = errors.New("enough lines")

// stuffer writes a message as a multi-line response: dots doubled at line starts
// (RFC 1939 §3), and with lines >= 0 no more than so many lines of the body.
type stuffer struct {
	w     io.Writer
	lines int  // body lines still to come; -1: all
	body  bool // the empty line has passed
	empty bool // nothing on this line yet
	bol   bool
	last  byte
	any   bool
}

func (s *stuffer) Write(p []byte) (int, error) {
	start := 0
	for i, c := range p {
		if s.bol && c == '.' {
			if _, err := s.w.Write(p[start:i]); err != nil {
				return i, err
			}
			if _, err := s.w.Write([]byte{'.'}); err != nil {
				return i, err
			}
			start = i
		}
		if c != '\r' && c != '\n' {
			s.empty = false
		} else if s.bol {
			s.empty = true
		}
		s.bol = c == '\n'
		s.last, s.any = c, true
		if !s.bol || s.lines < 0 {
			continue
		}
		if s.body {
			s.lines--
		} else if s.empty {
			s.body = true
		}
		if s.body && s.lines <= 0 {
			if _, err := s.w.Write(p[start : i+1]); err != nil {
				return i, err
			}
			return i + 1, errEnough
		}
	}
	_, err := s.w.Write(p[start:])
	return len(p), err
}

// finish ends the response; a last line without CRLF gets one.
func (s *stuffer) finish() error {
	end := ".\r\n"
	if s.any && !s.bol {
		end = "\r\n.\r\n"
	}
	_, err := io.WriteString(s.w, end)
	return err
}
