package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// holdKind says in words what a rule holds.
func holdKind(r *model.HoldRule) string {
	if r.All {
		return "everything"
	}
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("sender", r.Sender)
	add("recipient", r.Recipient)
	add("domain", r.Domain)
	add("search", r.Search)
	if r.Larger > 0 {
		add("larger than", fmt.Sprint(r.Larger))
	}
	if r.Smaller > 0 {
		add("smaller than", fmt.Sprint(r.Smaller))
	}
	return strings.Join(parts, ", ")
}

func holdRuleRow(r *model.HoldRule) api.HoldRuleRow {
	return api.HoldRuleRow{
		Name: r.Name, Enabled: r.Enabled, Kind: holdKind(r), All: r.All, Sender: r.Sender, Recipient: r.Recipient, Domain: r.Domain, Search: r.Search,
		Larger: r.Larger, Smaller: r.Smaller, Notifications: r.Notifications, Until: stamp(r.Until), Description: r.Description,
	}
}

func getHoldRule(r state.Reader, name string) (*model.HoldRule, error) {
	return getRow(r, state.HoldRules, "hold rule", name, "mpctl queue hold-rule list")
}

// countHeld counts in rows what their rules hold, and what waits and is of their kind.
func (s *Server) countHeld(rules []*model.HoldRule, rows []api.HoldRuleRow) error {
	if len(rules) == 0 {
		return nil
	}
	at := map[string]int{}
	for i := range rules {
		at[rules[i].Name] = i
	}
	return s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		about := s.heldFrom(q)
		for k := range rcpts {
			r := &rcpts[k]
			if r.State == model.QueueHeld {
				if i, ok := at[r.HeldBy]; ok && r.HeldBy != "" {
					rows[i].Held++
				}
				continue
			}
			about.Recipient, about.Domain = r.Address, r.Domain
			for i, rule := range rules {
				if rule.Matches(&about) {
					rows[i].Matching++
				}
			}
		}
		return true
	})
}

// heldFrom is what rules compare of a message that is in the queue, but for the recipient.
func (s *Server) heldFrom(q *model.QueueMessage) model.Held {
	about := model.Held{Subject: q.Subject, Size: q.Size, Notification: q.Notice}
	if q.From != "" {
		about.Senders = []string{q.From}
		if from := s.mail.Queue.Sender(q.From); from != q.From {
			about.Senders = append(about.Senders, from)
		}
	}
	return about
}

// existing finds what is in the queue, not held, and of a rule's kind.
func (s *Server) existing(rule *model.HoldRule) (list []queueTarget, err error) {
	err = s.mail.State.QueueScan(0, func(q *model.QueueMessage, rcpts []model.QueueRcpt) bool {
		t, about := queueTarget{id: q.ID}, s.heldFrom(q)
		for k := range rcpts {
			about.Recipient, about.Domain = rcpts[k].Address, rcpts[k].Domain
			if rcpts[k].State != model.QueueHeld && rule.Matches(&about) {
				t.rcpts = append(t.rcpts, rcpts[k].N)
			}
		}
		if t.n = len(t.rcpts); t.n > 0 {
			list = append(list, t)
		}
		return true
	})
	return list, err
}

