package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// policyRow shows a policy of a picture; names: with the names of its targets.
func policyRow(pic *directory.Picture, p *model.Policy, names bool) api.PolicyRow {
	row := api.PolicyRow{
		Name: p.Name, Colour: p.Colour, IMAP: p.IMAP, IMAPLANOnly: p.IMAPLANOnly, POP3: p.POP3, POP3LANOnly: p.POP3LANOnly, FTS: p.FTS,
		DisableAutoForward: p.DisableAutoForward, InternalOnly: p.InternalOnly, DailyCount: limitWord(p.DailyCount, model.PolicyInherit),
		DailyMB: limitWord(p.DailyMB, model.PolicyInherit), AttachmentMB: limitWord(p.AttachmentMB, model.PolicyInherit), Users: p.Users, Groups: p.Groups, Created: stamp(p.Created),
	}
	row.Order = slices.IndexFunc(pic.Policies, func(o *model.Policy) bool { return o.Name == p.Name }) + 1
	for _, a := range pic.Users {
		if a.Policy.Name == p.Name {
			row.InForce++
		}
	}
	switch {
	case p.IsDefault():
		row.Targets = "everybody else"
	case names:
		all := slices.Clone(p.Users)
		for _, g := range p.Groups {
			all = append(all, "group "+g)
		}
		row.Targets = strings.Join(all, ", ")
	default:
		row.Targets = fmt.Sprintf("%d users, %d groups", len(p.Users), len(p.Groups))
	}
	return row
}

// findPolicy gives a policy of a picture, the default one too.
func findPolicy(pic *directory.Picture, name string) (*model.Policy, error) {
	for _, p := range pic.Policies {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, notFound("policy", name, "mpctl policy list")
}

// getPolicy reads a policy that is to be changed; the default one can't be (R5.51–R5.53).
func getPolicy(r state.Reader, name, what string) (*model.Policy, error) {
	if name == model.DefaultPolicyName {
		return nil, refused("the default policy can't be "+what+"; make another one for those who need it", "mpctl policy add NAME --user USER")
	}
	return getRow(r, state.Policies, "policy", name, "mpctl policy list")
}

// policyChange runs fn and gives the policy before and after.
func (s *Server) policyChange(ctx context.Context, c *Call, name string, fn func(*state.Tx) (*model.Policy, error)) (after api.PolicyRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		pic, err := directory.Draw(tx, time.Now())
		if err != nil {
			return err
		}
		var before any
		if p, err := findPolicy(pic, name); err == nil {
			before = policyRow(pic, p, true)
		}
		p, err := fn(tx)
		if err != nil {
			return err
		}
		if err := p.Validate(); err != nil {
			return err
		}
		if err := state.Policies.Put(tx, p); err != nil {
			return err
		}
		if pic, err = directory.Draw(tx, time.Now()); err != nil {
			return err
		}
		after = policyRow(pic, p, true)
		c.warning = nil
		warnOvertaken(c, pic, p)
		diffRows(c, before, after)
		return nil
	})
	return after, err
}

