package state

import (
	"encoding/binary"
	"encoding/hex"
	"unicode/utf8"

	"mailplusd/mail/model"

	"github.com/fxamacker/cbor/v2"
)

// Branch names the side of a split that is merged into the other: its last epoch, and the
// last index that both sides have in common.
type Branch struct {
	_     struct{} `cbor:",toarray"`
	Node  uint16
	Epoch uint64
	Fork  uint64
}

func (b Branch) key() []byte {
	return be64(be64(binary.BigEndian.AppendUint16(make([]byte, 0, 18), b.Node), b.Epoch), b.Fork)
}

// String is the ID of the branch's report.
func (b Branch) String() string { return hex.EncodeToString(b.key()) }

// Merge brings changes of a branch into this history; Replay makes it. It may be applied any
// number of times: what has been done is known. Parts are done in the order of the fields.
type Merge struct {
	Branch    Branch         `cbor:"1,keyasint"`
	Loser     string         `cbor:"2,keyasint"` // node ID, for the report
	Mailboxes []MergeMailbox `cbor:"3,keyasint,omitempty"`
	Messages  []MergeMessage `cbor:"4,keyasint,omitempty"`
	Flags     []MergeFlags   `cbor:"5,keyasint,omitempty"`
	Gone      []MergeGone    `cbor:"6,keyasint,omitempty"`
	Deleted   []MergeDeleted `cbor:"7,keyasint,omitempty"`
	Settle    []MergeSettle  `cbor:"8,keyasint,omitempty"`
	Recover   []MergeMessage `cbor:"9,keyasint,omitempty"` // asked for by Merged.Wanted
	Queue     []MergeQueue   `cbor:"10,keyasint,omitempty"`
	Rcpts     []MergeRcpt    `cbor:"11,keyasint,omitempty"`
	Rows      []MergeRow     `cbor:"12,keyasint,omitempty"`
	Counters  []MergeCounter `cbor:"13,keyasint,omitempty"`
	Replied   []MergeReplied `cbor:"14,keyasint,omitempty"`
	Sent      []MergeSent    `cbor:"15,keyasint,omitempty"`
}

// Merged is the result of Merge.
type Merged struct {
	Done   bool         `cbor:"1,keyasint,omitempty"` // the branch is merged already, nothing was done
	Wanted []MessageRef `cbor:"2,keyasint,omitempty"` // messages to send as Recover: they were changed there and expunged here
}

// MessageRef is a message by the loser's numbers.
type MessageRef struct {
	_       struct{} `cbor:",toarray"`
	Mailbox model.MailboxID
	UID     model.UID
}

// MergeMailbox is a mailbox in which something happened, as the loser has it.
type MergeMailbox struct {
	Row          model.Mailbox `cbor:"1,keyasint"`
	Made         bool          `cbor:"2,keyasint,omitempty"` // since the fork
	RenamedAt    int64         `cbor:"3,keyasint,omitempty"` // 0: not since the fork
	SubscribedAt int64         `cbor:"4,keyasint,omitempty"`
}

// MergeMessage is a message that the loser added and still has, or keeps though it was expunged.
type MergeMessage struct {
	Mailbox  model.MailboxID `cbor:"1,keyasint"`
	UID      model.UID       `cbor:"2,keyasint"`
	Account  model.AccountID `cbor:"3,keyasint"`
	Flags    model.Flags     `cbor:"4,keyasint,omitempty"`
	Words    []string        `cbor:"5,keyasint,omitempty"`
	Date     int64           `cbor:"6,keyasint"`
	SaveDate int64           `cbor:"7,keyasint"`
	Size     int64           `cbor:"8,keyasint"`
	Body     model.BodyID    `cbor:"9,keyasint"`
	GUID     [16]byte        `cbor:"10,keyasint"`
	Meta     []byte          `cbor:"11,keyasint"`
	Like     []byte          `cbor:"12,keyasint"` // see likeness
	At       int64           `cbor:"13,keyasint"` // when it was added, Unix nanoseconds
	// Gone, when not 0: it was expunged again, then, but can still be given back (Unix nanoseconds).
	Gone int64 `cbor:"14,keyasint,omitempty"`
}

// MergeFlags is what the loser changed of a message that is older than the fork.
type MergeFlags struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	UID     model.UID       `cbor:"2,keyasint"`
	Changes []FlagChange    `cbor:"3,keyasint"`
}

// FlagChange is one flag or keyword that differs from its value at the fork.
type FlagChange struct {
	_    struct{} `cbor:",toarray"`
	Flag model.Flags
	Word string // when Flag is 0
	On   bool
	At   int64 // Unix nanoseconds of the last change
}

// MergeGone is a message older than the fork that the loser expunged, or moved to To.
type MergeGone struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	UID     model.UID       `cbor:"2,keyasint"`
	At      int64           `cbor:"3,keyasint"`
	To      model.MailboxID `cbor:"4,keyasint,omitempty"`
	ToUID   model.UID       `cbor:"5,keyasint,omitempty"`
}

// MergeDeleted is a mailbox older than the fork that the loser deleted.
type MergeDeleted struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	At      int64           `cbor:"2,keyasint"`
}

// MergeSettle ends the merge of a mailbox: what the winner added below the loser's UIDNext
// gets a new UID, because clients of the loser will never look for it there.
type MergeSettle struct {
	Mailbox model.MailboxID `cbor:"1,keyasint"`
	UIDNext model.UID       `cbor:"2,keyasint"`
}

// MergeQueue is a message that the loser queued. Without Rcpts it is done.
type MergeQueue struct {
	Message model.QueueMessage `cbor:"1,keyasint"`
	Rcpts   []model.QueueRcpt  `cbor:"2,keyasint,omitempty"`
	Op      []byte             `cbor:"3,keyasint"` // entry that queued it
	At      int64              `cbor:"4,keyasint"`
}

