package state

import (
	"encoding/hex"

	"mailplusd/mail/model"

	"github.com/fxamacker/cbor/v2"
)

// EntryVersion is the first octet of an entry. An entry of a higher version stops the node.
const EntryVersion = 1

// OpID names an entry for ever: node (2), epoch (6), sequence (8). It makes a retry
// idempotent and lets a merge recognise what it has seen.
type OpID [16]byte

func (id OpID) String() string { return hex.EncodeToString(id[:]) }

// Entry is what one proposal changes, all of it or nothing.
type Entry struct {
	ID    OpID   `cbor:"1,keyasint"`
	Epoch uint64 `cbor:"2,keyasint,omitempty"`
	Time  int64  `cbor:"3,keyasint"` // Unix nanoseconds, chosen by the proposer, never going back
	Once  bool   `cbor:"4,keyasint,omitempty"`
	Ops   []Op   `cbor:"5,keyasint"`
}

// Op is one operation: its kind and its body.
type Op struct {
	_         struct{}        `cbor:",toarray"`
	Kind      Kind            //
	Ignorable bool            // a node that doesn't know Kind may pass over it
	Body      cbor.RawMessage //
}

// Kind numbers the operations. Append only; never reuse.
type Kind uint16

// The operations.
const (
	KindRows Kind = iota + 1
	KindDeliver
	KindAppend
	KindFlags
	KindExpunge
	KindCopy
	KindMailboxCreate
	KindMailboxRename
	KindMailboxDelete
	KindMailboxSubscribe
	KindAttempt
	KindQueueChange
	KindBodiesDropped
	KindCounter
	KindSeen
	KindAccountDelete
	KindEpochStart
	KindPairSet
	KindRaiseLevel
	KindMerge
	KindMergeDone
	KindStarted
	KindTakeover
	KindKeeping
	KindKeptRestore
	KindKeptPurge
	KindReply
	KindSent
	KindSentClear
)

// Operation is an operation before it is encoded.
type Operation interface{ kind() Kind }

// RowClass says who may change a row; see PAIR rules: settings are refused on a node that is not their owner.
type RowClass uint8

// Classes of rows.
const (
	ClassSettings RowClass = iota // the administrator's
	ClassUser                     // the user's own: password, forward, auto-reply
	ClassPair                     // the pair's own facts: they change while settings are read-only
)

// Rows puts and deletes rows if all of Expect still hold.
type Rows struct {
	Class  RowClass `cbor:"1,keyasint,omitempty"`
	Expect []Expect `cbor:"2,keyasint,omitempty"`
	Put    []RowPut `cbor:"3,keyasint,omitempty"`
	Delete [][]byte `cbor:"4,keyasint,omitempty"`
	Tables []byte   `cbor:"5,keyasint,omitempty"` // tables whose version this raises
}

// Expect is a row (or table version) that was read: version 0 means that there was none.
type Expect struct {
	_       struct{} `cbor:",toarray"`
	Key     []byte
	Version uint64
}

// RowPut stores Value under Key; rows get the entry's index as version in front, index keys don't.
type RowPut struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
	Plain bool // index key: no version
}

// Deliver is one SMTP transaction: one body, every local mailbox and every queued recipient.
type Deliver struct {
	Body  model.BodyID `cbor:"1,keyasint"`
	Size  int64        `cbor:"2,keyasint"`
	Meta  []byte       `cbor:"3,keyasint"` // parsed headers, stored as they are
	Local []DeliverTo  `cbor:"4,keyasint,omitempty"`
	Queue *QueueAdd    `cbor:"5,keyasint,omitempty"`
	// Same is 16 octets that are equal when the same message is delivered again, such as a hash
	// of Message-ID, envelope and content without trace headers; a merge keeps one of two such.
	Same []byte `cbor:"6,keyasint,omitempty"`
}

// DeliverTo is one mailbox that gets a copy.
type DeliverTo struct {
	Account  model.AccountID  `cbor:"1,keyasint"`
	Use      model.SpecialUse `cbor:"2,keyasint,omitempty"` // mailbox by role; empty: Inbox
	Flags    model.Flags      `cbor:"3,keyasint,omitempty"`
	Keywords []string         `cbor:"4,keyasint,omitempty"`
}

// QueueAdd is the queued part of a Deliver. ID and Created are given in Apply.
type QueueAdd struct {
	Message model.QueueMessage `cbor:"1,keyasint"`
	Rcpts   []model.QueueRcpt  `cbor:"2,keyasint"`
}

