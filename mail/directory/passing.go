package directory

import (
	"mailplusd/mail/model"
	"mailplusd/mail/srs"
	"mailplusd/mail/state"
)

// addPassing adds what mailboxes and domains do with mail besides keeping it.
func (p *Picture) addPassing(r state.Reader, set *model.Delivery) error {
	p.Forwards, p.Replies = map[string]*model.AutoForward{}, map[string]*model.AutoReply{}
	for f, err := range state.AutoForwards.All(r, "") {
		if err != nil {
			return err
		}
		if u := p.byKey(f.User); u != nil { // not that of a namesake of another source
			p.Forwards[u.Name] = f
		}
	}
	for a, err := range state.AutoReplies.All(r, "") {
		if err != nil {
			return err
		}
		if u := p.byKey(a.User); u != nil {
			p.Replies[u.Name] = a
		}
	}
	var err error
	if p.BCC, err = state.AutoBCCs.List(r, ""); err != nil {
		return err
	}
	p.Holds, err = state.HoldRules.List(r, "")
	p.Rewrite, p.sealed = set.SRS, set.SRSSecret
	return err
}

// readSecret makes ready what rewrites senders. What was rewritten is read while rewriting is off, too.
func (d *Directory) readSecret(p *Picture) {
	if d.Secret == nil || p.sealed == "" {
		return
	}
	secret, err := d.Secret(p.sealed)
	if err != nil {
		d.log.Error("the secret of rewritten senders can't be read: mail is passed on under its own sender", "err", err)
		return
	}
	p.SRS = &srs.Rewriter{Secret: []byte(secret)}
}

// Hosts tells whether mail for a domain is received here.
func (p *Picture) Hosts(domain string) bool { return p.Domains[model.FoldDomain(domain)] != nil }
