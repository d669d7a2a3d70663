package login

import (
	"context"
	"errors"
	"testing"
	"time"
)

var errDown = errors.New("no answer")

// TestBoundDirectory: a directory decides about passwords; that it can't be asked is nobody's fault.
func TestBoundDirectory(t *testing.T) {
	// covers: I.02 I.05
	l, d, now := setup(t)
	down := false
	password := "right-one"
	check := func(_ context.Context, p []byte) (bool, error) {
		if down {
			return false, errDown
		}
		return string(p) == password, nil
	}
	c := d["anna"]
	c.Hash, c.Check = "", check
	d["anna"] = c
	step := func(what, pw string, want error) {
		t.Helper()
		if err := try(l, "anna", pw, home, IMAP); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	step("right", "right-one", nil)
	step("wrong", "wrong", ErrPassword)
	step("empty", "", ErrPassword)
	down = true
	for range 5 { // more than are needed for a lock-out
		step("down", "right-one", ErrTemporary)
		step("down", "wrong", ErrTemporary)
	}
	down = false
	step("up again", "right-one", nil)
	for range 3 {
		step("wrong", "wrong", ErrPassword)
	}
	step("three wrong ones", "right-one", ErrLocked)
	l.Unlock("anna")

	c.Remember = time.Minute
	d["anna"] = c
	step("right", "right-one", nil)
	down = true
	step("down, remembered", "right-one", nil)
	step("down, another password", "wrong", ErrTemporary)
	*now = now.Add(2 * time.Minute)
	step("down, too long ago", "right-one", ErrTemporary)
	down = false
	step("right", "right-one", nil)
	password = "a-new-one"
	step("changed there", "right-one", ErrPassword)
	down = true
	step("down after it was changed", "right-one", ErrTemporary)
	down = false
	step("the new one", "a-new-one", nil)
	c.Enabled = false
	d["anna"] = c
	down = true
	step("disabled here", "a-new-one", ErrDisabled)
	c.Enabled, c.Remember = true, 0
	d["anna"] = c
	step("no remembering any more", "a-new-one", ErrTemporary)
}
