// Package mailfile reads and writes mail in files as other programs keep it: mbox (RFC 4155, with
// the quoting of mboxrd), Maildir, and one file per message (.eml). It streams: no message is held
// in memory, whatever its size.
//
// A message's octets come in and go out with CRLF line ends. What a format says besides them,
// flags and the time of arrival, is in Item. Files are made with mode 0600 under names that follow
// from the message, so that an export that was interrupted goes on where it was; a file that exists
// is never written over.
package mailfile

import (
	"errors"
	"io"
	"time"
)

// The formats.
const (
	Mbox    = "mbox"
	Maildir = "maildir"
	EML     = "eml"
)

// Item is what a format keeps of a message besides its octets.
type Item struct {
	Mailbox string // levels separated by "/"
	Name    string // where it came from, for reports: file, or file and position
	Flags   []string
	Date    time.Time // of arrival; zero: not known

	// Of a message that is written: they make its file's name.
	UIDValidity uint32
	UID         uint32
	Size        int64
}

// Take receives the messages that are read. r is valid until it returns, and nil when the message
// can't be read for the reason in err; the rest goes on.
type Take func(it Item, r io.Reader, err error) error

// ErrUnknown is given for a path that holds no mail in a format that is known.
var ErrUnknown = errors.New("holds no mail in a known format: no mbox file, no Maildir, no .eml files")

// maxHeader bounds what is read ahead of a message to find its flags.
const maxHeader = 1 << 20