// warnOvertaken names targets for whom an earlier policy counts.
func warnOvertaken(c *Call, pic *directory.Picture, p *model.Policy) {
	by := map[string][]string{}
	for _, u := range targetsOf(pic, p) {
		if other := pic.User(u.User).Policy; other.Name != p.Name {
			by[other.Name] = append(by[other.Name], u.User)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		users := by[name]
		if len(users) > 5 {
			users = append(users[:5:5], fmt.Sprintf("%d more", len(by[name])-5))
		}
		c.Warn("for %s the policy %s counts, which comes before %s: mpctl policy move '%s' --before '%s'", strings.Join(users, ", "), name, p.Name, p.Name, name)
	}
}

// warnServices tells what has no effect because the service is off (R5.86, R5.93, R5.100), and what
// switching full-text search off does.
func (s *Server) warnServices(c *Call, in *api.PolicySetIn, row *api.PolicyRow) {
	set := s.mail.State.Current()
	if (in.IMAP != nil || in.IMAPLANOnly != nil) && !set.Services.IMAP.Enabled {
		c.Warn("IMAP is off for everybody, whatever a policy says: mpctl service imap set --enable on")
	}
	if (in.POP3 != nil || in.POP3LANOnly != nil) && !set.Services.POP3.Enabled {
		c.Warn("POP3 is off for everybody, whatever a policy says: mpctl service pop3 set --enable on")
	}
	if (in.DailyCount != nil || in.DailyMB != nil) && countsDaily(model.Limit(row.DailyCount), model.Limit(row.DailyMB)) && !set.Delivery.AuthEnabled { // R5.67, R5.75
		c.Warn("%s", dailyNeedsAuth)
	}
	if n, _ := model.Limit(row.AttachmentMB).Value(); in.AttachmentMB != nil && n > int64(set.Delivery.MaxSizeMB) {
		c.Warn("messages are limited to %d MB by the system, with their attachments: mpctl delivery general set --max-size %d", set.Delivery.MaxSizeMB, n)
	}
	switch {
	case in.FTS == nil:
	case !set.FTS.Enabled:
		c.Warn("full-text search is off for everybody, whatever a policy says: mpctl service fts set --enable on")
	case !*in.FTS && row.InForce > 0:
		c.Warn("the full-text indexes of %d users are removed; their searches still find everything, only slower", row.InForce)
	}
}

// setPolicy takes over what is given.
func setPolicy(p *model.Policy, in *api.PolicySetIn) {
	assign(&p.Colour, in.Colour)
	assign(&p.IMAP, in.IMAP)
	assign(&p.IMAPLANOnly, in.IMAPLANOnly)
	assign(&p.POP3, in.POP3)
	assign(&p.POP3LANOnly, in.POP3LANOnly)
	assign(&p.FTS, in.FTS)
	assign(&p.DisableAutoForward, in.DisableAutoForward)
	assign(&p.DailyCount, (*model.Limit)(in.DailyCount))
	assign(&p.DailyMB, (*model.Limit)(in.DailyMB))
	assign(&p.AttachmentMB, (*model.Limit)(in.AttachmentMB))
	assign(&p.InternalOnly, in.InternalOnly)
}

func (s *Server) policyAdd(ctx context.Context, c *Call, in *api.PolicyAddIn) (api.PolicyRow, error) {
	set := &api.PolicySetIn{IMAP: in.IMAP, IMAPLANOnly: in.IMAPLANOnly, POP3: in.POP3, POP3LANOnly: in.POP3LANOnly, FTS: in.FTS, DisableAutoForward: in.DisableAutoForward,
		DailyCount: in.DailyCount, DailyMB: in.DailyMB, AttachmentMB: in.AttachmentMB, InternalOnly: in.InternalOnly}
	if in.Colour != "" {
		set.Colour = &in.Colour
	}
	row, err := s.policyChange(ctx, c, in.Name, func(tx *state.Tx) (*model.Policy, error) {
		list, err := directory.OrderedPolicies(tx)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o *model.Policy) bool { return o.Name == in.Name }) {
			return nil, exists("policy", in.Name, "mpctl policy set '"+in.Name+"'")
		}
		if len(list) >= model.MaxPolicies {
			return nil, refused(fmt.Sprintf("there are %d policies, which is the limit", len(list)), "mpctl policy list")
		}
		p := model.DefaultPolicy()
		p.Name, p.Rank, p.Created = in.Name, 1, time.Now().Unix()
		if len(list) > 0 {
			p.Rank = list[len(list)-1].Rank + 1
		}
		setPolicy(p, set)
		return p, addTargets(tx, p, in.Users, in.Groups)
	})
	if err == nil {
		s.warnServices(c, set, &row)
		if len(in.Users)+len(in.Groups) == 0 {
			c.Warn("it is for nobody yet: mpctl policy target add '%s' USER", in.Name)
		}
	}
	return row, err
}

