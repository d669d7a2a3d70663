package directory

import (
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (p *Picture) addDKIM(r state.Reader) error {
	p.dkim = map[string]*model.DKIM{}
	for d, err := range state.DKIM.All(r, "") {
		if err != nil {
			return err
		}
		p.dkim[d.Domain] = d
	}
	return nil
}

// DKIM gives how mail from a domain is signed, also by an additional name; nil: nothing is set for it.
func (p *Picture) DKIM(domain string) *model.DKIM {
	d := p.Domains[domain]
	if d == nil {
		return nil
	}
	return p.dkim[d.Name]
}
