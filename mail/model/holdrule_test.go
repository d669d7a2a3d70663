package model_test

import (
	"strings"
	"testing"

	"mailplusd/mail/model"
)

// TestHoldRuleMatches: every condition must be true, and what is left open is not compared.
func TestHoldRuleMatches(t *testing.T) {
	mail := model.Held{
		Senders:   []string{"SRS0=abcd=XY=other.example=Carol@example.test", "Carol@other.example"},
		Recipient: "Dave@Sub.Partner.example", Domain: "sub.partner.example", Subject: "Offer of March", Size: 4096,
	}
	null, notice := mail, mail
	null.Senders = nil
	notice.Senders, notice.Notification = nil, true
	for _, c := range []struct {
		name string
		rule model.HoldRule
		mail *model.Held
		want bool
	}{
		{"sender before it was rewritten", model.HoldRule{Sender: "carol@other.example"}, &mail, true},
		{"sender as it is", model.HoldRule{Sender: "srs0="}, &mail, true},
		{"a domain of senders", model.HoldRule{Sender: "@other.example"}, &mail, true},
		{"a domain that only ends alike", model.HoldRule{Sender: "@r.example"}, &mail, false},
		{"a whole address is no part", model.HoldRule{Sender: "arol@other.example"}, &mail, false},
		{"part of a sender", model.HoldRule{Sender: "arol"}, &mail, true},
		{"no sender, and there is one", model.HoldRule{Sender: "<>"}, &mail, false},
		{"no sender", model.HoldRule{Sender: "<>"}, &null, true},
		{"a sender, and there is none", model.HoldRule{Sender: "carol"}, &null, false},
		{"recipient", model.HoldRule{Recipient: "dave@sub.partner.example"}, &mail, true},
		{"another recipient", model.HoldRule{Recipient: "eve@"}, &mail, false},
		{"destination", model.HoldRule{Domain: "sub.partner.example"}, &mail, true},
		{"not what is below a destination", model.HoldRule{Domain: "partner.example"}, &mail, false},
		{"what is below a destination", model.HoldRule{Domain: ".partner.example"}, &mail, true},
		{"not a destination that ends alike", model.HoldRule{Domain: ".artner.example"}, &mail, false},
		{"subject", model.HoldRule{Search: "offer of"}, &mail, true},
		{"in no field", model.HoldRule{Search: "invoice"}, &mail, false},
		{"as large as the bound", model.HoldRule{Larger: 4096}, &mail, false},
		{"larger", model.HoldRule{Larger: 4095}, &mail, true},
		{"as small as the bound", model.HoldRule{Smaller: 4096}, &mail, false},
		{"smaller", model.HoldRule{Smaller: 4097}, &mail, true},
		{"one condition of two", model.HoldRule{Sender: "carol", Recipient: "eve@"}, &mail, false},
		{"all conditions", model.HoldRule{Sender: "carol", Recipient: "dave", Domain: ".example", Search: "march", Larger: 1, Smaller: 1 << 20}, &mail, true},
		{"everything", model.HoldRule{All: true}, &mail, true},
		{"everything, but no notification", model.HoldRule{All: true}, &notice, false},
		{"notifications, too", model.HoldRule{All: true, Notifications: true}, &notice, true},
		{"what is asked of notifications counts", model.HoldRule{Recipient: "eve@", Notifications: true}, &notice, false},
	} {
		c.rule.Name = "r"
		if err := c.rule.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := c.rule.Matches(c.mail); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	r := model.HoldRule{Enabled: true, Until: 100}
	if !r.At(99) || r.At(100) {
		t.Error("the end of a rule is not its end")
	}
	if r = (model.HoldRule{Until: 100}); r.At(99) {
		t.Error("a rule that is off holds")
	}
}

func TestHoldRuleValidate(t *testing.T) {
	for want, r := range map[string]model.HoldRule{
		"say which mail":          {Name: "r"},
		"nothing is compared":     {Name: "r", All: true, Sender: "x"},
		"neither an address":      {Name: "r", Sender: "a b"},
		"neither an address nor":  {Name: "r", Recipient: "a\x01b"},
		"domain":                  {Name: "r", Domain: "-x-.example"},
		"no message is larger":    {Name: "r", Larger: 9, Smaller: 10},
		"neither a quotation":     {Name: `a"b`, All: true},
		"1 to 128 octets":         {All: true},
		"one line of up to 500":   {Name: "r", All: true, Description: strings.Repeat("x", 501)},
		"must have up to 254 oct": {Name: "r", Search: strings.Repeat("x", 255)},
	} {
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
}
