package server

import (
	"cmp"
	"context"
	"strconv"

	"mailplusd/admin/api"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func domainLimitRow(d *model.Domain) api.DomainLimitRow {
	l := &d.Limits
	message := model.LimitOff
	if l.MessageMB > 0 {
		message = model.Limit(strconv.Itoa(l.MessageMB))
	}
	return api.DomainLimitRow{
		Domain: d.Name, MessageMB: string(message), AttachmentMB: limitWord(l.AttachmentMB, model.LimitOff), DailyCount: limitWord(l.DailyCount, model.LimitOff),
		DailyMB: limitWord(l.DailyMB, model.LimitOff), DisableAutoForward: l.DisableAutoForward,
	}
}

// limitWord shows a limit; other is what an empty one means.
func limitWord(l, other model.Limit) string { return string(cmp.Or(l, other)) }

func (s *Server) domainLimitShow(_ context.Context, c *Call, in *api.DomainIn) (api.DomainLimitRow, error) {
	d, err := getDomain(s.mail.State, in.Name)
	if err != nil {
		return api.DomainLimitRow{}, err
	}
	s.warnDomainLimits(c, d)
	return domainLimitRow(d), nil
}

func (s *Server) domainLimitSet(ctx context.Context, c *Call, in *api.DomainLimitSetIn) (row api.DomainLimitRow, err error) {
	var d *model.Domain
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if d, err = getDomain(tx, in.Name); err != nil {
			return err
		}
		before, l := domainLimitRow(d), &d.Limits
		if in.MessageMB != nil {
			if l.MessageMB, err = model.ParseMessageMB(*in.MessageMB); err != nil {
				return err
			}
		}
		assign(&l.AttachmentMB, (*model.Limit)(in.AttachmentMB))
		assign(&l.DailyCount, (*model.Limit)(in.DailyCount))
		assign(&l.DailyMB, (*model.Limit)(in.DailyMB))
		assign(&l.DisableAutoForward, in.DisableAutoForward)
		if err := l.Validate(); err != nil {
			return err
		}
		row = domainLimitRow(d)
		diffRows(c, before, row)
		return state.Domains.Put(tx, d)
	})
	if err == nil {
		s.warnDomainLimits(c, d)
	}
	return row, err
}

// warnDomainLimits tells which limits have no effect, and why.
func (s *Server) warnDomainLimits(c *Call, d *model.Domain) {
	set, l := s.mail.State.Current(), &d.Limits
	if l.MessageMB > set.Delivery.MaxSizeMB {
		c.Warn("messages are limited to %d MB by the system, which is less: mpctl delivery general set --max-size %d", set.Delivery.MaxSizeMB, l.MessageMB)
	}
	if n, _ := l.AttachmentMB.Value(); n > int64(set.Delivery.MaxSizeMB) {
		c.Warn("messages are limited to %d MB by the system, with their attachments: mpctl delivery general set --max-size %d", set.Delivery.MaxSizeMB, n)
	}
	if countsDaily(l.DailyCount, l.DailyMB) && !set.Delivery.AuthEnabled {
		c.Warn("%s", dailyNeedsAuth)
	}
}

const dailyNeedsAuth = "daily limits have no effect while SMTP authentication is off, because nobody is known who sends: mpctl delivery auth set --enable on"

// countsDaily tells whether one of the daily limits is one.
func countsDaily(list ...model.Limit) bool {
	for _, l := range list {
		if n, _ := l.Value(); n > 0 {
			return true
		}
	}
	return false
}

// dailyLimits names policies and domains with daily limits, which need SMTP authentication (R7.28).
func dailyLimits(pic *directory.Picture) (out []string) {
	for _, p := range pic.Policies {
		if countsDaily(p.DailyCount, p.DailyMB) {
			out = append(out, "daily limits of the policy "+p.Name)
		}
	}
	for name, d := range pic.Domains {
		if name == d.Name && countsDaily(d.Limits.DailyCount, d.Limits.DailyMB) {
			out = append(out, "daily limits of the domain "+name)
		}
	}
	return out
}
