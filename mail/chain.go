// Package mail is the mail server put together: the chain of stages that every message
// passes, and the listeners.
package mail

import (
	"context"
	"errors"
	"fmt"

	"mailplusd/mail/flow"
	"mailplusd/mail/route"
)

// Chain is THE list of what is decided about a message, in order. `mpctl flow show`
// prints it. A stage has no state between messages and never writes to the wire.
//
// Connection limits, pregreet and line discipline act before the chain, in mail/wire.
var Chain = flow.Chain{
	{Name: "message-rate", Phase: flow.Mail, For: flow.In, Check: messageRate,
		Help: "more messages within a minute than one client may send, when set; 450 4.7.1 for a minute"},
	{Name: "declared-size", Phase: flow.Mail, For: flow.In | flow.Out, Check: declaredSize,
		Help: "SIZE= above the limit; 552 5.3.4 (RFC 1870)"},
	{Name: "daily-limit", Phase: flow.Mail, For: flow.Out, Check: dailyLimit,
		Help: "who has logged in has sent as many messages or octets as he may in a day; 452 4.7.1 until midnight, 552 5.3.4 for more than a whole day's"},
	{Name: "sender-rights", Phase: flow.Mail, For: flow.Out, Check: senderRights,
		Help: "the sender address must belong to the login, when set; 553 5.7.1"},
	{Name: "client-name", Phase: flow.Rcpt, For: flow.In, Check: clientName,
		Help: "no host name that leads back to the client's address, when set; 550 5.7.25, or 450 when DNS fails"},
	{Name: "sender-form", Phase: flow.Rcpt, For: flow.In, Check: senderForm,
		Help: "the sender's domain is not a full domain name, when set; 550 5.1.8"},
	{Name: "sender-domain", Phase: flow.Rcpt, For: flow.In, Check: senderDomain,
		Help: "the sender's domain is unknown in DNS, when set; 550 5.1.8, or 450 when DNS fails"},
	{Name: "recipient-count", Phase: flow.Rcpt, For: flow.In | flow.Out, Check: recipientCount,
		Help: "more recipients than allowed; 550 5.5.3, and the message is refused"},
	{Name: "resolve", Phase: flow.Rcpt, For: flow.Any, Check: resolve,
		Help: "finds accounts, aliases, remote addresses and rewritten senders (SRS, for bounces only: 550 5.7.1); unknown here: 550 5.1.1"},
	{Name: "relay", Phase: flow.Rcpt, For: flow.In, Check: relay,
		Help: "other servers' recipients only for who has logged in or is trusted; 550 5.7.1"},
	{Name: "internal-only", Phase: flow.Rcpt, For: flow.Out, Check: internalOnly,
		Help: "other servers' recipients of a user whose policy lets him write to hosted domains only; 550 5.7.1"},
	{Name: "recipient-excess", Phase: flow.Data, For: flow.In | flow.Out, Check: recipientExcess,
		Help: "a message that had too many recipients is refused whole; 550 5.5.3"},
	{Name: "structure", Phase: flow.Data, For: flow.In | flow.Out, Check: structure,
		Help: "header, parts and nesting within their limits; 554 5.6.0"},
	{Name: "hops", Phase: flow.Data, For: flow.In | flow.Out, Check: hops,
		Help: "more Received fields than allowed: a loop; 554 5.4.6"},
	{Name: "attachment-size", Phase: flow.Data, For: flow.In | flow.Out, Check: attachmentSize,
		Help: "an attachment that is larger than the sender's policy or domain allows, of mail from outside the recipient's domain; 552 5.3.4"},
	{Name: "auto-bcc", Phase: flow.Commit, For: flow.Any, Check: autoBCC,
		Help: "adds the blind copies that rules of the domains ask for"},
	{Name: "auto-forward", Phase: flow.Commit, For: flow.Any, Check: autoForward,
		Help: "passes mail on where a user has set a forward; what would go in a circle is kept"},
	{Name: "auto-reply", Phase: flow.Commit, For: flow.In | flow.Out, Check: autoReply,
		Help: "answers people in place of users who are away, each once in 7 days (RFC 3834)"},
	{Name: "dkim-sign", Phase: flow.Commit, For: flow.Out | flow.Own, Check: dkimSign,
		Help: "what leaves is signed for the domain in From, where signing is on (RFC 6376)"},
}

