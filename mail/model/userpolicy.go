package model

import "slices"

// Policy says what some users may do (R5.32). Policies are in order; of those that name a user, or
// a group that he is in, the first one counts, whole: fields of several are never mixed (R5.39).
type Policy struct {
	Name               string   `cbor:"name" json:"name"`
	Colour             string   `cbor:"colour,omitempty" json:"colour"` // one of PolicyColours, for the eye only
	Rank               int      `cbor:"rank" json:"rank"`               // place in the order, from 1
	Users              []string `cbor:"users,omitempty" json:"users"`
	Groups             []string `cbor:"groups,omitempty" json:"groups"`
	IMAP               bool     `cbor:"imap" json:"imap"`
	IMAPLANOnly        bool     `cbor:"imaplan" json:"imap_lan_only"`
	POP3               bool     `cbor:"pop3" json:"pop3"`
	POP3LANOnly        bool     `cbor:"pop3lan" json:"pop3_lan_only"`
	FTS                bool     `cbor:"fts" json:"fts"`                              // his mail is indexed
	DisableAutoForward string   `cbor:"nofwd,omitempty" json:"disable_auto_forward"` // on, off or inherit
	DailyCount         Limit    `cbor:"count,omitempty" json:"daily_count"`          // messages that he may send a day
	DailyMB            Limit    `cbor:"mb,omitempty" json:"daily_mb"`                // their size together
	AttachmentMB       Limit    `cbor:"att,omitempty" json:"attachment_mb"`          // size of one attachment
	InternalOnly       bool     `cbor:"inside,omitempty" json:"internal_only"`       // he may send to hosted domains only
	Created            int64    `cbor:"created" json:"created"`
}

// DefaultPolicyName is the policy of everybody whom no other one names. It can't be changed (R5.51).
const DefaultPolicyName = "default"

// PolicyInherit leaves a matter to the settings of the domain.
const PolicyInherit = "inherit"

// PolicyColours are the labels of policies (R5.34).
var PolicyColours = []string{"none", "red", "orange", "yellow", "green", "blue", "purple", "grey"}

// Limits of policies.
const (
	MaxPolicies      = 1000
	MaxPolicyTargets = 10000 // users and groups of one
)

// DefaultPolicy makes the policy of everybody whom no other one names (R5.54).
func DefaultPolicy() *Policy {
	return &Policy{
		Name: DefaultPolicyName, Colour: "none", IMAP: true, POP3: true, FTS: true,
		DisableAutoForward: PolicyInherit, DailyCount: PolicyInherit, DailyMB: PolicyInherit, AttachmentMB: PolicyInherit,
	}
}

// IsDefault tells whether it is the policy that nobody made.
func (p *Policy) IsDefault() bool { return p.Name == DefaultPolicyName }

// AutoForward tells whether users may have their mail forwarded automatically. domainAllows: what
// counts when the policy leaves it to the domain (R5.56–R5.58).
func (p *Policy) AutoForward(domainAllows bool) bool {
	switch p.DisableAutoForward {
	case "on":
		return false
	case "off":
		return true
	}
	return domainAllows
}

// Validate checks the policy's own fields.
func (p *Policy) Validate() error {
	if err := ValidateLabel("name", p.Name); err != nil {
		return err
	}
	if FoldName(p.Name) == DefaultPolicyName {
		return Invalid("name", "%q is the name of the policy of everybody whom no other one names", p.Name)
	}
	if !slices.Contains(PolicyColours, p.Colour) {
		return Invalid("colour", "%q is none of %v", p.Colour, PolicyColours)
	}
	if !slices.Contains([]string{"on", "off", PolicyInherit}, p.DisableAutoForward) {
		return Invalid("disable-auto-forward", "%q is none of on, off, inherit", p.DisableAutoForward)
	}
	if err := p.DailyCount.validate("daily-count", MaxDailyCount, true); err != nil {
		return err
	}
	if err := p.DailyMB.validate("daily-mb", MaxDailyMB, true); err != nil {
		return err
	}
	if err := p.AttachmentMB.validate("attachment-mb", MaxMessageMB, true); err != nil {
		return err
	}
	if n := len(p.Users) + len(p.Groups); n > MaxPolicyTargets {
		return Invalid("user", "%d users and groups are more than %d; make a group of them", n, MaxPolicyTargets)
	}
	return nil
}
