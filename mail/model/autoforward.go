package model

import "slices"

// AutoForward is where a user's mail is passed on to (I.15). It is the user's own: he can change it
// while settings are read-only.
type AutoForward struct {
	User    string   `cbor:"user" json:"user"`                    // key of the user
	To      []string `cbor:"to" json:"to"`                        // addresses, here or elsewhere
	Keep    bool     `cbor:"keep,omitempty" json:"keep_copy"`     // a copy stays in the Inbox
	Changed int64    `cbor:"changed,omitempty" json:"changed_at"` // Unix seconds
}

// MaxForwards bounds the addresses that one user's mail is passed on to.
const MaxForwards = 10

// Validate checks the forward's own fields and brings the addresses into the form in which they
// are compared.
func (f *AutoForward) Validate() error {
	if len(f.To) == 0 {
		return Invalid("to", "a forward needs at least one address")
	}
	var to []string
	for _, a := range f.To {
		address, err := CleanAddress("to", a)
		if err != nil {
			return err
		}
		if !slices.Contains(to, address) {
			to = append(to, address)
		}
	}
	if len(to) > MaxForwards {
		return Invalid("to", "%d addresses are more than %d", len(to), MaxForwards)
	}
	f.To = to
	return nil
}

// CleanAddress checks an address as people give it, and folds its domain.
func CleanAddress(field, s string) (string, error) {
	local, domain, ok := SplitAddress(s)
	if !ok {
		return "", Invalid(field, "%q is no address", s)
	}
	if err := ValidateLocalPart(field, local); err != nil {
		return "", err
	}
	domain = FoldDomain(domain)
	if err := ValidateDomainName(field, domain); err != nil {
		return "", err
	}
	return local + "@" + domain, nil
}
