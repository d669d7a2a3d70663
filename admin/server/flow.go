package server

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/smtpd"
)

func directions(d flow.Direction) string {
	var out []string
	for _, x := range []struct {
		d flow.Direction
		s string
	}{{flow.In, "in"}, {flow.Out, "out"}, {flow.Own, "own"}} {
		if d&x.d != 0 {
			out = append(out, x.s)
		}
	}
	return strings.Join(out, " ")
}

func (s *Server) flowShow(context.Context, *Call, *op.None) ([]api.StageRow, error) {
	out := []api.StageRow{}
	for i, st := range mail.Chain {
		out = append(out, api.StageRow{N: i + 1, Phase: string(st.Phase), Stage: st.Name, For: directions(st.For), Help: st.Help})
	}
	return out, nil
}

func (s *Server) flowTrace(ctx context.Context, _ *Call, in *api.FlowTraceIn) ([]api.TraceRow, error) {
	set := s.mail.State.Current()
	ip, err := netip.ParseAddr(in.IP)
	if err != nil {
		return nil, op.Errorf(op.Usage, "%q is no IP address", in.IP)
	}
	if len(in.Rcpt) == 0 {
		return nil, op.Errorf(op.Usage, "give at least one --rcpt")
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	e := &flow.Envelope{
		ID: smtpd.NewID(), Direction: flow.In, Listener: "smtp", Client: ip, Helo: "trace", Proto: "ESMTP", At: time.Now(), Settings: set, Directory: pic, DNS: s.mail.DNS, Rates: s.mail.MessageRate(),
		Local: s.mail.IsLocal(ip), Trusted: pic.Trusts(ip), Body: []byte(in.Text), Size: int64(len(in.Text)), Usage: s.mail.State.Usage,
	}
	if in.From != "" {
		if e.From, err = message.ParseMailbox(in.From, true); err != nil {
			return nil, op.Errorf(op.Usage, "--from: %v", err)
		}
	}
	if in.User != "" {
		if e.Actor = pic.Login(in.User); e.Actor == nil {
			return nil, notFound("user", in.User, "mpctl user list")
		}
	}
	if e.Actor != nil || e.Trusted || e.Local && set.Delivery.LANExempt {
		e.Direction = flow.Out
	}
	out := []api.TraceRow{}
	mail.Trace(ctx, e, in.Rcpt, func(phase, stage, verdict string) {
		out = append(out, api.TraceRow{Phase: phase, Stage: stage, Verdict: verdict})
	})
	return out, nil
}
