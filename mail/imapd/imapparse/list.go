package imapparse

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of LIST.
const (
	maxPatterns      = 50
	maxPatternLength = 1000
)

// ListArgs is what LIST asks for (RFC 5258 §3, RFC 9051 §6.3.9).
type ListArgs struct {
	Extended  bool // more than RFC 3501 knows was used
	Reference string
	Patterns  []string

	// selection
	Subscribed bool
	SpecialUse bool
	Recursive  bool // RECURSIVEMATCH: parents of what is selected, too

	// what is returned of each
	ReturnSubscribed bool
	ReturnSpecialUse bool
	ReturnChildren   bool
	Status           []string // items of STATUS (RFC 5819); nil: none
}

// ListArgs reads the arguments of LIST.
func (p *Parser) ListArgs() (*ListArgs, error) {
	a := &ListArgs{}
	if p.Peek() == '(' {
		if err := p.listSelection(a); err != nil {
			return nil, err
		}
	}
	var err error
	if a.Reference, err = p.Mailbox(); err != nil {
		return nil, err
	}
	if err := p.Space(); err != nil {
		return nil, err
	}
	if err := p.listPatterns(a); err != nil {
		return nil, err
	}
	if p.More() {
		if err := p.listReturn(a); err != nil {
			return nil, err
		}
	}
	return a, p.End()
}

func (p *Parser) listSelection(a *ListArgs) error {
	a.Extended = true
	err := p.List(func() error {
		w, err := p.Atom()
		switch strings.ToUpper(w) {
		case "SUBSCRIBED":
			a.Subscribed, a.ReturnSubscribed = true, true
		case "SPECIAL-USE":
			a.SpecialUse, a.ReturnSpecialUse = true, true
		case "RECURSIVEMATCH":
			a.Recursive = true
		case "REMOTE": // there are no remote mailboxes
		default:
			if err == nil {
				err = fmt.Errorf("unknown selection option %.20s", w)
			}
		}
		return err
	})
	if err == nil && a.Recursive && !a.Subscribed && !a.SpecialUse {
		err = errors.New("RECURSIVEMATCH needs another selection option")
	}
	if err != nil {
		return err
	}
	return p.Space()
}

func (p *Parser) listPatterns(a *ListArgs) error {
	one := func() error {
		s, err := p.ListMailbox()
		if a.Patterns = append(a.Patterns, s); len(a.Patterns) > maxPatterns || len(a.Reference)+len(s) > maxPatternLength {
			return errors.New("too many patterns, or one that is too long")
		}
		return err
	}
	if p.Peek() != '(' {
		return one()
	}
	a.Extended = true
	err := p.List(one)
	if err == nil && len(a.Patterns) == 0 {
		err = errors.New("no pattern is given")
	}
	return err
}

func (p *Parser) listReturn(a *ListArgs) error {
	a.Extended = true
	if err := p.Space(); err != nil {
		return err
	}
	if w, err := p.Atom(); err != nil || !strings.EqualFold(w, "RETURN") {
		return errors.New("RETURN expected")
	}
	if err := p.Space(); err != nil {
		return err
	}
	return p.List(func() error {
		w, err := p.Atom()
		switch strings.ToUpper(w) {
		case "SUBSCRIBED":
			a.ReturnSubscribed = true
		case "CHILDREN":
			a.ReturnChildren = true
		case "SPECIAL-USE":
			a.ReturnSpecialUse = true
		case "STATUS":
			if err = p.Space(); err == nil {
				a.Status, err = p.StatusItems()
			}
		default:
			if err == nil {
				err = fmt.Errorf("unknown return option %.20s", w)
			}
		}
		return err
	})
}

// StatusItems reads the list of items of STATUS; those that are named twice are given once.
func (p *Parser) StatusItems() ([]string, error) {
	var out []string
	seen := map[string]bool{}
	err := p.List(func() error {
		w, err := p.Atom()
		if err != nil {
			return err
		}
		switch w = strings.ToUpper(w); w {
		case "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "DELETED", "APPENDLIMIT", "HIGHESTMODSEQ", "MAILBOXID":
			if !seen[w] {
				seen[w] = true
				out = append(out, w)
			}
			return nil
		}
		return fmt.Errorf("unknown item %.20s", w)
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no item is named")
	}
	return out, err
}
