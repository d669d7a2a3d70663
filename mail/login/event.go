package login

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
)

// EventKind is what happened.
type EventKind uint8

// The kinds.
const (
	Failed    EventKind = 1 // a wrong password
	Succeeded EventKind = 2 // a right one, after wrong ones
	Unlocked  EventKind = 3 // an administrator has cleared an account
)

// Event is what other nodes must know, so that wrong passwords count for all of them: a
// client has not more tries because it is served by two nodes.
type Event struct {
	Kind EventKind `json:"k"`
	Key  string    `json:"n"` // as in Lock; for Unlocked the account's folded name
}

// Limits of events from another node.
const (
	MaxEvents   = 1000
	maxEventKey = 512
)

// AppendEvents writes events for another node.
func AppendEvents(b []byte, events []Event) ([]byte, error) {
	raw, err := json.Marshal(events)
	return append(b, raw...), err
}

// ParseEvents reads what AppendEvents has written, MaxEvents at most.
func ParseEvents(b []byte) ([]Event, error) {
	if len(b) > MaxEvents*(6*maxEventKey+32) {
		return nil, errors.New("login: too many events")
	}
	var out []Event
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	if len(out) > MaxEvents {
		return nil, errors.New("login: too many events")
	}
	for _, e := range out {
		if e.Kind < Failed || e.Kind > Unlocked || e.Key == "" || len(e.Key) > maxEventKey {
			return nil, errors.New("login: malformed event")
		}
		if _, _, ok := cutKey(e.Key); !ok && e.Kind != Unlocked {
			return nil, errors.New("login: malformed event")
		}
	}
	return out, nil
}

// cutKey takes a lock's key apart: the account's name may have spaces, the network none.
func cutKey(key string) (name, network string, ok bool) {
	i := strings.LastIndexByte(key, ' ')
	if i < 0 {
		return key, "", false
	}
	_, err := netip.ParsePrefix(key[i+1:])
	return key[:i], key[i+1:], err == nil
}

// Learn takes over what happened on another node. It is not told on.
func (l *Login) Learn(e Event) {
	switch e.Kind {
	case Failed:
		l.failed(e.Key)
	case Succeeded:
		l.succeeded(e.Key)
	case Unlocked:
		l.unlock(e.Key)
	}
}

// LearnLock takes over a lock-out that another node knows of, for the time of the policy at most.
func (l *Login) LearnLock(k Lock) {
	if _, _, ok := cutKey(k.Key); !ok || len(k.Key) > maxEventKey {
		return
	}
	now := l.o.Now()
	if latest := now.Add(l.o.Policy().LockTime); k.Until.After(latest) {
		k.Until = latest
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fails[k.Key]
	if f == nil {
		f = l.fail(k.Key, now)
	}
	if k.Until.After(f.until) {
		f.until, f.count, f.first = k.Until, 0, now // or an older count would end it
	}
}

// tell does what happened here and has it told to others.
func (l *Login) tell(e Event) {
	l.Learn(e)
	l.share(e)
}

func (l *Login) share(e Event) {
	if l.o.Share != nil && len(e.Key) <= maxEventKey {
		l.o.Share(e)
	}
}
