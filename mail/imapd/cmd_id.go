package imapd

import (
	"errors"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
)

// Limits of ID (RFC 2971 §3.3).
const (
	maxIDFields = 30
	maxIDName   = 30
	maxIDValue  = 1024
)

// doID is RFC 2971; what the client says goes to the log.
func (ss *session) doID(p *imapparse.Parser) error {
	if p.Peek() == '(' {
		words, err := idFields(p)
		if err != nil {
			return usual(err)
		}
		ss.log.Debug("client", "id", words)
	} else if a, err := p.Atom(); err != nil || !strings.EqualFold(a, "NIL") {
		return bad{"ID needs a list or NIL"}
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	ss.put(`* ID ("name" "mailplusd" "version" "`, model.Version, "\")\r\n")
	return nil
}

// idFields reads names and values in turn; a value may be NIL.
func idFields(p *imapparse.Parser) ([]string, error) {
	var words []string
	err := p.List(func() error {
		limit := maxIDName
		if len(words)%2 == 1 {
			limit = maxIDValue
		}
		var s string
		var err error
		if c := p.Peek(); limit == maxIDValue && (c == 'N' || c == 'n') {
			if s, err = p.Atom(); err == nil && !strings.EqualFold(s, "NIL") {
				err = errors.New("a string or NIL expected")
			}
			s = ""
		} else {
			s, err = p.String()
		}
		if err == nil && (len(words) >= 2*maxIDFields || len(s) > limit) {
			err = errors.New("more than 30 fields, or one that is too long")
		}
		words = append(words, s)
		return err
	})
	if err == nil && len(words)%2 == 1 {
		err = errors.New("a field without a value")
	}
	return words, err
}
