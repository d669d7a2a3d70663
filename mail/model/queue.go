package model

// QueueID names a queued message for ever.
type QueueID uint64

// QueueState is where a queued recipient stands (R10.52).
type QueueState string

// The states of the queue. Processing is held in memory by the node that delivers; it is never stored.
const (
	QueuePending    QueueState = "pending"    // waits for its turn
	QueueProcessing QueueState = "processing" // delivery under way
	QueueDeferred   QueueState = "deferred"   // failed for now, will be tried again
	QueueHeld       QueueState = "held"       // waits for the administrator
)

// QueueMessage is a message on its way to other servers: envelope without recipients.
type QueueMessage struct {
	ID        QueueID `cbor:"1,keyasint"`
	From      string  `cbor:"2,keyasint"` // reverse path; empty for notifications
	Body      BodyID  `cbor:"3,keyasint"`
	Skip      int     `cbor:"4,keyasint,omitempty"` // octets of local trace (Return-Path) at the front that don't go out
	Size      int64   `cbor:"5,keyasint"`
	Created   int64   `cbor:"6,keyasint"` // Unix nanoseconds
	Expires   int64   `cbor:"7,keyasint"` // Unix nanoseconds: bounced when still undelivered then
	MessageID string  `cbor:"8,keyasint,omitempty"`
	Subject   string  `cbor:"9,keyasint,omitempty"`
	EnvID     string  `cbor:"10,keyasint,omitempty"` // RFC 3461 ENVID
	Ret       string  `cbor:"11,keyasint,omitempty"` // RFC 3461 RET: FULL or HDRS
	UTF8      bool    `cbor:"12,keyasint,omitempty"` // RFC 6531: needs SMTPUTF8
	EightBit  bool    `cbor:"13,keyasint,omitempty"` // RFC 6152: has 8-bit octets
	Actor     string  `cbor:"14,keyasint,omitempty"` // login that sent it; empty for none
	TraceID   string  `cbor:"15,keyasint,omitempty"` // message ID of the log lines
	Warned    bool    `cbor:"16,keyasint,omitempty"` // a delay notice has been sent
	Open      uint32  `cbor:"17,keyasint"`           // recipients not yet done
	Prefix    []byte  `cbor:"18,keyasint,omitempty"` // header fields that go out in front of the body, such as Delivered-To of a forward
	Notice    bool    `cbor:"19,keyasint,omitempty"` // a notification that this server has written (RFC 3464)
}

// QueueRcpt is one recipient of a queued message.
type QueueRcpt struct {
	N        uint32     `cbor:"1,keyasint"`
	Address  string     `cbor:"2,keyasint"`
	Domain   string     `cbor:"3,keyasint"`           // where it goes: destination of delivery, lower case
	ORcpt    string     `cbor:"4,keyasint,omitempty"` // RFC 3461 ORCPT
	Notify   string     `cbor:"5,keyasint,omitempty"` // RFC 3461 NOTIFY, comma separated
	State    QueueState `cbor:"6,keyasint"`
	Attempts uint32     `cbor:"7,keyasint,omitempty"`
	Next     int64      `cbor:"8,keyasint"`            // Unix nanoseconds of the next attempt
	LastAt   int64      `cbor:"9,keyasint,omitempty"`  // Unix nanoseconds of the last attempt
	LastCode int        `cbor:"10,keyasint,omitempty"` // SMTP reply code, 0 when there was none
	Reason   string     `cbor:"11,keyasint,omitempty"` // the remote's answer or our reason, one line
	Remote   string     `cbor:"12,keyasint,omitempty"` // host and address last tried
	TLS      string     `cbor:"13,keyasint,omitempty"` // protection of the last attempt
	Tries    []byte     `cbor:"14,keyasint,omitempty"` // the last attempts, encoded; see state.Tries
	HeldBy   string     `cbor:"15,keyasint,omitempty"` // name of the rule that holds it; empty: an administrator, if it is held
}

// MaxTries is how many attempts a queued recipient remembers.
const MaxTries = 10

// QueueTry is an attempt that has failed for now.
type QueueTry struct {
	_      struct{} `cbor:",toarray"`
	At     int64    // Unix nanoseconds
	Code   int      // SMTP reply code, 0 when there was none
	Reason string
	Remote string
	TLS    string
}

// Outcome is what an attempt did for one recipient.
type Outcome string

// Outcomes of an attempt.
const (
	OutcomeDelivered Outcome = "delivered"
	OutcomeDeferred  Outcome = "deferred"
	OutcomeFailed    Outcome = "failed"
)
