package imapd

import (
	"sort"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
)

// node is a name in the tree of mailboxes. Names above a mailbox that aren't mailboxes
// themselves are in it too.
type node struct {
	name       string
	box        *model.Mailbox // nil: there is no such mailbox, only ones below
	children   bool
	below      bool // one below matches the selection
	subscribed bool // the name is, whether or not there is a mailbox
	ghost      bool // neither the name nor one below it is a mailbox's: it is only subscribed, or above such
}

// selection is what a LIST is looking for.
type selection struct{ subscribed, specialUse bool }

func (sel selection) has(n *node) bool {
	return (!sel.subscribed || n.subscribed) && (!sel.specialUse || n.box != nil && hasUse(n.box))
}

// tree makes the nodes of an account's mailboxes in the order of their names. names are subscribed
// without a mailbox.
func tree(all []model.Mailbox, names []string, sel selection) []*node {
	byName := make(map[string]*node, len(all))
	for i := range all {
		byName[all[i].Name] = &node{name: all[i].Name, box: &all[i], subscribed: all[i].Subscribed}
	}
	for i := range all {
		hit := sel.has(byName[all[i].Name])
		for name := all[i].Name; ; {
			at := strings.LastIndex(name, model.Delimiter)
			if at < 0 {
				break
			}
			name = name[:at]
			n := byName[name]
			if n == nil {
				n = &node{name: name}
				byName[name] = n
			}
			known := n.children && (n.below || !hit)
			n.children, n.below = true, n.below || hit
			if known {
				break // and so do those above
			}
		}
	}
	haunt(byName, names, sel)
	out := make([]*node, 0, len(byName))
	for _, n := range byName {
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// haunt adds the names that are subscribed without a mailbox, and those above them.
func haunt(byName map[string]*node, names []string, sel selection) {
	for _, name := range names {
		n := byName[name]
		if n == nil {
			n = &node{name: name, ghost: true}
			byName[name] = n
		}
		n.subscribed = true
		if !sel.has(n) {
			continue
		}
		for {
			at := strings.LastIndex(name, model.Delimiter)
			if at < 0 {
				break
			}
			name = name[:at]
			above := byName[name]
			if above == nil {
				above = &node{name: name, ghost: true}
				byName[name] = above
			}
			above.below = true
		}
	}
}

// doList is LIST with the options of RFC 5258, RFC 5819 and RFC 6154.
func (ss *session) doList(p *imapparse.Parser) error {
	a, err := p.ListArgs()
	if err != nil {
		return usual(err)
	}
	if !a.Extended && a.Patterns[0] == "" { // what is the delimiter?
		ss.put(`* LIST (\Noselect) "/" ""`, "\r\n")
		return nil
	}
	if !a.Extended { // RFC 3348, RFC 6154 §2
		a.ReturnChildren, a.ReturnSpecialUse = true, true
	}
	sel := selection{subscribed: a.Subscribed, specialUse: a.SpecialUse}
	nodes, err := ss.matching(a, sel)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		hit := sel.has(n) && (a.Subscribed || !n.ghost)
		if !hit && !(a.Recursive && n.below) {
			continue
		}
		ss.putNode(n, a)
		if len(a.Status) > 0 && hit && n.box != nil {
			ss.putStatus(n.box, a.Status)
		}
		if len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return &connError{err}
			}
		}
	}
	return nil
}

func hasUse(m *model.Mailbox) bool { return m.Use != "" && m.Use != model.UseInbox }

// doLsub is LSUB: what is subscribed, and with % at the end also names above such (RFC 3501 §6.3.9).
func (ss *session) doLsub(p *imapparse.Parser) error {
	a, err := p.ListArgs()
	if err == nil && a.Extended {
		err = bad{"LSUB takes a reference and a pattern"}
	}
	if err != nil {
		return usual(err)
	}
	if a.Patterns[0] == "" {
		ss.put(`* LSUB (\Noselect) "/" ""`, "\r\n")
		return nil
	}
	nodes, err := ss.matching(a, selection{subscribed: true})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		switch {
		case n.subscribed:
			ss.put(`* LSUB () "/" `, ss.quote(n.name), "\r\n")
		case n.below && strings.HasSuffix(a.Patterns[0], "%"):
			ss.put(`* LSUB (\Noselect) "/" `, ss.quote(n.name), "\r\n")
		}
	}
	return nil
}

