package model

// Token is a login to the admin plane without a password: a token, of which only the hash is
// kept, or a client certificate, known by its SHA-256.
type Token struct {
	Name    string `cbor:"name" json:"name"`
	User    string `cbor:"user" json:"user"`
	Hash    []byte `cbor:"hash" json:"-"` // SHA-256
	Cert    bool   `cbor:"cert,omitempty" json:"cert,omitempty"`
	Created int64  `cbor:"created" json:"created"`
	Expires int64  `cbor:"expires,omitempty" json:"expires,omitempty"`
	Source  string `cbor:"src,omitempty" json:"source,omitempty"`   // of the account; empty: local
	Session bool   `cbor:"sess,omitempty" json:"session,omitempty"` // made by a login, for some hours
}

// License is a seat key (R4.18–22).
type License struct {
	Serial    string `cbor:"serial" json:"serial"`
	Key       string `cbor:"key" json:"-"`
	Quantity  int    `cbor:"quantity" json:"quantity"`
	Owner     string `cbor:"owner" json:"owner"`
	Activated int64  `cbor:"activated" json:"activated"`
	Expires   int64  `cbor:"expires,omitempty" json:"expires,omitempty"`
}

// FreeSeats are included (R4.03).
const FreeSeats = 5

// AdminEvent is one line of the admin log (I.13). Secrets are masked before it is made.
type AdminEvent struct {
	Time   int64          `cbor:"time" json:"time"` // Unix nanoseconds
	Actor  string         `cbor:"actor" json:"actor"`
	From   string         `cbor:"from" json:"from"`
	Op     string         `cbor:"op" json:"op"`
	Object string         `cbor:"object,omitempty" json:"object,omitempty"`
	Result string         `cbor:"result" json:"result"`
	Input  map[string]any `cbor:"input,omitempty" json:"input,omitempty"`
	Diff   []FieldDiff    `cbor:"diff,omitempty" json:"diff,omitempty"`
}

// FieldDiff is one changed value.
type FieldDiff struct {
	Field string `cbor:"field" json:"field"`
	Old   string `cbor:"old" json:"old"`
	New   string `cbor:"new" json:"new"`
}
