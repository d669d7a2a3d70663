package flow

import (
	"mailplusd/mail/directory"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"
)

// Limits are what holds for who has logged in (I.36); for a client that may send without a login those
// of the domain that it names as the sender's: its word makes nobody a user.
func (e *Envelope) Limits() limits.Limits {
	return limits.Of(e.Directory, e.Settings, e.Actor, e.From.Domain)
}

// MaxSize is how large the message may be, in octets.
func (e *Envelope) MaxSize() int64 {
	if e.Direction != Out {
		return int64(e.Settings.Delivery.MaxSizeMB) * model.MB
	}
	l := e.Limits()
	return l.Message.N
}

// Exhausted refuses a message of so many octets that who has logged in may not send any more today.
// used is what he has sent so far.
func (e *Envelope) Exhausted(used model.Usage, octets int64) Verdict {
	l := e.Limits()
	code, text := l.Refusal(used, octets, e.At)
	private := "user " + e.Actor.Name + ", "
	if l.Messages.Passed(used.On(model.DayOf(e.At)).Messages + 1) {
		private += "messages by " + l.Messages.By.String()
	} else {
		private += "traffic by " + l.Traffic.By.String()
	}
	if code == 552 {
		return Refuse(552, 5, 3, 4, text, private)
	}
	return Refuse(code, 4, 7, 1, text, private)
}

// MayPassOn tells why the forward of an account is not followed today; empty: it is (I.32). Mail that
// the server itself writes is not counted (I.44).
func (e *Envelope) MayPassOn(a *directory.Account) string {
	const spent = "the user has sent as much as he may today"
	if e.Direction == Own || e.Usage == nil {
		return ""
	}
	if e.Spent[a.ID] {
		return spent
	}
	l := limits.Of(e.Directory, e.Settings, a, "")
	if l.Messages.N == 0 && l.Traffic.N == 0 {
		return ""
	}
	used, err := e.Usage(a.ID)
	if err == nil && l.Full(used, e.Size, e.At) {
		return spent
	}
	return ""
}
