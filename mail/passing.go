package mail

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"time"

	"mailplusd/mail/autoreply"
	"mailplusd/mail/commit"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/vault"
)

// SRSSecret is what the secret of rewritten senders is sealed for.
const SRSSecret = "delivery.srs-secret"

// autoBCC is R8.67–R8.71. A rule whose target is nobody is told of, and costs no mail.
func autoBCC(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if len(e.Directory.BCC) == 0 {
		return flow.Verdict{}
	}
	rcpts := make([]string, len(e.Rcpts))
	for i, r := range e.Rcpts {
		rcpts[i] = r.Address.String()
	}
	copies, problems := route.BlindCopies(e.Directory, e.From.String(), rcpts, e.Direction == flow.Own)
	e.Copies = copies
	for i := range copies {
		problems = append(problems, "blind copy to "+copies[i].Address)
	}
	return flow.Verdict{Private: strings.Join(problems, "; ")}
}

// autoForward spreads the message to those who get it in the end (I.15, I.31).
func autoForward(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	e.Way = route.Spread(e.Directory, append(commit.Receivers(e), e.Copies...), commit.DeliveredTo(&e.Facts.Header), e.MayPassOn)
	var said []string
	for i := range e.Way.Local {
		l := &e.Way.Local[i]
		f := e.Directory.Forwards[l.Account.Name]
		switch {
		case f == nil:
		case l.Why != "":
			said = append(said, "kept for "+l.Account.Name+", "+l.Why)
		case l.Keep:
			said = append(said, l.Account.Name+" keeps a copy and forwards to "+strings.Join(f.To, ", "))
		default:
			said = append(said, l.Account.Name+" forwards to "+strings.Join(f.To, ", "))
		}
	}
	return flow.Verdict{Private: strings.Join(said, "; ")}
}

// autoReply finds whose absence answers the message (I.33). Whether the sender was answered before is
// the state machine's to know.
func autoReply(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	e.Replies = autoreply.Due(e)
	var said []string
	for _, r := range e.Replies {
		said = append(said, "reply of "+r.User+" to "+e.From.String()+", unless it got one within 7 days")
	}
	if why := autoreply.Silence(e); why != "" && len(e.Directory.Replies) > 0 {
		said = append(said, "no reply: "+why)
	}
	return flow.Verdict{Private: strings.Join(said, "; ")}
}

// originalSender gives the address that a rewritten reverse path was made from.
func (s *Server) originalSender(from string) string {
	pic, err := s.Directory.Now()
	if err != nil || pic.SRS == nil {
		return from
	}
	a, err := message.ParseMailbox(from, true)
	if err != nil || !pic.Hosts(a.Domain) {
		return from
	}
	local, domain, err := pic.SRS.Reverse(a.Local, time.Now())
	if err != nil {
		return from
	}
	return message.Address{Local: local, Domain: domain}.String()
}

// NewSRSSecret makes a secret of rewritten senders, sealed.
func NewSRSSecret(v *vault.Vault) (string, error) {
	var raw [32]byte
	rand.Read(raw[:])
	return v.Seal(SRSSecret, base64.StdEncoding.EncodeToString(raw[:]))
}

// ensureSRS makes the secret of rewritten senders once the system is set up. The node that leads
// does it; where settings are read-only it waits until they are not. It tells whether there is one.
func (s *Server) ensureSRS() bool {
	set := s.State.Current()
	if set.Delivery.SRSSecret != "" {
		return true
	}
	if set.System.SetUp == 0 || !s.leading() {
		return false
	}
	sealed, err := NewSRSSecret(s.Vault)
	if err == nil {
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		err = s.State.ChangeSettings(ctx, func(m *model.Settings) error {
			if m.Delivery.SRSSecret == "" {
				m.Delivery.SRSSecret = sealed
			}
			return nil
		})
	}
	if err != nil {
		s.log.Debug("no secret of rewritten senders yet", "err", err)
	}
	return err == nil
}
