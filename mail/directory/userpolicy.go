package directory

import (
	"cmp"
	"slices"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// addPolicies finds the policy that counts for each account: the first that names him or a group
// that he is in (R5.40), else the default one (R5.49).
func (p *Picture) addPolicies(r state.Reader) error {
	var err error
	if p.Policies, err = OrderedPolicies(r); err != nil {
		return err
	}
	for _, pol := range p.Policies {
		for _, u := range pol.Users {
			if a := p.byName[u]; a != nil && a.Policy == nil {
				a.Policy, a.PolicyVia = pol, "user"
			}
		}
		for _, g := range slices.Sorted(slices.Values(pol.Groups)) {
			for u := range p.members[g] {
				if a := p.byName[u]; a != nil && a.Policy == nil {
					a.Policy, a.PolicyVia = pol, "group "+g
				}
			}
		}
	}
	last := model.DefaultPolicy()
	p.Policies = append(p.Policies, last)
	for _, a := range p.Users {
		if a.Policy == nil {
			a.Policy, a.PolicyVia = last, "default"
		}
	}
	return nil
}

// OrderedPolicies reads the policies that somebody made, in the order in which they count.
func OrderedPolicies(r state.Reader) ([]*model.Policy, error) {
	list, err := state.Policies.List(r, "")
	slices.SortFunc(list, func(a, b *model.Policy) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Name, b.Name))
	})
	return list, err
}

// Policy gives the policy that counts for a user, by his name; for one who is unknown the default.
func (p *Picture) Policy(user string) *model.Policy {
	if a := p.User(user); a != nil {
		return a.Policy
	}
	return p.Policies[len(p.Policies)-1]
}
