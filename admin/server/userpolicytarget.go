package server

import (
	"context"
	"slices"

	"mailplusd/admin/api"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// addTargets lets a policy be for users and groups that there are.
func addTargets(tx *state.Tx, p *model.Policy, users, groups []string) error {
	for _, name := range users {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		if !slices.Contains(p.Users, u.Name) {
			p.Users = append(p.Users, u.Name)
		}
	}
	for _, name := range groups {
		g, err := getGroup(tx, name)
		if err != nil {
			return err
		}
		if !slices.Contains(p.Groups, g.Name) {
			p.Groups = append(p.Groups, g.Name)
		}
	}
	slices.Sort(p.Users)
	slices.Sort(p.Groups)
	return nil
}

func (s *Server) policyTargetAdd(ctx context.Context, c *Call, in *api.PolicyTargetIn) (api.PolicyRow, error) {
	return s.policyChange(ctx, c, in.Policy, func(tx *state.Tx) (*model.Policy, error) {
		p, err := getPolicy(tx, in.Policy, "limited to some users")
		if err != nil {
			return nil, err
		}
		return p, addTargets(tx, p, in.Users, in.Groups)
	})
}

func (s *Server) policyTargetDelete(ctx context.Context, c *Call, in *api.PolicyTargetIn) (api.PolicyRow, error) {
	return s.policyChange(ctx, c, in.Policy, func(tx *state.Tx) (*model.Policy, error) {
		p, err := getPolicy(tx, in.Policy, "taken from some users")
		if err != nil {
			return nil, err
		}
		take := func(list *[]string, names []string) error {
			for _, name := range names {
				i := slices.Index(*list, model.FoldName(name))
				if i < 0 {
					return notFound("target", name, "mpctl policy show '"+p.Name+"'")
				}
				*list = slices.Delete(*list, i, i+1)
			}
			return nil
		}
		if err := take(&p.Users, in.Users); err != nil {
			return nil, err
		}
		return p, take(&p.Groups, in.Groups)
	})
}

// targetsOf lists the users that a policy names, each once: himself, or the first of its groups.
func targetsOf(pic *directory.Picture, p *model.Policy) (out []api.PolicyTargetRow) {
	seen := map[string]bool{}
	add := func(user, through string) {
		if a := pic.User(user); a != nil && !seen[user] {
			seen[user] = true
			out = append(out, api.PolicyTargetRow{User: user, Through: through, InForce: a.Policy.Name})
		}
	}
	for _, u := range p.Users {
		add(u, "user")
	}
	for _, g := range p.Groups {
		for _, u := range pic.Members(g) {
			add(u, "group "+g)
		}
	}
	return out
}

func (s *Server) policyTargetList(_ context.Context, _ *Call, in *api.PolicyTargetListIn) ([]api.PolicyTargetRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	p, err := findPolicy(pic, in.Policy)
	if err != nil {
		return nil, err
	}
	list := targetsOf(pic, p)
	if p.IsDefault() {
		for _, a := range pic.Users {
			if a.Policy == p {
				list = append(list, api.PolicyTargetRow{User: a.Name, Through: a.PolicyVia, InForce: p.Name})
			}
		}
	}
	out := []api.PolicyTargetRow{}
	for _, r := range list {
		if matches(in.Search, r.User, r.Through) {
			out = append(out, r)
		}
	}
	return out, nil
}

// dropFromPolicies takes a user or group who is no more out of every policy; to: the new name of a
// group that is renamed.
func dropFromPolicies(tx *state.Tx, user, group, to string) error {
	list, err := state.Policies.List(tx, "")
	if err != nil {
		return err
	}
	for _, p := range list {
		changed := false
		if i := slices.Index(p.Users, user); user != "" && i >= 0 {
			p.Users, changed = slices.Delete(p.Users, i, i+1), true
		}
		if i := slices.Index(p.Groups, group); group != "" && i >= 0 {
			p.Groups, changed = slices.Delete(p.Groups, i, i+1), true
			if to != "" {
				p.Groups = append(p.Groups, to)
				slices.Sort(p.Groups)
			}
		}
		if changed {
			if err := state.Policies.Put(tx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// policyEffective tells what a user may do: the service, the user's own settings and the policy
// can each take away, in this order.
func (s *Server) policyEffective(_ context.Context, _ *Call, in *api.UserIn) ([]api.EffectiveRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	a := pic.User(in.Name)
	if a == nil {
		return nil, notFound("user", in.Name, "mpctl user list")
	}
	p, set := a.Policy, s.mail.State.Current()
	out := []api.EffectiveRow{{Item: "policy", Value: p.Name, DecidedBy: a.PolicyVia, Change: "mpctl policy move, mpctl policy target"}}
	policy := "mpctl policy set '" + p.Name + "'"
	if p.IsDefault() {
		policy = "mpctl policy add NAME --user " + a.Name
	}
	add := func(item, flag string, service, own bool, serviceVerb, ownVerb string, on, lan bool) {
		r := api.EffectiveRow{Item: item, Value: "off"}
		switch {
		case !service:
			r.DecidedBy, r.Change = "service", "mpctl "+serviceVerb+" --enable on"
		case !own:
			r.DecidedBy, r.Change = "user", "mpctl user set "+a.Name+" "+ownVerb
		case !on:
			r.DecidedBy, r.Change = "policy "+p.Name, policy+" --"+flag+" on"
		case lan:
			r.Value, r.DecidedBy, r.Change = "local network only", "policy "+p.Name, policy+" --"+flag+"-lan-only off"
		default:
			r.Value, r.DecidedBy, r.Change = "on", "policy "+p.Name, policy+" --"+flag+" off"
		}
		out = append(out, r)
	}
	denied := func(v model.MailService) bool { return slices.Contains(a.Deny, v) }
	add("imap", "imap", set.Services.IMAP.Enabled, !denied(model.ServiceIMAP), "service imap set", "--deny none", p.IMAP, p.IMAPLANOnly)
	add("pop3", "pop3", set.Services.POP3.Enabled, !denied(model.ServicePOP3), "service pop3 set", "--deny none", p.POP3, p.POP3LANOnly)
	add("fts", "fts", set.FTS.Enabled, !a.NoFTS, "service fts set", "--fts on", p.FTS, false)
	return append(out, api.EffectiveRow{Item: "disable-auto-forward", Value: p.DisableAutoForward, DecidedBy: "policy " + p.Name, Change: policy + " --disable-auto-forward on|off|inherit"}), nil
}