// Delivered tells where a Deliver put its copies, in the order of Local.
type Delivered struct {
	Local []Placed      `cbor:"1,keyasint,omitempty"`
	Queue model.QueueID `cbor:"2,keyasint,omitempty"`
}

// Placed is one message in one mailbox.
type Placed struct {
	Mailbox     model.MailboxID `cbor:"1,keyasint"`
	UIDValidity uint32          `cbor:"2,keyasint"`
	UID         model.UID       `cbor:"3,keyasint"`
	ModSeq      uint64          `cbor:"4,keyasint"`
}

// Append adds messages to one mailbox (IMAP APPEND, import).
type Append struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	Items   []AppendItem    `cbor:"2,keyasint"`
}

// AppendItem is one message to append; Date 0 means the entry's time.
type AppendItem struct {
	Body     model.BodyID `cbor:"1,keyasint"`
	Size     int64        `cbor:"2,keyasint"`
	Meta     []byte       `cbor:"3,keyasint"`
	Flags    model.Flags  `cbor:"4,keyasint,omitempty"`
	Keywords []string     `cbor:"5,keyasint,omitempty"`
	Date     int64        `cbor:"6,keyasint,omitempty"`
}

// Appended is the result of Append, in the order of Items.
type Appended struct {
	Placed []Placed `cbor:"1,keyasint"`
}

// FlagMode says what Flags does with the flags it names.
type FlagMode uint8

// The modes of STORE (RFC 9051 §6.4.6).
const (
	FlagsSet FlagMode = iota
	FlagsAdd
	FlagsRemove
)

// SetFlags changes flags of messages that exist; UIDs that don't are passed over.
type SetFlags struct {
	Mailbox        model.MailboxID `cbor:"1,keyasint"`
	UIDs           []model.UID     `cbor:"2,keyasint"`
	Mode           FlagMode        `cbor:"3,keyasint,omitempty"`
	Flags          model.Flags     `cbor:"4,keyasint,omitempty"`
	Keywords       []string        `cbor:"5,keyasint,omitempty"`
	UnchangedSince *uint64         `cbor:"6,keyasint,omitempty"` // RFC 7162 §3.1.3
}

// FlagsChanged lists the messages that SetFlags changed, and those that it left alone
// because they were newer than UnchangedSince.
type FlagsChanged struct {
	ModSeq   uint64      `cbor:"1,keyasint,omitempty"` // of every changed message; 0: nothing changed
	Changed  []model.UID `cbor:"2,keyasint,omitempty"`
	Conflict []model.UID `cbor:"3,keyasint,omitempty"`
}

// Expunge removes messages. OnlyDeleted leaves those without \Deleted alone.
type Expunge struct {
	Mailbox     model.MailboxID `cbor:"1,keyasint"`
	UIDs        []model.UID     `cbor:"2,keyasint"`
	OnlyDeleted bool            `cbor:"3,keyasint,omitempty"`
}

// Expunged lists what was removed.
type Expunged struct {
	ModSeq uint64      `cbor:"1,keyasint,omitempty"`
	UIDs   []model.UID `cbor:"2,keyasint,omitempty"`
}

// Copy copies, or with Move moves, messages to another mailbox.
type Copy struct {
	From model.MailboxID `cbor:"1,keyasint"`
	To   model.MailboxID `cbor:"2,keyasint"`
	UIDs []model.UID     `cbor:"3,keyasint"`
	Move bool            `cbor:"4,keyasint,omitempty"`
}

// Copied pairs source and target UIDs (RFC 4315 §3).
type Copied struct {
	UIDValidity uint32      `cbor:"1,keyasint"`
	From        []model.UID `cbor:"2,keyasint,omitempty"`
	To          []model.UID `cbor:"3,keyasint,omitempty"`
	ModSeq      uint64      `cbor:"4,keyasint,omitempty"` // of the source's expunge, with Move
}

// MailboxCreate makes a mailbox and, where missing, those above it.
type MailboxCreate struct {
	Account model.AccountID  `cbor:"1,keyasint"`
	Name    string           `cbor:"2,keyasint"`
	Use     model.SpecialUse `cbor:"3,keyasint,omitempty"`
	// Defaults makes all of model.DefaultMailboxes instead; those that exist are left alone.
	Defaults bool `cbor:"4,keyasint,omitempty"`
}

// MailboxCreated is the result of MailboxCreate.
type MailboxCreated struct {
	Mailbox model.Mailbox `cbor:"1,keyasint"`
}

// MailboxRename gives a mailbox and all below it a new name. INBOX moves its messages instead (RFC 9051 §6.3.6).
type MailboxRename struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	Name    string          `cbor:"2,keyasint"`
}

