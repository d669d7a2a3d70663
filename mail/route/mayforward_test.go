package route

import (
	"testing"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
)

// TestMayForward: the policy that counts for a user decides; one that inherits allows.
func TestMayForward(t *testing.T) {
	for value, want := range map[string]bool{"on": false, "off": true, model.PolicyInherit: true} {
		a := &directory.Account{Policy: &model.Policy{DisableAutoForward: value}}
		if got := MayForward(nil, a); got != want {
			t.Errorf("disable-auto-forward %s: %v, want %v", value, got, want)
		}
	}
}
