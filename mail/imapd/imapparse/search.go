package imapparse

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Key is a search key (RFC 3501 §6.4.4). Keys of a list hold together.
type Key struct {
	Name  string // upper case; SET for a sequence set, AND for a list
	Text  string
	Text2 string
	Num   uint32
	Date  time.Time
	Set   Set
	Keys  []*Key // NOT: one; OR: two; AND: any
}

const maxKeys = 1000

// Search reads the keys of a SEARCH, with an optional CHARSET first.
func (p *Parser) Search() (k *Key, charset string, err error) {
	if rest := strings.ToUpper(p.Rest()); strings.HasPrefix(rest, "CHARSET ") {
		p.i += len("CHARSET ")
		if charset, err = p.AString(); err != nil {
			return nil, "", err
		}
		if err = p.Space(); err != nil {
			return nil, "", err
		}
	}
	n := 0
	k = &Key{Name: "AND"}
	for {
		sub, err := p.key(0, &n)
		if err != nil {
			return nil, "", err
		}
		k.Keys = append(k.Keys, sub)
		if !p.More() {
			return k, charset, nil
		}
		if err := p.Space(); err != nil {
			return nil, "", err
		}
	}
}

func (p *Parser) key(depth int, n *int) (*Key, error) {
	if *n++; depth > MaxNesting || *n > maxKeys {
		return nil, errors.New("the search is nested too deep or too long")
	}
	switch c := p.Peek(); {
	case c == '(':
		k := &Key{Name: "AND"}
		err := p.List(func() error {
			sub, err := p.key(depth+1, n)
			k.Keys = append(k.Keys, sub)
			return err
		})
		if err == nil && len(k.Keys) == 0 {
			err = errors.New("an empty list")
		}
		return k, err
	case c >= '0' && c <= '9' || c == '*':
		set, err := p.Set()
		return &Key{Name: "SET", Set: set}, err
	}
	name, err := p.Atom()
	if err != nil {
		return nil, err
	}
	k := &Key{Name: strings.ToUpper(name)}
	return k, p.keyArgs(k, depth, n)
}

func (p *Parser) keyArgs(k *Key, depth int, n *int) (err error) {
	switch k.Name {
	case "ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN", "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN":
		return nil
	}
	if err = p.Space(); err != nil {
		return err
	}
	switch k.Name {
	case "BCC", "BODY", "CC", "FROM", "SUBJECT", "TEXT", "TO":
		k.Text, err = p.AString()
	case "HEADER":
		if k.Text, err = p.AString(); err == nil {
			if err = p.Space(); err == nil {
				k.Text2, err = p.AString()
			}
		}
	case "KEYWORD", "UNKEYWORD":
		k.Text, err = p.Atom()
	case "LARGER", "SMALLER":
		k.Num, err = p.Number()
	case "BEFORE", "ON", "SINCE", "SENTBEFORE", "SENTON", "SENTSINCE":
		k.Date, err = p.Date()
	case "UID":
		k.Set, err = p.Set()
	case "NOT":
		var sub *Key
		sub, err = p.key(depth+1, n)
		k.Keys = []*Key{sub}
	case "OR":
		var a, b *Key
		if a, err = p.key(depth+1, n); err == nil {
			if err = p.Space(); err == nil {
				b, err = p.key(depth+1, n)
			}
		}
		k.Keys = []*Key{a, b}
	default:
		return fmt.Errorf("unknown search key %.40s", k.Name)
	}
	return err
}
