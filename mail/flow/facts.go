package flow

import (
	"net/netip"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

// Facts are what the chain needs to know of a message's header and structure.
type Facts struct {
	MessageID string // with angle brackets, empty when missing
	Subject   string // decoded
	HasDate   bool
	HasFrom   bool
	Author    message.Address // the first address in From; zero: there is none, or more than one From
	Hops      int             // Received fields (RFC 5321 §6.3)
	TooDeep   string          // why the structure passes a limit; empty: it doesn't
	Header    message.Header
}

// MessageLimits are those within which messages are read.
func MessageLimits(set *model.Settings) message.Limits {
	return message.Limits{MaxHeaderBytes: set.Delivery.MaxHeaderKB << 10, MaxParts: set.Delivery.MaxParts, MaxDepth: set.Delivery.MaxDepth}
}

// Inspect reads a message's facts within the limits of the settings.
func Inspect(raw []byte, set *model.Settings) Facts {
	t := message.Walk(raw, MessageLimits(set))
	h := &t.Root.Header
	f := Facts{
		MessageID: h.Get("Message-ID"), Subject: message.Decode(h.Get("Subject")), HasDate: h.Has("Date"), HasFrom: h.Has("From"),
		Hops: h.Count("Received"), TooDeep: t.Limit, Header: *h,
	}
	if h.Count("From") == 1 {
		f.Author = author(h.Get("From"))
	}
	if h.Truncated {
		f.TooDeep = "it has more header fields than allowed"
	}
	return f
}

// author is the first mailbox of a From field.
func author(from string) message.Address {
	for _, m := range message.ParseAddresses(from) {
		if m.IsGroup || m.Host == "" {
			continue
		}
		a, err := message.ParseMailbox(message.Address{Local: m.Local, Domain: m.Host}.String(), true)
		if err != nil {
			break
		}
		return a
	}
	return message.Address{}
}

// InNetworks tells whether an address is in one of the networks of a setting.
func InNetworks(ip netip.Addr, networks []string) bool {
	ip = ip.Unmap()
	for _, n := range networks {
		if p, err := model.ParsePrefix(n); err == nil && p.Contains(ip) {
			return true
		}
	}
	return false
}

// IsNear tells whether an address is this machine's own.
func IsNear(ip netip.Addr) bool { return ip.Unmap().IsLoopback() }
