package server

import (
	"context"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/state"
)

func (s *Server) tlsReportList(ctx context.Context, c *Call, in *api.ListIn) ([]api.TLSReportRow, error) {
	if !s.mail.State.Current().Queue.TLSReports {
		c.Warn("nothing is counted: mpctl delivery tls default set --reports on")
	}
	if err := s.mail.KeepTLSReports(ctx); err != nil {
		c.Warn("what was counted in the last minutes is missing: %v", err)
	}
	out := []api.TLSReportRow{}
	for r, err := range state.TLSReports.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		for _, p := range r.Policies {
			row := api.TLSReportRow{Day: r.Day, Domain: r.Domain, Policy: p.Kind, Result: "success", Count: p.OK}
			if row.Count > 0 && matches(in.Search, row.Day, row.Domain, row.Policy, row.Result) {
				out = append(out, row)
			}
			for _, f := range p.Failures {
				row.Result, row.Count, row.Host, row.Detail = f.Kind, f.Count, f.Host, f.Detail
				if matches(in.Search, row.Day, row.Domain, row.Policy, row.Result, row.Host, row.Detail) {
					out = append(out, row)
				}
			}
		}
	}
	return out, nil
}

func (s *Server) tlsReportSend(ctx context.Context, c *Call, _ *op.None) (out api.TLSReportSent, err error) {
	if !s.mail.State.Current().Queue.TLSReports {
		return out, refused("reports on TLS are off", "mpctl delivery tls default set --reports on")
	}
	if c.DryRun {
		return out, nil
	}
	if err := s.mail.KeepTLSReports(ctx); err != nil {
		return out, err
	}
	out.Sent, err = s.mail.SendTLSReports(ctx, time.Now(), true)
	if err != nil && out.Sent > 0 {
		c.Warn("not everybody has taken a report: %v", err)
		err = nil
	}
	return out, err
}
