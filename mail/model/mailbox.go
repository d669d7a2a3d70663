package model

import (
	"strings"
	"unicode/utf8"
)

// AccountID names the owner of mailboxes. It stays when the user is renamed
// and is never used again after deletion. 0 is no account.
type AccountID uint64

// MailboxID names a mailbox for ever: renaming keeps it, deletion retires it.
// 0 is no mailbox.
type MailboxID uint64

// UID is a message's unique identifier in its mailbox (RFC 9051 §2.3.1.1).
type UID uint32

// SpecialUse is the role of a mailbox (RFC 6154); empty for ordinary ones.
type SpecialUse string

// The roles every account has from the start.
const (
	UseInbox   SpecialUse = "Inbox"
	UseSent    SpecialUse = "Sent"
	UseDrafts  SpecialUse = "Drafts"
	UseTrash   SpecialUse = "Trash"
	UseJunk    SpecialUse = "Junk"
	UseArchive SpecialUse = "Archive"
)

// DefaultMailboxes are made with an account, in this order.
var DefaultMailboxes = []struct {
	Name string
	Use  SpecialUse
}{
	{"INBOX", UseInbox},
	{"Sent", UseSent},
	{"Drafts", UseDrafts},
	{"Trash", UseTrash},
	{"Junk", UseJunk},
	{"Archive", UseArchive},
}

// Delimiter separates the levels of a mailbox name.
const Delimiter = "/"

// Limits of mailboxes.
const (
	MaxMailboxName     = 1000 // octets of the full name in UTF-8
	MaxMailboxDepth    = 32   // levels
	MaxMailboxes       = 10000
	MaxKeywords        = 256 // different keywords in one mailbox
	MaxKeywordLength   = 255 // octets
	MaxMessageKeywords = 64  // keywords on one message
)

// Mailbox is a folder of messages and the counters of its content.
type Mailbox struct {
	ID            MailboxID  `cbor:"1,keyasint"`
	Account       AccountID  `cbor:"2,keyasint"`
	Name          string     `cbor:"3,keyasint"` // UTF-8, levels separated by Delimiter
	Use           SpecialUse `cbor:"4,keyasint,omitempty"`
	GUID          [16]byte   `cbor:"5,keyasint"` // OBJECTID MAILBOXID (RFC 8474)
	UIDValidity   uint32     `cbor:"6,keyasint"`
	UIDNext       UID        `cbor:"7,keyasint"`
	HighestModSeq uint64     `cbor:"8,keyasint"`
	Messages      uint32     `cbor:"9,keyasint"`
	Unseen        uint32     `cbor:"10,keyasint"`
	Deleted       uint32     `cbor:"11,keyasint,omitempty"` // messages with \Deleted
	Size          int64      `cbor:"12,keyasint"`           // octets of all messages
	Subscribed    bool       `cbor:"13,keyasint,omitempty"`
	Keywords      []string   `cbor:"14,keyasint,omitempty"` // index = number in MessageState.Keywords
	Created       int64      `cbor:"15,keyasint"`           // Unix seconds
	Epoch         uint64     `cbor:"16,keyasint,omitempty"` // forced epoch whose skip-ahead is already applied
	RecentFloor   UID        `cbor:"17,keyasint,omitempty"` // UIDs below were seen by a read-write session (\Recent)
	Ahead         UID        `cbor:"18,keyasint,omitempty"` // a merged branch has given UIDs below this: the next message starts there
	Tombstones    uint32     `cbor:"19,keyasint,omitempty"` // expunged UIDs that are remembered for clients that come back (RFC 7162)
	Forgotten     uint64     `cbor:"20,keyasint,omitempty"` // expunges with a mod-sequence up to this are no longer remembered
	Kept          uint32     `cbor:"21,keyasint,omitempty"` // expunged messages that can be given back; not in Messages
	KeptSize      int64      `cbor:"22,keyasint,omitempty"` // octets of those; not in Size
}

// IsInbox reports whether name is INBOX in any letter case (RFC 9051 §5.1).
func IsInbox(name string) bool { return len(name) == 5 && strings.EqualFold(name, "INBOX") }

// CanonicalMailboxName folds INBOX (also as the first level) to upper case.
func CanonicalMailboxName(name string) string {
	first, rest, nested := strings.Cut(name, Delimiter)
	if !IsInbox(first) {
		return name
	}
	if nested {
		return "INBOX" + Delimiter + rest
	}
	return "INBOX"
}

// ValidateMailboxName says why name can't be a mailbox's name.
func ValidateMailboxName(name string) error {
	switch {
	case name == "":
		return Invalid("mailbox", "the name is empty")
	case len(name) > MaxMailboxName:
		return Invalid("mailbox", "the name has %d octets, more than %d", len(name), MaxMailboxName)
	case !utf8.ValidString(name):
		return Invalid("mailbox", "the name is not valid UTF-8")
	}
	levels := strings.Split(name, Delimiter)
	if len(levels) > MaxMailboxDepth {
		return Invalid("mailbox", "the name has %d levels, more than %d", len(levels), MaxMailboxDepth)
	}
	for _, level := range levels {
		if level == "" {
			return Invalid("mailbox", "the name %q has an empty level", name)
		}
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || r == '*' || r == '%' {
			return Invalid("mailbox", "the name contains %q, which is not allowed", r)
		}
	}
	return nil
}