func (s *Server) policyList(_ context.Context, _ *Call, in *api.PolicyListIn) ([]api.PolicyRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	out := []api.PolicyRow{}
	for _, p := range pic.Policies {
		if matches(in.Search, p.Name, p.Users, p.Groups) && (in.Colour == "" || in.Colour == p.Colour) {
			out = append(out, policyRow(pic, p, in.Targets))
		}
	}
	return out, nil
}

func (s *Server) policyShow(_ context.Context, _ *Call, in *api.PolicyIn) (row api.PolicyRow, err error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return row, err
	}
	p, err := findPolicy(pic, in.Name)
	if err != nil {
		return row, err
	}
	return policyRow(pic, p, true), nil
}

func (s *Server) policySet(ctx context.Context, c *Call, in *api.PolicySetIn) (api.PolicyRow, error) {
	row, err := s.policyChange(ctx, c, in.Name, func(tx *state.Tx) (*model.Policy, error) {
		p, err := getPolicy(tx, in.Name, "changed")
		if err != nil {
			return nil, err
		}
		setPolicy(p, in)
		return p, renameRow(tx, state.Policies, &p.Name, in.Rename, "policy", "mpctl policy list")
	})
	if err == nil {
		s.warnServices(c, in, &row)
	}
	return row, err
}

func (s *Server) policyDelete(ctx context.Context, c *Call, in *api.PolicyIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		p, err := getPolicy(tx, in.Name, "deleted")
		if err != nil {
			return err
		}
		pic, err := directory.Draw(tx, time.Now())
		if err != nil {
			return err
		}
		diffRows(c, policyRow(pic, p, true), nil)
		return state.Policies.Delete(tx, p.Name)
	})
}

// policyMove changes the order. It is one change: logins see the old order or the new one (R5.42).
func (s *Server) policyMove(ctx context.Context, c *Call, in *api.PolicyMoveIn) (out []api.PolicyRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		list, err := directory.OrderedPolicies(tx)
		if err != nil {
			return err
		}
		now, err := reorder(tx, list, in)
		if err != nil {
			return err
		}
		c.Diff(op.FieldDiff{Field: "order", Old: namesOf(list), New: namesOf(now)})
		for i, p := range now {
			if p.Rank != i+1 {
				p.Rank = i + 1
				if err := state.Policies.Put(tx, p); err != nil {
					return err
				}
			}
		}
		pic, err := directory.Draw(tx, time.Now())
		if err != nil {
			return err
		}
		out = nil
		for _, p := range pic.Policies {
			out = append(out, policyRow(pic, p, false))
		}
		return nil
	})
	return out, err
}

func namesOf(list []*model.Policy) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// reorder gives the list with some policies at another place.
func reorder(tx *state.Tx, list []*model.Policy, in *api.PolicyMoveIn) ([]*model.Policy, error) {
	place := func(in []*model.Policy, name string) int {
		return slices.IndexFunc(in, func(p *model.Policy) bool { return p.Name == name })
	}
	left := slices.Clone(list)
	var moved []*model.Policy
	for _, name := range in.Names {
		if _, err := getPolicy(tx, name, "moved"); err != nil {
			return nil, err
		}
		i := place(left, name)
		if i < 0 {
			return nil, op.Errorf(op.Usage, "%s is named twice", name)
		}
		moved, left = append(moved, left[i]), slices.Delete(left, i, i+1)
	}
	at := 0
	switch {
	case in.Last, in.Before == model.DefaultPolicyName:
		at = len(left)
	case in.Before != "" || in.After != "":
		name := in.Before + in.After
		if _, err := getPolicy(tx, name, "followed by another one"); err != nil {
			return nil, err
		}
		if at = place(left, name); at < 0 {
			return nil, op.Errorf(op.Usage, "%s can't be moved next to itself", name)
		}
		if in.After != "" {
			at++
		}
	}
	return slices.Insert(left, at, moved...), nil
}
