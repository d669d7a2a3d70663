package imapparse

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Key is a search key (RFC 3501 §6.4.4, with those of RFC 5032 and RFC 7162). Keys of a list hold together.
type Key struct {
	Name  string // upper case; SET for a sequence set, AND for a list
	Text  string
	Text2 string
	Num   uint32 // OLDER, YOUNGER: seconds
	Size  uint64 // LARGER, SMALLER: octets
	Mod   uint64 // MODSEQ
	Date  time.Time
	Set   Set
	Keys  []*Key // NOT: one; OR: two; AND: any
}

const maxKeys = 1000

// Return is what RETURN (…) asks for (RFC 4731, RFC 5182, RFC 5267).
type Return struct {
	Extended                   bool // there was a RETURN
	Min, Max, All, Count, Save bool
}

// Return reads RETURN (options) and the space behind it, when it is there. No option means ALL.
func (p *Parser) Return() (r Return, err error) {
	const word = "RETURN ("
	if len(p.Rest()) < len(word) || !strings.EqualFold(p.Rest()[:len(word)], word) {
		return r, nil
	}
	p.i += len(word) - 1
	r.Extended = true
	err = p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch strings.ToUpper(a) {
		case "MIN":
			r.Min = true
		case "MAX":
			r.Max = true
		case "ALL":
			r.All = true
		case "COUNT":
			r.Count = true
		case "SAVE":
			r.Save = true
		default:
			return fmt.Errorf("unknown return option %.20s", a)
		}
		return nil
	})
	if err == nil {
		err = p.Space()
	}
	if !r.Min && !r.Max && !r.Count && !r.Save {
		r.All = true
	}
	return r, err
}

// Search reads the keys of a SEARCH, with an optional CHARSET first.
func (p *Parser) Search() (k *Key, charset string, err error) {
	const word = "CHARSET "
	if len(p.Rest()) >= len(word) && strings.EqualFold(p.Rest()[:len(word)], word) {
		p.i += len(word)
		if charset, err = p.AString(); err != nil {
			return nil, "", err
		}
		if err = p.Space(); err != nil {
			return nil, "", err
		}
	}
	k, err = p.Keys()
	return k, charset, err
}

// Keys reads search keys up to the end.
func (p *Parser) Keys() (*Key, error) {
	n := 0
	k := &Key{Name: "AND"}
	for {
		sub, err := p.key(0, &n)
		if err != nil {
			return nil, err
		}
		k.Keys = append(k.Keys, sub)
		if !p.More() {
			return k, nil
		}
		if err := p.Space(); err != nil {
			return nil, err
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
	case c >= '0' && c <= '9' || c == '*' || c == '$':
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
	case "EMAILID", "THREADID": // RFC 8474 §5
		k.Text, err = p.Atom()
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
		k.Size, err = p.Number64() // RFC 9051 §9
	case "OLDER", "YOUNGER":
		if k.Num, err = p.Number(); err == nil && k.Num == 0 {
			err = errors.New("an interval of nothing")
		}
	case "MODSEQ":
		k.Mod, err = p.modSeqKey()
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

// modSeqKey reads what follows MODSEQ: a number, with the name of a metadata item and its type in
// front, which a server with one mod-sequence a message passes over (RFC 7162 §3.1.5).
func (p *Parser) modSeqKey() (uint64, error) {
	if p.Peek() == '"' {
		if _, err := p.String(); err != nil {
			return 0, err
		}
		if err := p.Space(); err != nil {
			return 0, err
		}
		a, err := p.Atom()
		if err != nil {
			return 0, err
		}
		if a = strings.ToLower(a); a != "priv" && a != "shared" && a != "all" {
			return 0, errors.New("priv, shared or all expected")
		}
		if err := p.Space(); err != nil {
			return 0, err
		}
	}
	return p.Number64()
}

// Asks tells whether a key of that name is among the keys.
func (k *Key) Asks(name string) bool {
	if k.Name == name {
		return true
	}
	for _, sub := range k.Keys {
		if sub.Asks(name) {
			return true
		}
	}
	return false
}
