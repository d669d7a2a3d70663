package imapparse

import (
	"errors"
	"fmt"
	"strings"
)

// Select is the parameters of SELECT and EXAMINE (RFC 7162 §3.1.8 and §3.2.5).
type Select struct {
	Condstore bool
	Qresync   *Qresync
}

// Qresync is what a client that comes back knows of a mailbox.
type Qresync struct {
	UIDValidity uint32
	ModSeq      uint64
	Known       Set // UIDs; nil: all
	Seqs        Set // and the sequence numbers of some of them, in pairs with SeqUIDs
	SeqUIDs     Set
}

// Select reads ` (parameters)`, when there are any.
func (p *Parser) Select() (out Select, err error) {
	if !p.More() {
		return out, nil
	}
	if err = p.Space(); err != nil {
		return out, err
	}
	err = p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch strings.ToUpper(a) {
		case "CONDSTORE":
			out.Condstore = true
			return nil
		case "QRESYNC":
			if err := p.Space(); err != nil {
				return err
			}
			out.Qresync, err = p.qresync()
			return err
		}
		return fmt.Errorf("unknown parameter %.20s", a)
	})
	return out, err
}

func (p *Parser) qresync() (*Qresync, error) {
	q := new(Qresync)
	err := p.Byte('(')
	if err == nil {
		q.UIDValidity, err = p.Number()
	}
	if err == nil {
		err = p.Space()
	}
	if err == nil {
		q.ModSeq, err = p.Number64()
	}
	if err == nil && p.Peek() == ' ' {
		if p.i++; p.Peek() != '(' {
			q.Known, err = p.numbers()
			if err == nil && p.Peek() == ' ' {
				p.i++
				err = p.seqMatch(q)
			}
		} else {
			err = p.seqMatch(q)
		}
	}
	if err == nil {
		err = p.Byte(')')
	}
	if err == nil && (q.UIDValidity == 0 || q.ModSeq == 0) {
		err = errors.New("0 is neither a UIDVALIDITY nor a mod-sequence")
	}
	return q, err
}

// numbers reads a set without * and $.
func (p *Parser) numbers() (Set, error) {
	s, err := p.Set()
	for _, r := range s {
		if r.saved || r.From == 0 || r.To == 0 {
			return nil, errors.New("* and $ are not allowed here")
		}
	}
	return s, err
}

func (p *Parser) seqMatch(q *Qresync) error {
	if err := p.Byte('('); err != nil {
		return err
	}
	var err error
	if q.Seqs, err = p.numbers(); err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return err
	}
	if q.SeqUIDs, err = p.numbers(); err != nil {
		return err
	}
	return p.Byte(')')
}

// FetchModifiers are those of FETCH (RFC 7162 §3.1.4 and §3.2.6).
type FetchModifiers struct {
	ChangedSince bool
	Since        uint64
	Vanished     bool
}

// FetchModifiers reads ` (modifiers)`, when there are any.
func (p *Parser) FetchModifiers() (m FetchModifiers, err error) {
	if !p.More() {
		return m, nil
	}
	if err = p.Space(); err != nil {
		return m, err
	}
	err = p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch strings.ToUpper(a) {
		case "CHANGEDSINCE":
			m.ChangedSince = true
			if err := p.Space(); err != nil {
				return err
			}
			m.Since, err = p.Number64()
			return err
		case "VANISHED":
			m.Vanished = true
			return nil
		}
		return fmt.Errorf("unknown modifier %.20s", a)
	})
	if err == nil && m.Vanished && !m.ChangedSince {
		err = errors.New("VANISHED needs CHANGEDSINCE")
	}
	return m, err
}

// UnchangedSince reads `(UNCHANGEDSINCE n) ` in front of the flags of STORE, when it is there (RFC 7162 §3.1.3).
func (p *Parser) UnchangedSince() (*uint64, error) {
	if p.Peek() != '(' {
		return nil, nil
	}
	var since *uint64
	err := p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		if !strings.EqualFold(a, "UNCHANGEDSINCE") {
			return fmt.Errorf("unknown modifier %.20s", a)
		}
		if err := p.Space(); err != nil {
			return err
		}
		n, err := p.Number64()
		since = &n
		return err
	})
	if err == nil && since == nil {
		err = errors.New("an empty list of modifiers")
	}
	if err == nil {
		err = p.Space()
	}
	return since, err
}

// SortKey is one key of SORT (RFC 5256 §3, RFC 5957).
type SortKey struct {
	Name    string // upper case
	Reverse bool
}

const maxSortKeys = 20

// Sort reads `(keys)` of SORT.
func (p *Parser) Sort() ([]SortKey, error) {
	var out []SortKey
	reverse := false
	err := p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch a = strings.ToUpper(a); a {
		case "REVERSE":
			if reverse {
				return errors.New("REVERSE twice")
			}
			reverse = true
			return nil
		case "ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO":
			if out = append(out, SortKey{a, reverse}); len(out) > maxSortKeys {
				return errors.New("too many sort keys")
			}
			reverse = false
			return nil
		}
		return fmt.Errorf("unknown sort key %.20s", a)
	})
	if err == nil && (reverse || len(out) == 0) {
		err = errors.New("a sort key is missing")
	}
	return out, err
}