func declaredSize(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if limit := e.MaxSize(); e.Declared > limit {
		return flow.Refuse(552, 5, 3, 4, fmt.Sprintf("Message is larger than %d MB", limit>>20), fmt.Sprintf("SIZE=%d", e.Declared))
	}
	return flow.Verdict{}
}

// senderRights is R7.30: the reverse path must be an address of the account, or of an
// alias of which it is a direct member (A.38).
func senderRights(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	d := e.Settings.Delivery
	switch {
	case !d.AuthEnabled || !d.SenderMatch || e.From.IsNull():
		return flow.Verdict{}
	case e.Actor == nil && e.Local && d.LANExempt: // R7.33
		return flow.Verdict{}
	case e.Trusted && d.SkipTrusted: // R7.32
		return flow.Verdict{}
	case e.Actor != nil && owns(e, e.From.String()):
		return flow.Verdict{}
	}
	who := "nobody has logged in"
	if e.Actor != nil {
		who = "login " + e.Actor.Name
	}
	return flow.Refuse(553, 5, 7, 1, "Sender address rejected: not owned by the login", e.From.String()+", "+who)
}

// owns tells whether an address belongs to the login.
func owns(e *flow.Envelope, address string) bool {
	if a := e.Directory.Address(address); a != nil && a.ID == e.Actor.ID {
		return true
	}
	al := e.Directory.Alias(address)
	if al == nil {
		return false
	}
	for _, m := range al.Members {
		if m.Kind == "user" && m.Value == e.Actor.Name {
			return true
		}
		if m.Kind == "group" && e.Directory.InGroup(e.Actor.Name, m.Value) {
			return true
		}
	}
	return false
}

// recipientCount is R7.04 with A.35: 5xx at the first one too many, and at DATA for the whole message.
func recipientCount(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if limit := e.Settings.Delivery.MaxRecipients; len(e.Rcpts) >= limit {
		e.Excess = true
		return flow.Refuse(550, 5, 5, 3, fmt.Sprintf("Too many recipients, %d at most", limit), "")
	}
	return flow.Verdict{}
}

func recipientExcess(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if e.Excess {
		return flow.Refuse(550, 5, 5, 3, fmt.Sprintf("Too many recipients, %d at most; message refused", e.Settings.Delivery.MaxRecipients), "")
	}
	return flow.Verdict{}
}

func resolve(_ context.Context, e *flow.Envelope, r *flow.Recipient) flow.Verdict {
	var err error
	r.Resolved, err = route.Resolve(e.Directory, r.Address.Local, r.Address.Domain)
	switch {
	case err == nil && r.Resolved.Bounce && !e.From.IsNull():
		return flow.Refuse(550, 5, 7, 1, "This address takes bounces only", "the SRS address leads to "+r.Resolved.Targets[0].Address)
	case err == nil:
		return flow.Verdict{}
	case errors.Is(err, route.ErrNoAdmin):
		return flow.Refuse(450, 4, 2, 1, "Mailbox not available at the moment", err.Error())
	}
	return flow.Refuse(550, 5, 1, 1, "No such user here", err.Error())
}

// relay is R7.20, R7.21, R7.27, R7.104: only recipients here, and of relay domains, for who is unknown.
func relay(_ context.Context, e *flow.Envelope, r *flow.Recipient) flow.Verdict {
	if r.Resolved.Local || r.Resolved.Relayed {
		return flow.Verdict{}
	}
	if !e.Settings.Delivery.AuthEnabled && e.Local {
		return flow.Verdict{}
	}
	return flow.Refuse(550, 5, 7, 1, "Relay access denied", "recipient is not hosted here and the client is neither logged in nor trusted")
}

func structure(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if e.Facts.TooDeep != "" {
		return flow.Refuse(554, 5, 6, 0, "Message structure refused: "+e.Facts.TooDeep, "")
	}
	return flow.Verdict{}
}

func hops(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	if limit := e.Settings.Delivery.MaxHops; e.Facts.Hops > limit {
		return flow.Refuse(554, 5, 4, 6, "Too many hops, mail loop", fmt.Sprintf("%d Received fields, limit %d", e.Facts.Hops, limit))
	}
	return flow.Verdict{}
}
