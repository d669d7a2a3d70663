package imapd

import (
	"errors"
	"fmt"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
)

// quote writes a mailbox name.
func quote(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(encodeUTF7(name)) + `"`
}

func (ss *session) doCreate(p *imapparse.Parser) error {
	name, err := mailboxName(p)
	if err != nil {
		return err
	}
	use := model.SpecialUse("")
	if p.More() { // RFC 6154 §3: CREATE name (USE (\Sent))
		if use, err = createUse(p); err != nil {
			return err
		}
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	_, err = ss.srv.Store.Create(ss.ctx, ss.account.ID, name, use)
	return err
}

func createUse(p *imapparse.Parser) (use model.SpecialUse, err error) {
	if err := p.Space(); err != nil {
		return "", usual(err)
	}
	err = p.List(func() error {
		a, err := p.Atom()
		if err != nil || !strings.EqualFold(a, "USE") {
			return errors.New("USE expected")
		}
		if err := p.Space(); err != nil {
			return err
		}
		flags, err := p.Flags()
		for _, f := range flags {
			for _, d := range model.DefaultMailboxes {
				if d.Use != model.UseInbox && strings.EqualFold(f, `\`+string(d.Use)) {
					use = d.Use
				}
			}
		}
		if err == nil && use == "" {
			return no{"USEATTR", "the use is not supported"}
		}
		return err
	})
	var n no
	if errors.As(err, &n) {
		return "", n
	}
	return use, usual(err)
}

func (ss *session) find(p *imapparse.Parser) (model.Mailbox, error) {
	name, err := mailboxName(p)
	if err != nil {
		return model.Mailbox{}, err
	}
	if err := ss.fresh(); err != nil {
		return model.Mailbox{}, err
	}
	return ss.srv.Store.Mailbox(ss.account.ID, name)
}

func (ss *session) doDelete(p *imapparse.Parser) error {
	m, err := ss.find(p)
	if err != nil {
		return err
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	if ss.view != nil && ss.view.Mailbox.ID == m.ID {
		ss.view = nil
	}
	return ss.srv.Store.Delete(ss.ctx, m.ID)
}

func (ss *session) doRename(p *imapparse.Parser) error {
	m, err := ss.find(p)
	if err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return usual(err)
	}
	to, err := mailboxName(p)
	if err == nil {
		err = usual(p.End())
	}
	if err != nil {
		return err
	}
	return ss.srv.Store.Rename(ss.ctx, m.ID, to)
}

func (ss *session) doSubscribe(p *imapparse.Parser, on bool) error {
	m, err := ss.find(p)
	if err != nil {
		if !on && errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	if err := p.End(); err != nil {
		return usual(err)
	}
	return ss.srv.Store.Subscribe(ss.ctx, m.ID, on)
}

func (ss *session) doNamespace() error {
	ss.put(`* NAMESPACE (("" "/")) NIL NIL`, "\r\n")
	return nil
}

// doList is LIST and LSUB, with the selection and return options of RFC 5258 that SPECIAL-USE
// needs: SUBSCRIBED, SPECIAL-USE, CHILDREN and STATUS.
func (ss *session) doList(p *imapparse.Parser, word string) error {
	var o listOptions
	if p.Peek() == '(' {
		if err := o.selection(p); err != nil {
			return usual(err)
		}
	}
	ref, err := p.Mailbox()
	if err != nil {
		return usual(err)
	}
	if err := p.Space(); err != nil {
		return usual(err)
	}
	patterns, err := listPatterns(p)
	if err == nil && p.More() {
		err = o.returns(p)
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	if len(patterns) == 1 && patterns[0] == "" {
		ss.put("* ", word, ` (\Noselect) "/" ""`, "\r\n")
		return nil
	}
	if err := ss.fresh(); err != nil {
		return err
	}
	all, err := ss.srv.Store.Mailboxes(ss.account.ID)
	if err != nil {
		return err
	}
	for i := range patterns {
		pat, err := decodeUTF7(ref + patterns[i])
		if err != nil {
			return nil // no mailbox can have such a name
		}
		patterns[i] = pat
	}
	for i := range all {
		m := &all[i]
		if word == "LSUB" && !m.Subscribed || o.subscribed && !m.Subscribed || o.special && (m.Use == "" || m.Use == model.UseInbox) || !matchAny(patterns, m.Name) {
			continue
		}
		ss.put("* ", word, " (", listFlags(m, all, &o, word), `) "/" `, quote(m.Name), "\r\n")
		if len(o.status) > 0 {
			ss.putStatus(m, o.status)
		}
		if len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return &connError{err}
			}
		}
	}
	return nil
}

type listOptions struct {
	subscribed, special bool
	status              []string
}

func (o *listOptions) selection(p *imapparse.Parser) error {
	err := p.List(func() error {
		a, err := p.Atom()
		switch strings.ToUpper(a) {
		case "SUBSCRIBED":
			o.subscribed = true
		case "SPECIAL-USE":
			o.special = true
		case "REMOTE", "RECURSIVEMATCH":
		default:
			if err == nil {
				err = fmt.Errorf("unknown selection option %.20s", a)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return p.Space()
}

func (o *listOptions) returns(p *imapparse.Parser) error {
	if err := p.Space(); err != nil {
		return err
	}
	if a, err := p.Atom(); err != nil || !strings.EqualFold(a, "RETURN") {
		return errors.New("RETURN expected")
	}
	if err := p.Space(); err != nil {
		return err
	}
	return p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch strings.ToUpper(a) {
		case "SUBSCRIBED", "CHILDREN", "SPECIAL-USE":
			return nil
		case "STATUS":
			if err := p.Space(); err != nil {
				return err
			}
			o.status, err = statusItems(p)
			return err
		}
		return fmt.Errorf("unknown return option %.20s", a)
	})
}

func listPatterns(p *imapparse.Parser) ([]string, error) {
	if p.Peek() != '(' {
		s, err := p.ListMailbox()
		return []string{s}, err
	}
	var out []string
	err := p.List(func() error {
		s, err := p.ListMailbox()
		if out = append(out, s); len(out) > 50 {
			return errors.New("too many patterns")
		}
		return err
	})
	return out, err
}

func listFlags(m *model.Mailbox, all []model.Mailbox, o *listOptions, word string) string {
	flags := []string{`\HasNoChildren`}
	prefix := m.Name + model.Delimiter
	for i := range all {
		if strings.HasPrefix(all[i].Name, prefix) {
			flags[0] = `\HasChildren`
			break
		}
	}
	if m.Use != "" && m.Use != model.UseInbox && word == "LIST" {
		flags = append(flags, `\`+string(m.Use))
	}
	if o.subscribed {
		flags = append(flags, `\Subscribed`)
	}
	return strings.Join(flags, " ")
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if len(p) <= 1000 && match(p, name) || model.IsInbox(p) && name == "INBOX" {
			return true
		}
	}
	return false
}

// match is * (anything) and % (anything within a level), in time of length times length at most.
func match(pattern, name string) bool {
	row := make([]bool, len(name)+1)
	row[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(name)+1)
		switch c := pattern[i]; c {
		case '*', '%':
			for j := range next {
				next[j] = row[j] || j > 0 && next[j-1] && (c == '*' || name[j-1] != model.Delimiter[0])
			}
		default:
			for j := 1; j <= len(name); j++ {
				next[j] = row[j-1] && name[j-1] == c
			}
		}
		row = next
	}
	return row[len(name)]
}

func statusItems(p *imapparse.Parser) ([]string, error) {
	var out []string
	err := p.List(func() error {
		a, err := p.Atom()
		if err != nil {
			return err
		}
		switch a = strings.ToUpper(a); a {
		case "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "DELETED", "APPENDLIMIT":
			out = append(out, a)
			return nil
		}
		return fmt.Errorf("unknown item %.20s", a)
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no item is named")
	}
	return out, err
}

func (ss *session) doStatus(p *imapparse.Parser) error {
	m, err := ss.find(p)
	if err != nil {
		return err
	}
	if err := p.Space(); err != nil {
		return usual(err)
	}
	items, err := statusItems(p)
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	ss.putStatus(&m, items)
	return nil
}

func (ss *session) putStatus(m *model.Mailbox, items []string) {
	ss.put("* STATUS ", quote(m.Name), " (")
	for i, it := range items {
		if i > 0 {
			ss.put(" ")
		}
		var n int64
		switch it {
		case "MESSAGES":
			n = int64(m.Messages)
		case "RECENT":
			n = max(0, int64(m.UIDNext)-int64(m.RecentFloor))
			n = min(n, int64(m.Messages))
		case "UIDNEXT":
			n = int64(m.UIDNext)
		case "UIDVALIDITY":
			n = int64(m.UIDValidity)
		case "UNSEEN":
			n = int64(m.Unseen)
		case "SIZE":
			n = m.Size
		case "DELETED":
			n = int64(m.Deleted)
		case "APPENDLIMIT":
			n = ss.appendLimit()
		}
		ss.put(it, " ")
		ss.putInt(n)
	}
	ss.put(")\r\n")
}
