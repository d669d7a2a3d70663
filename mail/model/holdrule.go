package model

import "strings"

// HoldRule holds mail of a kind in the queue when it enters: nothing tries to send it until it is
// released. What a rule says of a kind must all be true; what it leaves open is not compared.
type HoldRule struct {
	Name        string `cbor:"name" json:"name"`
	Description string `cbor:"descr,omitempty" json:"description"`
	Enabled     bool   `cbor:"on,omitempty" json:"enabled"`
	All         bool   `cbor:"all,omitempty" json:"all"`         // nothing is compared: all mail is held
	Sender      string `cbor:"from,omitempty" json:"sender"`     // as in MatchAddress; <> for no sender
	Recipient   string `cbor:"to,omitempty" json:"recipient"`    // as in MatchAddress
	Domain      string `cbor:"dom,omitempty" json:"domain"`      // of the recipient; .domain: all below it
	Search      string `cbor:"search,omitempty" json:"search"`   // part of the sender, a recipient or the subject
	Larger      int64  `cbor:"larger,omitempty" json:"larger"`   // octets, more than; 0: not compared
	Smaller     int64  `cbor:"smaller,omitempty" json:"smaller"` // octets, less than; 0: not compared
	// Notifications has the rule hold this server's own notifications (DSN), too.
	Notifications bool  `cbor:"dsn,omitempty" json:"notifications"`
	Until         int64 `cbor:"until,omitempty" json:"until"` // Unix seconds from which on it holds nothing more; 0: no end
	Created       int64 `cbor:"created" json:"created"`       // Unix seconds
}

// MaxHoldRules bounds the rules of a system: each is compared with each message that leaves.
const MaxHoldRules = 1000

// NullSender is how a rule names the null reverse path.
const NullSender = "<>"

// Validate checks the rule's own fields, and brings them into the form in which they are compared.
func (r *HoldRule) Validate() error {
	if err := ValidateLabel("name", r.Name); err != nil {
		return err
	}
	if strings.ContainsAny(r.Name, `"\`) {
		return Invalid("name", "%q must have neither a quotation mark nor a backslash", r.Name)
	}
	if len(r.Description) > 500 || strings.ContainsFunc(r.Description, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return Invalid("description", "must be one line of up to 500 octets")
	}
	for _, f := range []struct {
		name string
		text *string
	}{{"sender", &r.Sender}, {"recipient", &r.Recipient}} {
		*f.text = FoldName(*f.text)
		if len(*f.text) > 254 || strings.ContainsFunc(*f.text, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return Invalid(f.name, "%q is neither an address nor a part of one", *f.text)
		}
	}
	if r.Domain != "" {
		r.Domain = FoldDomain(r.Domain)
		if err := validateBelow("domain", r.Domain); err != nil {
			return err
		}
	}
	if r.Search = strings.ToLower(strings.TrimSpace(r.Search)); len(r.Search) > 254 {
		return Invalid("search", "must have up to 254 octets")
	}
	if r.Larger < 0 || r.Smaller < 0 || r.Smaller > 0 && r.Larger >= r.Smaller-1 {
		return Invalid("larger-than", "no message is larger than %d and smaller than %d octets", r.Larger, r.Smaller)
	}
	if compares := r.Sender+r.Recipient+r.Domain+r.Search != "" || r.Larger > 0 || r.Smaller > 0; compares == r.All {
		if r.All {
			return Invalid("all", "--all holds every message, so nothing is compared: leave it out, or the other conditions")
		}
		return Invalid("sender", "say which mail: --sender, --recipient, --domain, --search, --larger-than, --smaller-than, or --all for every message")
	}
	return nil
}

// Held is what rules compare: a message that enters the queue, for one recipient.
type Held struct {
	Senders      []string // the reverse path, and the one before it was rewritten (SRS); empty: none
	Recipient    string
	Domain       string // of the recipient, lower case
	Subject      string
	Size         int64 // octets
	Notification bool  // this server has written it to tell a sender what became of his mail
}

// At tells whether the rule holds anything at a time, in Unix seconds.
func (r *HoldRule) At(now int64) bool { return r.Enabled && (r.Until == 0 || now < r.Until) }

// Matches tells whether mail is of the rule's kind.
func (r *HoldRule) Matches(m *Held) bool {
	if m.Notification && !r.Notifications {
		return false
	}
	if r.Larger > 0 && m.Size <= r.Larger || r.Smaller > 0 && m.Size >= r.Smaller {
		return false
	}
	if r.Recipient != "" && !MatchAddress(r.Recipient, m.Recipient) {
		return false
	}
	if r.Domain != "" && r.Domain != m.Domain && !(r.Domain[0] == '.' && strings.HasSuffix(m.Domain, r.Domain)) {
		return false
	}
	if r.Sender != "" && !r.sentBy(m.Senders) {
		return false
	}
	return r.Search == "" || r.found(m)
}

func (r *HoldRule) sentBy(senders []string) bool {
	for _, s := range senders {
		if s == "" && r.Sender == NullSender || MatchAddress(r.Sender, s) {
			return true
		}
	}
	return len(senders) == 0 && r.Sender == NullSender
}

func (r *HoldRule) found(m *Held) bool {
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), r.Search) }
	for _, s := range m.Senders {
		if has(s) {
			return true
		}
	}
	return has(m.Recipient) || has(m.Subject)
}

// HeldBy is the reason that the queue gives for mail held by the rule of a name.
func HeldBy(rule string) string { return `held by rule "` + rule + `"` }

// MatchAddress tells whether an address meets a pattern in lower case: a whole address and an @domain
// must be equal, anything else must be contained.
func MatchAddress(pattern, address string) bool {
	address = strings.ToLower(address)
	local, domain, whole := strings.Cut(pattern, "@")
	switch {
	case whole && local != "" && strings.Contains(domain, "."):
		return address == pattern
	case whole && local == "" && strings.Contains(domain, "."):
		return strings.HasSuffix(address, pattern)
	}
	return address != "" && strings.Contains(address, pattern)
}
