package server

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// usageRow shows what a user has sent today; domain: of the address whose limits count, empty: the main one.
func (s *Server) usageRow(pic *directory.Picture, a *directory.Account, domain string, u model.Usage, now time.Time) api.UsageRow {
	l := limits.Of(pic, s.mail.State.Current(), a, domain)
	u = u.On(model.DayOf(now))
	row := api.UsageRow{
		User: a.Name, Messages: u.Messages, Count: l.Messages.N, Octets: u.Octets, MB: l.Traffic.N / model.MB, Full: l.Full(u, 1, now),
		Day: u.Day.String(), StartsAnew: stamp(u.Day.End(now.Location()).Unix()), MainAddress: a.MainAddress(),
	}
	if l.Messages.N > 0 {
		row.CountBy = l.Messages.By.String()
	}
	if l.Traffic.N > 0 {
		row.MBBy = l.Traffic.By.String()
	}
	return row
}

// usageRows shows the users of a domain, or everybody, that a filter finds; users: only those.
func (s *Server) usageRows(domain string, users []string, f *api.UsageFilter, used bool) ([]api.UsageRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	name := ""
	if domain != "" {
		d, err := getDomain(s.mail.State, domain)
		if err != nil {
			return nil, err
		}
		name = d.Name
	}
	chosen := map[string]bool{}
	for _, u := range users {
		a := pic.User(u)
		switch {
		case a == nil:
			return nil, notFound("user", u, "mpctl user list")
		case name != "" && !isMember(a, name):
			return nil, notFound("member", u+" of "+name, "mpctl domain user list "+name)
		}
		chosen[a.Name] = true
	}
	all, err := s.mail.State.Usages()
	if err != nil {
		return nil, err
	}
	out, now := []api.UsageRow{}, time.Now()
	for _, a := range pic.Users {
		if name != "" && !isMember(a, name) || len(users) > 0 && !chosen[a.Name] || !matches(f.Search, a.Name, a.DisplayName, a.Addresses) {
			continue
		}
		row := s.usageRow(pic, a, name, all[a.ID], now)
		if f.Full && !row.Full || used && row.Messages == 0 {
			continue
		}
		out = append(out, row)
	}
	return out, nil
}

// isMember tells whether an account has an address in a domain.
func isMember(a *directory.Account, domain string) bool {
	return slices.ContainsFunc(a.Addresses, func(address string) bool { return strings.HasSuffix(address, "@"+domain) })
}

func (s *Server) accountUsageList(_ context.Context, _ *Call, in *api.AccountUsageListIn) ([]api.UsageRow, error) {
	return s.usageRows("", nil, &in.UsageFilter, in.Used)
}

func (s *Server) domainUsageList(_ context.Context, _ *Call, in *api.DomainUsageListIn) ([]api.UsageRow, error) {
	return s.usageRows(in.Domain, nil, &in.UsageFilter, in.Used)
}

func (s *Server) domainUsageShow(_ context.Context, _ *Call, in *api.DomainUserIn) (api.UsageRow, error) {
	rows, err := s.usageRows(in.Domain, []string{in.User}, &api.UsageFilter{}, false)
	if err != nil {
		return api.UsageRow{}, err
	}
	return rows[0], nil
}

func (s *Server) accountUsageClear(ctx context.Context, c *Call, in *api.AccountUsageClearIn) (api.UsageCleared, error) {
	return s.clearUsage(ctx, c, "", in.Users, &in.UsageFilter)
}

func (s *Server) domainUsageClear(ctx context.Context, c *Call, in *api.DomainUsageClearIn) (api.UsageCleared, error) {
	return s.clearUsage(ctx, c, in.Domain, in.Users, &in.UsageFilter)
}

// maxUsageDiffs is of how many users a change tells what each has sent.
const maxUsageDiffs = 500

// clearUsage forgets the counts of users (R8.90, R8.91), in one entry.
func (s *Server) clearUsage(ctx context.Context, c *Call, domain string, users []string, f *api.UsageFilter) (out api.UsageCleared, err error) {
	rows, err := s.usageRows(domain, users, f, true)
	if err != nil {
		return out, err
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	var clear state.SentClear
	out.Users = []string{}
	for _, r := range rows {
		if a := pic.User(r.User); a != nil {
			clear.Accounts = append(clear.Accounts, a.ID)
			out.Users = append(out.Users, a.Name)
		}
	}
	out.Cleared = len(out.Users)
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if len(rows) > maxUsageDiffs { // an entry of the log holds no line for each
			c.Diff(op.FieldDiff{Field: "users with a count", Old: strconv.Itoa(len(rows)), New: "0"})
			rows = nil
		}
		for _, r := range rows {
			now := r
			now.Messages, now.Octets, now.Full = 0, 0, false
			for _, d := range op.DiffValues(r, now) {
				d.Field = r.User + " " + d.Field
				c.Diff(d)
			}
		}
		if len(clear.Accounts) > 0 {
			tx.Also(clear)
		}
		return nil
	})
	return out, err
}
