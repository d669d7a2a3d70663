package server

import (
	"context"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) logRow(e *maillog.Event) api.LogRow {
	node := e.Node
	if node == "" {
		node = s.node
	}
	status := e.Status
	if status == "" {
		status = e.Type
	}
	return api.LogRow{MessageID: e.MessageID, Time: e.Time.Format(time.RFC3339), Sender: e.Sender, Recipient: e.Recipient, Subject: e.Subject,
		Size: e.Size, Status: status, Trace: e.TraceID, Client: e.ClientIP, Remote: e.Remote, TLS: e.TLS, Reason: e.Reason, Node: node}
}

func logFilter(in *api.LogListIn) (f maillog.Filter, err error) {
	f = maillog.Filter{Sender: in.Sender, Recipient: in.Recipient, Subject: in.Subject, MessageID: in.MessageID, Any: in.Search, Status: in.Status, Trace: in.Trace, All: in.Everything, Limit: in.Limit}
	now := time.Now()
	if f.Since, err = parseTime(in.Since, now); err != nil {
		return f, err
	}
	f.Until, err = parseTime(in.Until, now)
	return f, err
}

func (s *Server) logEvents(ctx context.Context, c *Call, in *api.LogListIn) ([]maillog.Event, error) {
	f, err := logFilter(in)
	if err != nil {
		return nil, err
	}
	log := s.mail.MailLog
	if in.Source != "" && in.Source != "internal" {
		if log, err = maillog.OpenFile(in.Source); err != nil {
			return nil, op.Errorf(op.Usage, "%v", err)
		}
		defer log.Close()
	}
	if err := log.Refresh(ctx); err != nil {
		c.Warn("%v", err)
	}
	return log.Query(ctx, f)
}

func (s *Server) logMailList(ctx context.Context, c *Call, in *api.LogListIn) ([]api.LogRow, error) {
	events, err := s.logEvents(ctx, c, in)
	out := []api.LogRow{}
	for i := range events {
		out = append(out, s.logRow(&events[i]))
	}
	return out, err
}

func (s *Server) logMailExport(ctx context.Context, c *Call, in *api.LogListIn) (api.LogExport, error) {
	events, err := s.logEvents(ctx, c, in)
	if err != nil {
		return api.LogExport{}, err
	}
	var b strings.Builder
	err = maillog.WriteCSV(&b, events)
	return api.LogExport{Text: b.String()}, err
}

func (s *Server) logFollow(ctx context.Context, c *Call, in *api.LogListIn) (api.LogRow, error) {
	f, err := logFilter(in)
	if err != nil {
		return api.LogRow{}, err
	}
	return api.LogRow{}, s.mail.MailLog.Follow(ctx, f, func(e maillog.Event) error { return c.Emit(s.logRow(&e)) })
}

func (s *Server) adminLogList(_ context.Context, _ *Call, in *api.AdminLogIn) ([]api.AdminLogRow, error) {
	out := []api.AdminLogRow{}
	for e, err := range state.AdminLog.Back(s.mail.State) {
		if err != nil {
			return nil, err
		}
		row := api.AdminLogRow{Time: time.Unix(0, e.Time).Format(time.RFC3339), Actor: e.Actor, From: e.From, Op: e.Op, Object: e.Object, Result: e.Result, Change: change(e.Diff)}
		if matches(in.Search, row.Actor, row.Op, row.Object, row.Result, row.Change) {
			if out = append(out, row); in.Limit > 0 && len(out) == in.Limit {
				break
			}
		}
	}
	return out, nil
}

func change(diff []model.FieldDiff) string {
	parts := make([]string, 0, len(diff))
	for _, d := range diff {
		if d.Old == "" {
			parts = append(parts, d.Field+": "+d.New)
		} else {
			parts = append(parts, d.Field+": "+d.Old+" → "+d.New)
		}
	}
	return strings.Join(parts, "; ")
}
