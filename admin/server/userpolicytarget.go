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