// setSizes reads the bounds of a rule; empty: not compared.
func setSizes(r *model.HoldRule, larger, smaller *string) (err error) {
	for _, f := range []struct {
		text *string
		to   *int64
	}{{larger, &r.Larger}, {smaller, &r.Smaller}} {
		switch {
		case f.text == nil:
		case *f.text == "":
			*f.to = 0
		default:
			if *f.to, err = parseSize(*f.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseUntil reads a time to come, or a duration from now; empty: none.
func parseUntil(text string, now time.Time) (int64, error) {
	var at time.Time
	if text == "" {
		return 0, nil
	}
	d, err := parseDuration(text)
	if err == nil {
		at = now.Add(d)
	} else if at, err = parseTime(text, now); err != nil {
		return 0, err
	}
	if !at.After(now) {
		return 0, op.Errorf(op.Usage, "%s is over already", text)
	}
	return at.Unix(), nil
}

func (s *Server) holdRuleAdd(ctx context.Context, c *Call, in *api.HoldRuleAddIn) (row api.HoldRuleRow, err error) {
	r := &model.HoldRule{
		Name: in.Name, Description: in.Description, Enabled: in.Enabled == nil || *in.Enabled, All: in.All, Sender: in.Sender, Recipient: in.Recipient,
		Domain: in.Domain, Search: in.Search, Notifications: in.Notifications, Created: time.Now().Unix(),
	}
	if in.Existing && !r.Enabled {
		return row, op.Errorf(op.Usage, "a rule that is off holds nothing: leave out --existing, or --enabled off")
	}
	if err := setSizes(r, &in.LargerThan, &in.SmallThan); err != nil {
		return row, err
	}
	if r.Until, err = parseUntil(in.Until, time.Now()); err != nil {
		return row, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.HoldRules.Has(tx, r.Name); err != nil {
			return err
		} else if has {
			return exists("hold rule", r.Name, "mpctl queue hold-rule set '"+r.Name+"'")
		}
		all, err := state.HoldRules.List(tx, "")
		if err != nil {
			return err
		}
		if len(all) >= model.MaxHoldRules {
			return refused("there are as many rules as there can be", "mpctl queue hold-rule list")
		}
		if err := putHoldRule(tx, r); err != nil {
			return err
		}
		row = holdRuleRow(r)
		diffRows(c, nil, row)
		return nil
	})
	if err != nil {
		return row, err
	}
	// Behind the rule, so that nothing comes in between the two.
	list, err := s.existing(r)
	if err != nil {
		return row, err
	}
	n := 0
	for _, t := range list {
		n += t.n
	}
	switch {
	case n == 0 || !r.Enabled:
	case in.Existing:
		changed, err := s.queueDo(ctx, c, state.QueueChange{Action: state.QueueHold, By: r.Name}, list)
		row.Held = changed.Recipients
		return row, err
	default:
		row.Matching = n
		c.Warn("%d recipients in the queue are of that kind and are sent: mpctl queue list; mpctl queue hold ID, or delete the rule and add it with --existing", n)
	}
	return row, nil
}

// putHoldRule stores a rule that holds something.
func putHoldRule(tx *state.Tx, r *model.HoldRule) error {
	if rest, below := strings.CutPrefix(r.Domain, "."); rest != "" {
		if r.Domain = asciiDomain(rest); below {
			r.Domain = "." + r.Domain
		}
	}
	if err := r.Validate(); err != nil {
		return err
	}
	return state.HoldRules.Put(tx, r)
}

func (s *Server) holdRuleList(_ context.Context, _ *Call, in *api.ListIn) ([]api.HoldRuleRow, error) {
	var rules []*model.HoldRule
	out := []api.HoldRuleRow{}
	for r, err := range state.HoldRules.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if row := holdRuleRow(r); matches(in.Search, row.Name, row.Kind, row.Description) {
			rules, out = append(rules, r), append(out, row)
		}
	}
	return out, s.countHeld(rules, out)
}

func (s *Server) holdRuleShow(_ context.Context, _ *Call, in *api.HoldRuleIn) (api.HoldRuleRow, error) {
	r, err := getHoldRule(s.mail.State, in.Name)
	if err != nil {
		return api.HoldRuleRow{}, err
	}
	out := []api.HoldRuleRow{holdRuleRow(r)}
	err = s.countHeld([]*model.HoldRule{r}, out)
	return out[0], err
}

func (s *Server) holdRuleSet(ctx context.Context, c *Call, in *api.HoldRuleSetIn) (row api.HoldRuleRow, err error) {
	var r *model.HoldRule
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if r, err = getHoldRule(tx, in.Name); err != nil {
			return err
		}
		before := holdRuleRow(r)
		assign(&r.All, in.All)
		assign(&r.Sender, in.Sender)
		assign(&r.Recipient, in.Recipient)
		assign(&r.Domain, in.Domain)
		assign(&r.Search, in.Search)
		assign(&r.Notifications, in.Notifications)
		assign(&r.Description, in.Description)
		assign(&r.Enabled, in.Enabled)
		if err := setSizes(r, in.LargerThan, in.SmallThan); err != nil {
			return err
		}
		if in.Until != nil {
			if r.Until, err = parseUntil(*in.Until, time.Now()); err != nil {
				return err
			}
		}
		if err := putHoldRule(tx, r); err != nil {
			return err
		}
		row = holdRuleRow(r)
		diffRows(c, before, row)
		return nil
	})
	if err != nil {
		return row, err
	}
	out := []api.HoldRuleRow{row}
	if err = s.countHeld([]*model.HoldRule{r}, out); err == nil {
		s.warnHeld(c, &out[0])
	}
	return out[0], err
}

func (s *Server) holdRuleDelete(ctx context.Context, c *Call, in *api.HoldRuleIn) (op.None, error) {
	var r *model.HoldRule
	err := s.change(ctx, c, func(tx *state.Tx) (err error) {
		if r, err = getHoldRule(tx, in.Name); err != nil {
			return err
		}
		diffRows(c, holdRuleRow(r), nil)
		return state.HoldRules.Delete(tx, r.Name)
	})
	if err != nil {
		return op.None{}, err
	}
	out := []api.HoldRuleRow{{Name: r.Name}}
	if err = s.countHeld([]*model.HoldRule{r}, out); err == nil {
		s.warnHeld(c, &out[0])
	}
	return op.None{}, err
}

// warnHeld tells of mail that a rule holds, though it would not any more.
func (s *Server) warnHeld(c *Call, row *api.HoldRuleRow) {
	if row.Held > 0 && !row.Enabled {
		c.Warn("%d recipients that it holds stay held: mpctl queue release --all --reason '%s'", row.Held, model.HeldBy(row.Name))
	}
}
