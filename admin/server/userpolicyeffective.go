package server

import (
	"context"
	"fmt"
	"slices"

	"mailplusd/admin/api"
	"mailplusd/mail/directory"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"
)

// policyEffective tells what a user may do: the service, the user's own settings and the policy
// can each take away, in this order.
func (s *Server) policyEffective(_ context.Context, _ *Call, in *api.PolicyEffectiveIn) ([]api.EffectiveRow, error) {
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
	sending, err := s.effectiveSending(pic, a, in.From, policy)
	return append(out, sending...), err
}

// effectiveSending tells what a user may send from an address, and who says so (I.36).
func (s *Server) effectiveSending(pic *directory.Picture, a *directory.Account, from, policy string) (out []api.EffectiveRow, err error) {
	domain := ""
	if from != "" {
		var ok bool
		if _, domain, ok = model.SplitAddress(from); !ok {
			return nil, model.Invalid("from", "%q is no address", from)
		}
	}
	l := limits.Of(pic, s.mail.State.Current(), a, asciiDomain(domain))
	add := func(item, value, flag, system string, by limits.Rule) {
		r := api.EffectiveRow{Item: item, Value: value, DecidedBy: by.String()}
		switch by.Kind {
		case limits.Policy:
			r.Change = policy + " --" + flag
		case limits.Domain:
			r.Change = "mpctl domain limit set " + by.Name + " --" + flag
		default:
			r.Change = system
		}
		out = append(out, r)
	}
	may, by := limits.Forward(pic, a)
	add("disable-auto-forward", word(!may), "disable-auto-forward "+word(may), policy+" --disable-auto-forward "+word(may), by)
	add("daily-count", numberOr(l.Messages.N, 1), "daily-count N|off", s.dailySystem(policy, "daily-count"), l.Messages.By)
	add("daily-mb", numberOr(l.Traffic.N, model.MB), "daily-mb N|off", s.dailySystem(policy, "daily-mb"), l.Traffic.By)
	add("attachment-mb", numberOr(l.Attachment.N, model.MB), "attachment-mb N|off", maxSizeVerb, l.Attachment.By)
	add("message-mb", numberOr(l.Message.N, model.MB), "message-mb N", maxSizeVerb, l.Message.By)
	add("internal-only", word(l.InternalOnly), "internal-only "+word(!l.InternalOnly), "", l.By)
	return out, nil
}

const maxSizeVerb = "mpctl delivery general set --max-size N"

// dailySystem is the command that puts a daily limit into force where neither policy nor domain decide.
func (s *Server) dailySystem(policy, flag string) string {
	if !s.mail.State.Current().Delivery.AuthEnabled {
		return "mpctl delivery auth set --enable on"
	}
	return policy + " --" + flag + " N"
}

func numberOr(n, unit int64) string {
	if n == 0 {
		return "off"
	}
	return fmt.Sprint(n / unit)
}