// matching gives the names that match a pattern.
func (ss *session) matching(a *imapparse.ListArgs, sel selection) ([]*node, error) {
	if err := ss.fresh(); err != nil {
		return nil, err
	}
	all, err := ss.srv.Store.Mailboxes(ss.account.ID)
	if err != nil {
		return nil, err
	}
	var patterns []string
	for _, p := range a.Patterns {
		// A name of the account never has what can't be decoded: such a pattern matches nothing.
		if p, err := ss.decode(a.Reference + p); err == nil {
			patterns = append(patterns, inboxPattern(p))
		}
	}
	names, err := ss.srv.Store.Subscriptions(ss.account.ID)
	if err != nil {
		return nil, err
	}
	nodes := tree(all, names, sel)
	out := nodes[:0]
	for _, n := range nodes {
		for _, p := range patterns {
			if match(p, n.name) || n.name == "INBOX" && match(strings.ToUpper(p), "INBOX") {
				out = append(out, n)
				break
			}
		}
	}
	return out, nil
}

// putNode writes a LIST answer.
func (ss *session) putNode(n *node, a *imapparse.ListArgs) {
	var attrs []string
	switch {
	case n.box != nil:
	case a.Extended || ss.has(featRev2):
		attrs = append(attrs, `\NonExistent`)
	default:
		attrs = append(attrs, `\Noselect`)
	}
	if a.ReturnSubscribed && n.subscribed {
		attrs = append(attrs, `\Subscribed`)
	}
	if a.ReturnChildren && n.children {
		attrs = append(attrs, `\HasChildren`)
	} else if a.ReturnChildren {
		attrs = append(attrs, `\HasNoChildren`)
	}
	if a.ReturnSpecialUse && n.box != nil && hasUse(n.box) {
		attrs = append(attrs, `\`+string(n.box.Use))
	}
	ss.put("* LIST (", strings.Join(attrs, " "), `) "/" `, ss.quote(n.name))
	if a.Recursive && n.below {
		var options []string
		if a.Subscribed {
			options = append(options, `"SUBSCRIBED"`)
		}
		if a.SpecialUse {
			options = append(options, `"SPECIAL-USE"`)
		}
		ss.put(` ("CHILDINFO" (`, strings.Join(options, " "), "))")
	}
	ss.put("\r\n")
}

// putOldName tells a client of RFC 9051 that a name has given way to another (§6.3.9.7).
func (ss *session) putOldName(old, name string) {
	if ss.has(featRev2) {
		ss.put(`* LIST () "/" `, ss.quote(name), ` ("OLDNAME" (`, ss.quote(old), "))\r\n")
	}
}

// inboxPattern writes INBOX as it is kept.
func inboxPattern(p string) string {
	if len(p) >= 5 && model.IsInbox(p[:5]) && (len(p) == 5 || strings.ContainsRune(model.Delimiter+"*%", rune(p[5]))) {
		return "INBOX" + p[5:]
	}
	return p
}

// match is * (anything) and % (anything within a level). The first place where the rest can match is
// as good as any later one, so that going back to the last * and, within it, to the last % is enough.
func match(pattern, name string) bool {
	p, n := 0, 0
	star, starAt := -1, 0 // behind the last *, and where in name its rest begins
	level, levelAt := -1, 0
	for n < len(name) || p < len(pattern) {
		if p < len(pattern) {
			switch c := pattern[p]; {
			case c == '*':
				p++
				star, starAt, level = p, n, -1
				continue
			case c == '%':
				p++
				level, levelAt = p, n
				continue
			case n < len(name) && c == name[n]:
				p++
				n++
				continue
			}
		}
		switch {
		case level >= 0 && levelAt < len(name) && name[levelAt] != model.Delimiter[0]:
			levelAt++
			p, n = level, levelAt
		case star >= 0 && starAt < len(name):
			starAt++
			p, n, level = star, starAt, -1
		default:
			return false
		}
	}
	return true
}
