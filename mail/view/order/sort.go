package order

import (
	"cmp"
	"slices"
	"strings"
)

// Item is what SORT and THREAD need of a message. Texts are collated.
type Item struct {
	Index       int   // of the message in its view: the order of those that are equal
	Arrival     int64 // INTERNALDATE
	Sent        int64 // the Date field in UTC, else Arrival
	Size        int64
	Subject     string // base subject
	Reply       bool   // the subject is that of a reply or of something forwarded
	From        string // local part of the first address
	To          string
	Cc          string
	DisplayFrom string // display name, else the address
	DisplayTo   string
	ID          string   // Message-ID without brackets
	References  []string // the same, oldest first
}

// By is what SORT sorts by.
type By uint8

// The sort keys of RFC 5256 §3 and RFC 5957.
const (
	ByArrival By = iota
	ByCc
	ByDate
	ByFrom
	BySize
	BySubject
	ByTo
	ByDisplayFrom
	ByDisplayTo
)

// Key is one key of a sort.
type Key struct {
	By      By
	Reverse bool
}

// Sort orders items by the keys, then by their place in the mailbox.
func Sort(items []Item, keys []Key) {
	slices.SortFunc(items, func(a, b Item) int {
		for _, k := range keys {
			if c := k.compare(&a, &b); c != 0 {
				if k.Reverse {
					return -c
				}
				return c
			}
		}
		return cmp.Compare(a.Index, b.Index)
	})
}

func (k Key) compare(a, b *Item) int {
	switch k.By {
	case ByArrival:
		return cmp.Compare(a.Arrival, b.Arrival)
	case ByCc:
		return strings.Compare(a.Cc, b.Cc)
	case ByDate:
		return cmp.Compare(a.Sent, b.Sent)
	case ByFrom:
		return strings.Compare(a.From, b.From)
	case BySize:
		return cmp.Compare(a.Size, b.Size)
	case BySubject:
		return strings.Compare(a.Subject, b.Subject)
	case ByTo:
		return strings.Compare(a.To, b.To)
	case ByDisplayFrom:
		return strings.Compare(a.DisplayFrom, b.DisplayFrom)
	default:
		return strings.Compare(a.DisplayTo, b.DisplayTo)
	}
}
