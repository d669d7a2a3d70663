package model

// SecondFactor is the two-factor login of an account (RFC 6238): a code besides the password, for
// administration and self-service over TLS. Mail clients are not asked for one.
type SecondFactor struct {
	User     string   `cbor:"user" json:"user"`           // key of the account
	Secret   string   `cbor:"secret,omitempty" json:"-"`  // sealed; in force
	Pending  string   `cbor:"pending,omitempty" json:"-"` // sealed; shown, not confirmed yet
	Since    int64    `cbor:"since,omitempty" json:"since"`
	LastStep int64    `cbor:"step,omitempty" json:"-"` // time step of the last code: none is good twice
	Recovery [][]byte `cbor:"rec,omitempty" json:"-"`  // SHA-256 of the codes that are left
	// SealedFor is the key that Secret and Pending are sealed for; empty: User.
	SealedFor string `cbor:"for,omitempty" json:"-"`
}

// SealKey is the key of the account that the secrets are sealed for: its own, or the one it had when they
// were made.
func (f *SecondFactor) SealKey() string {
	if f.SealedFor != "" {
		return f.SealedFor
	}
	return f.User
}

// On tells whether a code is asked for.
func (f *SecondFactor) On() bool { return f != nil && f.Secret != "" }
