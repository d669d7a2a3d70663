package mail

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"mailplusd/mail/commit"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/route"
	"mailplusd/mail/smtpd"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// newQueue joins the queue with state, bodies and the outgoing client.
func (s *Server) newQueue(node func() (uint16, bool)) {
	client := &remote.Client{
		Resolvers: func() []string { return s.State.Current().Network.Resolvers },
		Hello:     func() string { return s.State.Current().System.Hostname },
		Port:      func() int { return s.State.Current().Queue.Port },
		UseTLS:    func() bool { return s.State.Current().Queue.TLS != "none" },
		Ours:      s.ours,
		Self:      s.isSelf,
		Policy:    s.tlsPolicy,
		Roots:     s.roots,
		Validates: func(server string) bool { return Validates(s.State.Current(), server) },
		UseDANE:   func() bool { return s.State.Current().Queue.DANE },
	}
	client.Tried, s.outgoing = s.countTLS, client
	client.STS = s.stsPolicy(s.newSTS(client))
	s.Queue = &queue.Queue{
		State: s.State, Remote: client, Route: s.route, Leading: s.leading, Node: node, MailLog: s.MailLog, Log: s.log, Now: time.Now, Notify: s.notify,
		Body:   func(id model.BodyID) (*segment.Body, error) { return s.Store.Body(id) },
		Sender: s.originalSender,
	}
}

// ours tells whether an address and port is a listener of this server.
func (s *Server) ours(ap netip.AddrPort) bool {
	for _, l := range s.Listeners.State() {
		if name, _, _ := strings.Cut(l.Name, "@"); name != "smtp" {
			continue
		}
		own, err := netip.ParseAddrPort(l.Address)
		if err != nil || own.Port() != ap.Port() {
			continue
		}
		if own.Addr().Unmap() == ap.Addr().Unmap() || own.Addr().IsUnspecified() && isInterface(ap.Addr()) {
			return true
		}
	}
	return false
}

// notify delivers a notification to the sender of a message, in one entry with what it reports.
func (s *Server) notify(ctx context.Context, to string, raw []byte, with state.Operation) error {
	pic, err := s.Directory.Now()
	if err != nil {
		return err
	}
	rcpt := &flow.Recipient{}
	if rcpt.Address, err = message.ParseMailbox(to, true); err == nil {
		rcpt.Resolved, err = route.Resolve(pic, rcpt.Address.Local, rcpt.Address.Domain)
	}
	if err != nil { // nobody to tell: what happened is recorded all the same
		s.log.Warn("notification has no recipient", "to", to, "err", err)
		return s.State.Do(ctx, []state.Operation{with})
	}
	rcpt.Notify = "NEVER" // no notification about a notification
	e := &flow.Envelope{
		ID: smtpd.NewID(), Direction: flow.Own, At: time.Now(), Settings: s.State.Current(), Directory: pic, Rcpts: []*flow.Recipient{rcpt},
		Facts: flow.Inspect(raw, s.State.Current()),
	}
	e.UTF8, e.EightBit = commit.Needs(raw)
	sp := s.Store.NewSpool(0)
	if _, err := sp.Write(raw); err != nil {
		sp.Abort()
		return err
	}
	_, err = s.Commit.Commit(ctx, e, sp, model.UseInbox, with)
	return err
}

// Inject delivers a message made here, such as a test mail.
func (s *Server) Inject(ctx context.Context, from, to string, raw []byte) error {
	pic, err := s.Directory.Now()
	if err != nil {
		return err
	}
	rcpt := &flow.Recipient{}
	if rcpt.Address, err = message.ParseMailbox(to, true); err != nil {
		return model.Invalid("to", "%v", err)
	}
	if rcpt.Resolved, err = route.Resolve(pic, rcpt.Address.Local, rcpt.Address.Domain); err != nil {
		return model.Invalid("to", "%s: %v", to, err)
	}
	e := &flow.Envelope{
		ID: smtpd.NewID(), Direction: flow.Own, At: time.Now(), Settings: s.State.Current(), Directory: pic, Rcpts: []*flow.Recipient{rcpt},
		Facts: flow.Inspect(raw, s.State.Current()),
	}
	if from != "" {
		if e.From, err = message.ParseMailbox(from, true); err != nil {
			return model.Invalid("from", "%v", err)
		}
	}
	sp := s.Store.NewSpool(0)
	if _, err := sp.Write(raw); err != nil {
		sp.Abort()
		return err
	}
	_, err = s.Commit.Commit(ctx, e, sp, model.UseInbox)
	return err
}

// Trace runs a message through the chain without delivering it and tells each stage's verdict.
func Trace(ctx context.Context, e *flow.Envelope, rcpts []string, tell func(phase, stage, verdict string)) {
	phase := flow.Connect
	e.Trace = func(stage string, v flow.Verdict) { tell(string(phase), stage, v.String()) }
	for _, phase = range []flow.Phase{flow.Connect, flow.Helo, flow.Mail} {
		if v := Chain.Run(ctx, phase, e, nil); v.Action != flow.Pass {
			return
		}
	}
	phase = flow.Rcpt
	for _, to := range rcpts {
		r := &flow.Recipient{}
		var err error
		if r.Address, err = message.ParseMailbox(to, true); err != nil {
			tell(string(phase), to, "reject 501 "+err.Error())
			continue
		}
		if v := Chain.Run(ctx, phase, e, r); v.Action == flow.Pass {
			e.Rcpts = append(e.Rcpts, r)
			var where []string
			for _, t := range r.Resolved.Targets {
				if t.Account != nil {
					where = append(where, "mailbox of "+t.Account.Name)
				} else {
					where = append(where, "queue for "+t.Address)
				}
			}
			tell(string(phase), to, "accepted: "+strings.Join(where, ", "))
		}
	}
	if len(e.Rcpts) == 0 {
		return
	}
	phase = flow.Data
	e.Facts = flow.Inspect(e.Body, e.Settings)
	if v := Chain.Run(ctx, phase, e, nil); v.Action != flow.Pass {
		return
	}
	phase = flow.Commit
	if v := Chain.Run(ctx, phase, e, nil); v.Action == flow.Pass {
		tellPlan(e, tell)
	}
}

// tellPlan tells what would be stored and queued.
func tellPlan(e *flow.Envelope, tell func(phase, stage, verdict string)) {
	plan := commit.MakePlan(e, e.Use)
	plan.Hold(e, e.Directory.Holds, int64(len(e.Body)), false, e.At)
	for _, l := range e.Way.Local {
		if l.Keep {
			tell("commit", "deliver", "stored for "+l.Account.Name)
		}
	}
	for _, q := range plan.Queue {
		from := "<" + q.From + ">"
		for _, r := range q.Rcpts {
			said := "for " + r.Address + " from " + from
			if r.State == model.QueueHeld {
				said += ", " + model.HeldBy(r.HeldBy)
			}
			tell("commit", "queue", said)
		}
	}
	for _, why := range plan.Why {
		tell("commit", "note", why)
	}
}
