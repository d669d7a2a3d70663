package model

import "encoding/hex"

// BodyID is the SHA-256 of a message's octets as they are stored.
type BodyID [32]byte

func (id BodyID) String() string { return hex.EncodeToString(id[:]) }

// Flags are the system flags of a message (RFC 9051 §2.3.2) as bits.
type Flags uint16

// The system flags. FlagForwarded and its like are keywords, not bits.
const (
	FlagSeen Flags = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft
)

// SystemFlags lists every bit with its canonical name, in the order in which they are written.
var SystemFlags = []struct {
	Bit  Flags
	Name string
}{
	{FlagAnswered, `\Answered`},
	{FlagFlagged, `\Flagged`},
	{FlagDeleted, `\Deleted`},
	{FlagSeen, `\Seen`},
	{FlagDraft, `\Draft`},
}

// MessageState is what changes of a message, and what a listing needs.
type MessageState struct {
	UID      UID
	ModSeq   uint64
	Flags    Flags
	Keywords []uint16 // indexes into Mailbox.Keywords, ascending
	Date     int64    // INTERNALDATE, Unix seconds
	SaveDate int64    // when it came into this mailbox, Unix seconds (RFC 8514)
	Size     int64    // octets
	Body     BodyID
	GUID     [16]byte // OBJECTID EMAILID (RFC 8474): the same for every copy
}