// MergeRcpt is a recipient older than the fork that the loser has tried or changed.
type MergeRcpt struct {
	Queue model.QueueID   `cbor:"1,keyasint"`
	Rcpt  model.QueueRcpt `cbor:"2,keyasint"`
	Done  bool            `cbor:"3,keyasint,omitempty"`
	At    int64           `cbor:"4,keyasint"`
}

// MergeRow is a row that the loser put or (without Value) deleted.
type MergeRow struct {
	Table byte   `cbor:"1,keyasint"`
	Key   RowKey `cbor:"2,keyasint"`
	Value []byte `cbor:"3,keyasint,omitempty"`
	At    int64  `cbor:"4,keyasint"`
}

// RowKey is the key of a row. Some tables have keys that are no text (the admin log: a time and a name); CBOR
// has such a string as octets, and refuses it as text (RFC 8949 §3.1).
type RowKey string

// MarshalCBOR implements cbor.Marshaler.
func (k RowKey) MarshalCBOR() ([]byte, error) {
	if utf8.ValidString(string(k)) {
		return cbor.Marshal(string(k))
	}
	return cbor.Marshal([]byte(k))
}

// UnmarshalCBOR implements cbor.Unmarshaler.
func (k *RowKey) UnmarshalCBOR(raw []byte) error {
	if len(raw) > 0 && raw[0]>>5 == 2 { // octets
		var b []byte
		if err := cbor.Unmarshal(raw, &b); err != nil {
			return err
		}
		*k = RowKey(b)
		return nil
	}
	var s string
	if err := cbor.Unmarshal(raw, &s); err != nil {
		return err
	}
	*k = RowKey(s)
	return nil
}

// MergeCounter is what the loser added to a counter.
type MergeCounter struct {
	Name string `cbor:"1,keyasint"`
	Add  int64  `cbor:"2,keyasint"`
}

// MergeReplied is a sender whom the loser has answered automatically.
type MergeReplied struct {
	Account model.AccountID `cbor:"1,keyasint"`
	Sender  []byte          `cbor:"2,keyasint"`
	At      int64           `cbor:"3,keyasint"`
}

// MergeDone completes the merge of a branch: its notes are dropped, and further Merges of
// it do nothing.
type MergeDone struct {
	Branch Branch `cbor:"1,keyasint"`
	Count  uint64 `cbor:"2,keyasint"` // of Replay
	Digest []byte `cbor:"3,keyasint"`
}

// MergeReport tells the administrator what a merge has decided.
type MergeReport struct {
	ID      string      `cbor:"id" json:"id"`
	Loser   string      `cbor:"loser" json:"loser"` // node whose branch was merged
	Epoch   uint64      `cbor:"epoch" json:"epoch"`
	Fork    uint64      `cbor:"fork" json:"fork"`
	Started int64       `cbor:"started" json:"started"`                   // Unix seconds
	Done    int64       `cbor:"done,omitempty" json:"done,omitempty"`     // 0: under way
	Changes uint64      `cbor:"changes,omitempty" json:"changes"`         // items that the loser sent
	Digest  []byte      `cbor:"digest,omitempty" json:"digest"`           // of those items
	Counts  MergeCounts `cbor:"counts" json:"counts"`                     //
	Lines   []string    `cbor:"lines,omitempty" json:"lines,omitempty"`   // decisions, up to MaxMergeLines
	Left    int         `cbor:"left,omitempty" json:"left_out,omitempty"` // lines left out
}

// MergeCounts counts the decisions.
type MergeCounts struct {
	Added      int `cbor:"1,keyasint" json:"added"`            // messages that came
	Renumbered int `cbor:"2,keyasint" json:"renumbered"`       // of these and of ours: under another UID
	Same       int `cbor:"3,keyasint" json:"same"`             // were on both sides: one copy
	Flags      int `cbor:"4,keyasint" json:"flags"`            // messages whose flags changed
	FlagsKept  int `cbor:"5,keyasint" json:"flags_kept"`       // flags changed on both sides, later here
	Expunged   int `cbor:"6,keyasint" json:"expunged"`         //
	Recovered  int `cbor:"7,keyasint" json:"recovered"`        // expunged on one side, changed on the other
	Mailboxes  int `cbor:"8,keyasint" json:"mailboxes"`        // made, renamed, deleted
	Conflicts  int `cbor:"9,keyasint" json:"conflicts"`        // of mailboxes and rows
	Queued     int `cbor:"10,keyasint" json:"queued"`          //
	Sent       int `cbor:"11,keyasint" json:"sent"`            // recipients done there
	Rows       int `cbor:"12,keyasint" json:"rows"`            //
	Settings   int `cbor:"13,keyasint" json:"settings_listed"` // settings of the loser, not applied
	Counters   int `cbor:"14,keyasint" json:"counters"`        //
}

// MaxMergeLines bounds the lines of a report.
const MaxMergeLines = 200

// RecoveredMailbox gets messages that one side has expunged and the other changed. Nothing
// removes them but the user or, after RecoveredDays, housekeeping.
const (
	RecoveredMailbox = "Recovered by merge"
	RecoveredDays    = 30
)

func (Merge) kind() Kind     { return KindMerge }
func (MergeDone) kind() Kind { return KindMergeDone }

// MergeReportList lists the reports of all merges.
func (s *State) MergeReportList() ([]*MergeReport, error) { return MergeReports.List(s, "") }

// MergeReportShow reads one report; ErrNotFound.
func (s *State) MergeReportShow(id string) (*MergeReport, error) { return MergeReports.Get(s, id) }
