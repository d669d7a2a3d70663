package server

import (
	"net/netip"
	"sort"

	"mailplusd/mail/model"
)

// Record is one DNS record to publish.
type Record struct {
	Type     string `json:"type"`
	Name     string `json:"name"`
	Value    string `json:"value"`
	Priority int    `json:"priority,omitempty"`
	TTL      int    `json:"ttl"`
}

// dnsRecords is the complete set for a domain (R2.14, R2.41): address, MX, SPF, and SRV records for clients (RFC 6186).
func dnsRecords(set *model.Settings, d *model.Domain, name string, public []netip.Addr) []Record {
	host := set.System.Hostname
	var out []Record
	for _, ip := range public {
		kind := "A"
		if ip.Is6() && !ip.Is4In6() {
			kind = "AAAA"
		}
		out = append(out, Record{Type: kind, Name: host, Value: ip.Unmap().String(), TTL: 3600})
	}
	out = append(out,
		Record{Type: "MX", Name: name, Value: host, Priority: 0, TTL: 3600},
		Record{Type: "TXT", Name: name, Value: "v=spf1 mx -all", TTL: 3600},
	)
	ports := set.Services.Ports()
	for _, s := range []struct {
		srv, listener string
		priority      int
	}{
		{"_submission._tcp", "submission", 0}, {"_submissions._tcp", "smtps", 0},
		{"_imaps._tcp", "imaps", 0}, {"_imap._tcp", "imap", 10}, {"_pop3s._tcp", "pop3s", 20}, {"_pop3._tcp", "pop3", 30},
	} {
		if port, on := ports[s.listener]; on {
			out = append(out, Record{Type: "SRV", Name: s.srv + "." + name, Value: srvValue(port, host), Priority: s.priority, TTL: 3600})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return typeOrder[out[i].Type] < typeOrder[out[j].Type] })
	return out
}

var typeOrder = map[string]int{"A": 0, "AAAA": 1, "MX": 2, "TXT": 3, "SRV": 4}