// MailboxDelete removes a mailbox with its messages; mailboxes below it stay.
type MailboxDelete struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
}

// MailboxSubscribe sets the subscription.
type MailboxSubscribe struct {
	Mailbox    model.MailboxID `cbor:"1,keyasint"`
	Subscribed bool            `cbor:"2,keyasint,omitempty"`
}

// Seen raises Mailbox.RecentFloor: a read-write session has been told of everything below UIDNext.
type Seen struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	Below   model.UID       `cbor:"2,keyasint"`
}

// AccountDelete removes every mailbox of an account.
type AccountDelete struct {
	Account model.AccountID `cbor:"1,keyasint"`
	User    string          `cbor:"2,keyasint,omitempty"` // name under which kept mail is found again
}

// Attempt records what one delivery attempt did.
type Attempt struct {
	Queue   model.QueueID   `cbor:"1,keyasint"`
	Results []AttemptResult `cbor:"2,keyasint"`
	Warned  bool            `cbor:"3,keyasint,omitempty"`
}

// AttemptResult is the outcome for one recipient.
type AttemptResult struct {
	N       uint32        `cbor:"1,keyasint"`
	Outcome model.Outcome `cbor:"2,keyasint"`
	Next    int64         `cbor:"3,keyasint,omitempty"` // Unix nanoseconds, with OutcomeDeferred
	Code    int           `cbor:"4,keyasint,omitempty"`
	Reason  string        `cbor:"5,keyasint,omitempty"`
	Remote  string        `cbor:"6,keyasint,omitempty"`
	TLS     string        `cbor:"7,keyasint,omitempty"`
	// Waiting: nothing was tried, because the destination is known to be down. With OutcomeDeferred.
	Waiting bool `cbor:"8,keyasint,omitempty"`
}

// QueueAction is what an administrator does to queued recipients.
type QueueAction uint8

// The actions.
const (
	QueueResend  QueueAction = iota + 1 // next attempt now, unless held
	QueueHold                           // no attempts until released
	QueueRelease                        // pending again, if held
	QueueClear                          // forget it, without a notification
)

// QueueChange applies an action to recipients; no Rcpts means all of the message.
type QueueChange struct {
	Action QueueAction   `cbor:"1,keyasint"`
	Queue  model.QueueID `cbor:"2,keyasint"`
	Rcpts  []uint32      `cbor:"3,keyasint,omitempty"`
	By     string        `cbor:"4,keyasint,omitempty"` // with QueueHold: the rule that holds it; empty: an administrator
}

// Changed counts what an operation has touched.
type Changed struct {
	N int `cbor:"1,keyasint,omitempty"`
}

// BodiesDropped forgets bodies that have had no reference since before the entry; those referenced again stay.
type BodiesDropped struct {
	Bodies []UnrefBody `cbor:"1,keyasint"`
}

// UnrefBody is a body without references.
type UnrefBody struct {
	Since int64        `cbor:"1,keyasint"` // Unix seconds
	Body  model.BodyID `cbor:"2,keyasint"`
}

// Dropped lists the bodies that may be deleted from disk.
type Dropped struct {
	Bodies []model.BodyID `cbor:"1,keyasint,omitempty"`
}

// Counter adds to a named count.
type Counter struct {
	Name string `cbor:"1,keyasint"`
	Add  int64  `cbor:"2,keyasint"`
	Max  int64  `cbor:"3,keyasint,omitempty"` // refuse when the sum would pass it; 0: no limit
}

// Counted is the count after Counter.
type Counted struct {
	Value int64 `cbor:"1,keyasint"`
}

func (Rows) kind() Kind             { return KindRows }
func (Deliver) kind() Kind          { return KindDeliver }
func (Append) kind() Kind           { return KindAppend }
func (SetFlags) kind() Kind         { return KindFlags }
func (Expunge) kind() Kind          { return KindExpunge }
func (Copy) kind() Kind             { return KindCopy }
func (MailboxCreate) kind() Kind    { return KindMailboxCreate }
func (MailboxRename) kind() Kind    { return KindMailboxRename }
func (MailboxDelete) kind() Kind    { return KindMailboxDelete }
func (MailboxSubscribe) kind() Kind { return KindMailboxSubscribe }
func (Attempt) kind() Kind          { return KindAttempt }
func (QueueChange) kind() Kind      { return KindQueueChange }
func (BodiesDropped) kind() Kind    { return KindBodiesDropped }
func (Counter) kind() Kind          { return KindCounter }
func (Seen) kind() Kind             { return KindSeen }
func (AccountDelete) kind() Kind    { return KindAccountDelete }
