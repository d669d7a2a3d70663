package model

import "strconv"

// Subscription is a subscribed name without a mailbox: its mailbox was deleted, and only the client
// may take the name off the list (RFC 3501 §6.3.6). A mailbox that is there keeps its own mark.
type Subscription struct {
	Account AccountID `cbor:"account" json:"account"`
	Name    string    `cbor:"name" json:"name"`
}

// MaxSubscriptions bounds the names of an account that are subscribed and have no mailbox.
const MaxSubscriptions = MaxMailboxes

// SubscriptionsOf is what the keys of an account's subscriptions begin with.
func SubscriptionsOf(account AccountID) string { return strconv.FormatUint(uint64(account), 10) + "/" }

// Key is under which a subscription is stored.
func (s *Subscription) Key() string { return SubscriptionsOf(s.Account) + s.Name }
