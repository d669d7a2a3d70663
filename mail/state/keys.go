package state

import (
	"encoding/binary"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// The first octet of a key says what it holds. Never reuse a letter.
const (
	spaceMeta    = 'a' // a<name>                     applied index, format, epoch, counters
	spaceRow     = 't' // t<table><key>               version(8) CBOR
	spaceIndex   = 'i' // i<table><index><value>\0<key>
	spaceTableV  = 'v' // v<table>                    version(8) of the last change in the table
	spaceMailbox = 'B' // B<mailbox 8>                CBOR model.Mailbox
	spaceName    = 'N' // N<account 8><name>          mailbox(8)
	spaceMessage = 'M' // M<mailbox 8><uid 4>         message state, encodeMessage
	spaceMeta2   = 'E' // E<mailbox 8><uid 4>         parsed headers (opaque here)
	spaceChange  = 'C' // C<mailbox 8><modseq 8><uid 4>  'c' changed, 'x' expunged
	spaceRef     = 'R' // R<body 32>                  count(8) since(8), refMerger
	spaceUnref   = 'Z' // Z<unix seconds 8><body 32>  body without references since
	spaceQueue   = 'Q' // Q<queue 8>                  CBOR model.QueueMessage
	spaceRcpt    = 'q' // q<queue 8><n 4>             CBOR model.QueueRcpt
	spaceDue     = 'D' // D<unix nanoseconds 8><queue 8><n 4>  next attempt
	spaceOp      = 'O' // O<generation 4><op id 16>   result of an entry that may be proposed twice
	spaceCounter = 'K' // K<name>                     count(8)
	spaceJournal = 'J' // J<generation 4><kind><…>    what changed since the nodes were last in sync, see journal.go
	spaceMerge   = 'U' // U<branch 18><kind><…>       what a merge has done, until it is complete
	spaceKept    = 'X' // X<mailbox 8><uid 4>         expunged message that can be given back, see kept.go
	spaceExpiry  = 'W' // W<unix seconds 8><mailbox 8><uid 4>  when it was expunged; uid 0: the whole mailbox
	spaceGone    = 'G' // G<mailbox 8>                CBOR GoneMailbox; its messages stay under M and E
	spaceGoneOf  = 'g' // g<account 8><mailbox 8>     deleted mailboxes of an account
	spaceReplied = 'r' // r<account 8><sender 16>     when the sender got the account's automatic reply: time(8), see reply.go
	spaceUsage   = 's' // s<account 8>                what the account has sent on a day: day(4) messages(8) octets(8), see usage.go
	spaceStarted = 'L' // L<queue 8><n 4>             a delivery attempt that is under way: node(2) time(8)
)

var (
	keyApplied     = []byte("aapplied")
	keyFormat      = []byte("aformat")
	keyRegime      = []byte("aregime")
	keyOnce        = []byte("aonce")
	keyNextMailbox = []byte("anextmailbox")
	keyNextQueue   = []byte("anextqueue")
)

func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }
func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func mailboxKey(id model.MailboxID) []byte {
	return be64(append(make([]byte, 0, 9), spaceMailbox), uint64(id))
}

func nameKey(account model.AccountID, name string) []byte {
	return append(be64(append(make([]byte, 0, 9+len(name)), spaceName), uint64(account)), name...)
}

func messageKey(id model.MailboxID, uid model.UID) []byte {
	return be32(be64(append(make([]byte, 0, 13), spaceMessage), uint64(id)), uint32(uid))
}

func metaKey(id model.MailboxID, uid model.UID) []byte {
	return be32(be64(append(make([]byte, 0, 13), spaceMeta2), uint64(id)), uint32(uid))
}

func changeKey(id model.MailboxID, modseq uint64, uid model.UID) []byte {
	return be32(be64(be64(append(make([]byte, 0, 21), spaceChange), uint64(id)), modseq), uint32(uid))
}

func refKey(body model.BodyID) []byte {
	return append(append(make([]byte, 0, 33), spaceRef), body[:]...)
}

func unrefKey(at int64, body model.BodyID) []byte {
	return append(be64(append(make([]byte, 0, 41), spaceUnref), uint64(at)), body[:]...)
}

func queueKey(id model.QueueID) []byte {
	return be64(append(make([]byte, 0, 9), spaceQueue), uint64(id))
}

func rcptKey(id model.QueueID, n uint32) []byte {
	return be32(be64(append(make([]byte, 0, 13), spaceRcpt), uint64(id)), n)
}

func dueKey(at int64, id model.QueueID, n uint32) []byte {
	return be32(be64(be64(append(make([]byte, 0, 21), spaceDue), uint64(at)), uint64(id)), n)
}

func counterKey(name string) []byte {
	return append(append(make([]byte, 0, 1+len(name)), spaceCounter), name...)
}

// after is the first key behind all that start with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// rangeOf bounds an iterator to the keys that start with prefix.
func rangeOf(prefix []byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
}
