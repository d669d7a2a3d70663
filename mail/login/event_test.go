package login

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestEventsOfTwoNodes: a client that tries at both nodes has no more tries than at one.
func TestEventsOfTwoNodes(t *testing.T) {
	a, _, _ := setup(t)
	b, _, _ := setup(t)
	pass := func(to *Login) func(Event) {
		return func(e Event) {
			raw, err := AppendEvents(nil, []Event{e})
			if err != nil {
				t.Fatal(err)
			}
			events, err := ParseEvents(raw)
			if err != nil || len(events) != 1 {
				t.Fatalf("%v, %v", events, err)
			}
			to.Learn(events[0])
		}
	}
	a.o.Share, b.o.Share = pass(b), pass(a)
	for i := range 3 {
		l := a
		if i%2 == 1 {
			l = b
		}
		if err := try(l, "anna", "wrong", away, IMAP); !errors.Is(err, ErrPassword) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	for _, l := range []*Login{a, b} {
		if err := try(l, "anna", "right-one", away, IMAP); !errors.Is(err, ErrLocked) {
			t.Errorf("after three tries at two nodes: %v", err)
		}
		if err := try(l, "anna", "right-one", home, IMAP); err != nil {
			t.Errorf("the owner elsewhere: %v", err)
		}
		if k := l.Locks(); len(k) != 1 || k[0].Key != "anna "+away.String()+"/32" {
			t.Errorf("%v", k)
		}
	}
	b.Unlock("anna")
	for _, l := range []*Login{a, b} {
		if err := try(l, "anna", "right-one", away, IMAP); err != nil {
			t.Errorf("after the lock was cleared at one node: %v", err)
		}
	}
	// A right password forgets wrong ones on both.
	try(a, "anna", "wrong", away, IMAP)
	try(a, "anna", "wrong", away, IMAP)
	try(b, "anna", "right-one", away, IMAP)
	if err := try(a, "anna", "wrong", away, IMAP); !errors.Is(err, ErrPassword) {
		t.Error(err)
	}
	if len(a.Locks()) != 0 {
		t.Error("locked out by failures that were forgotten")
	}
}

func FuzzParseEvents(f *testing.F) {
	good, _ := AppendEvents(nil, []Event{{Failed, "anna 192.0.2.1/32"}, {Unlocked, "anna"}})
	f.Add(good)
	f.Add([]byte(`[{"k":9,"n":"x"}]`))
	f.Add([]byte(`[{"k":1,"n":"` + strings.Repeat("x", 600) + `"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := ParseEvents(b)
		if err != nil {
			return
		}
		l := New(Options{Policy: func() Policy { return Policy{MaxFailures: 3} }})
		for _, e := range events {
			l.Learn(e)
		}
		raw, err := AppendEvents(nil, events)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseEvents(raw); err != nil || len(again) != len(events) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

// TestLearnLock: a lock-out that another node knows of holds here, for the time of the policy at most.
func TestLearnLock(t *testing.T) {
	l, _, now := setup(t)
	key := "anna " + away.String() + "/32"
	l.LearnLock(Lock{"anna", now.Add(time.Hour)})
	l.LearnLock(Lock{key, now.Add(1000 * time.Hour)})
	if k := l.Locks(); len(k) != 1 || k[0].Key != key || k[0].Until.After(now.Add(l.o.Policy().LockTime)) {
		t.Errorf("%v", k)
	}
	if err := try(l, "anna", "right-one", away, IMAP); !errors.Is(err, ErrLocked) {
		t.Errorf("locked out at the other node, here %v", err)
	}
	l.LearnLock(Lock{key, now.Add(time.Second)}) // shorter than what is known
	*now = now.Add(2 * time.Second)
	if err := try(l, "anna", "right-one", away, IMAP); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	l.Unlock("anna")
	if err := try(l, "anna", "right-one", away, IMAP); err != nil {
		t.Error(err)
	}

	// What was counted here long ago does not end it with the next failure.
	try(l, "anna", "wrong", away, IMAP)
	*now = now.Add(l.o.Policy().Window + time.Second)
	l.LearnLock(Lock{key, now.Add(time.Minute)})
	l.Learn(Event{Kind: Failed, Key: key})
	if err := try(l, "anna", "right-one", away, IMAP); !errors.Is(err, ErrLocked) {
		t.Errorf("a failure more has lifted the lock-out: %v", err)
	}
}
