package commit

import (
	"errors"
	"slices"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/limits"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/state"
)

// sent counts a message (I.35): as one of who has logged in, and as one of each user whose forward is
// followed (I.32), however many get it. The counts go into the entry of the message, so they are
// neither lost without it nor kept without it, and the state machine holds them against the limits,
// one entry after the other. What the server itself writes counts for nobody (I.44).
func sent(e *flow.Envelope) (ops []state.Operation) {
	if e.Direction == flow.Own || e.Usage == nil {
		return nil
	}
	day, list := model.DayOf(e.At), forwarders(e)
	if e.Actor != nil {
		own := 1
		if i := slices.Index(list, e.Actor); i >= 0 { // he has written to himself, and forwards
			list = slices.Delete(list, i, i+1)
			own = 2
		}
		ops = append(ops, count(e.Actor, day, own, e.Size, e.Limits()))
	}
	for _, a := range list {
		ops = append(ops, count(a, day, 1, e.Size, limits.Of(e.Directory, e.Settings, a, "")))
	}
	return ops
}

func count(a *directory.Account, day model.Day, n int, size int64, l limits.Limits) state.Sent {
	return state.Sent{
		Account: a.ID, Day: day, Messages: int64(n), Octets: int64(n) * size, MaxMessages: l.Messages.N, MaxOctets: l.Traffic.N,
	}
}

// forwarders are the accounts whose forwards led somewhere, each once.
func forwarders(e *flow.Envelope) (out []*directory.Account) {
	if e.Way == nil {
		return nil
	}
	add := func(by string) {
		if by == "" {
			return
		}
		if a := e.Directory.User(by); a != nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for i := range e.Way.Local {
		add(e.Way.Local[i].By)
	}
	for i := range e.Way.Remote {
		add(e.Way.Remote[i].By)
	}
	return out
}

// holdForwards keeps the mail of a user whose forward the state machine has refused, because other
// messages were counted meanwhile. It gives false when err is something else, or the sender's own.
func holdForwards(e *flow.Envelope, err error) bool {
	var over *state.OverLimit
	if !errors.As(err, &over) || !slices.ContainsFunc(forwarders(e), func(a *directory.Account) bool { return a.ID == over.Account }) {
		return false
	}
	if e.Spent == nil {
		e.Spent = map[model.AccountID]bool{}
	}
	e.Spent[over.Account] = true
	e.Way = route.Spread(e.Directory, append(Receivers(e), e.Copies...), DeliveredTo(&e.Facts.Header), e.MayPassOn)
	return true
}
