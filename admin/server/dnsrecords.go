package server

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/mail/model"
)

// publicAddresses are the addresses by which the Internet sees this server, as far as is known.
func (s *Server) publicAddresses(given []string) ([]netip.Addr, error) {
	if len(given) == 0 {
		given = s.mail.State.Current().Network.PublicIP
	}
	var out []netip.Addr
	for _, g := range given {
		ip, err := netip.ParseAddr(g)
		if err != nil {
			return nil, model.Invalid("address", "%q is no IP address", g)
		}
		out = append(out, ip)
	}
	if len(out) > 0 {
		return out, nil
	}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			out = append(out, p.Addr())
		}
	}
	return out, err
}

func (s *Server) domainDNSRecords(_ context.Context, c *Call, in *api.DNSRecordsIn) ([]api.RecordRow, error) {
	d, err := getDomain(s.mail.State, in.Name)
	if err != nil {
		return nil, err
	}
	ips, err := s.publicAddresses(in.Address)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		if ip.IsPrivate() {
			c.Warn("%s is a private address: behind NAT give the public one with --address", ip)
		}
	}
	keys, err := getDKIM(s.mail.State, d.Name)
	if err != nil {
		return nil, err
	}
	if len(keys.Signing()) == 0 {
		c.Warn("outgoing mail of %s is not signed: mpctl domain dkim enable %s", d.Name, d.Name)
	}
	out, set, name := []api.RecordRow{}, s.mail.State.Current(), asciiDomain(in.Name)
	list := slices.Concat(dnsRecords(set, name, ips), s.keyRecords(keys, name), stsRecords(d, name, set.System.Hostname))
	if in.TLSA {
		list = append(list, s.tlsaRecords(c)...)
	}
	for _, r := range list {
		out = append(out, api.RecordRow(r))
	}
	sort.SliceStable(out, func(i, j int) bool { return typeOrder[out[i].Type] < typeOrder[out[j].Type] })
	return out, nil
}

// Times to live of the reference zone (R2.41): an address is what one may have to change in a hurry.
const addressTTL = 600

// Record is one DNS record to publish.
type Record struct {
	Type     string `json:"type"`
	Name     string `json:"name"`
	Value    string `json:"value"`
	Priority int    `json:"priority,omitempty"`
	TTL      int    `json:"ttl"`
}

// dnsRecords is the complete set for a domain (R2.14, R2.41): address, MX, SPF, and SRV records for clients (RFC 6186).
func dnsRecords(set *model.Settings, name string, public []netip.Addr) []Record {
	host := set.System.Hostname
	var out []Record
	for _, ip := range public {
		kind := "A"
		if ip.Is6() && !ip.Is4In6() {
			kind = "AAAA"
		}
		out = append(out, Record{Type: kind, Name: host, Value: ip.Unmap().String(), TTL: addressTTL})
	}
	out = append(out,
		Record{Type: "MX", Name: name, Value: host, Priority: 0, TTL: 3600},
		Record{Type: "TXT", Name: name, Value: "v=spf1 mx -all", TTL: 3600},
	)
	ports := set.Services.Ports()
	for _, s := range clientServices {
		if port, on := ports[s.listener]; on {
			out = append(out, Record{Type: "SRV", Name: s.srv + "." + name, Value: srvValue(port, host), Priority: s.priority, TTL: 3600})
		}
	}
	if port, on := ports["autoconfig"]; on {
		for _, prefix := range []string{"autoconfig.", "autodiscover."} { // where clients look that don't ask for SRV
			out = append(out, Record{Type: "CNAME", Name: prefix + name, Value: host, TTL: 3600})
		}
		out = append(out, Record{Type: "SRV", Name: "_autodiscover._tcp." + name, Value: srvValue(port, host), TTL: 3600})
	}
	return out
}

// keyRecords publish the keys of signatures (R8.32, R8.33): of those that sign, that are going to, and
// of old ones as long as mail that they have signed may be on its way.
func (s *Server) keyRecords(d *model.DKIM, name string) (out []Record) {
	for i := range d.Keys {
		k := &d.Keys[i]
		if is, _ := s.dkimState(d, k); is != "done" {
			out = append(out, Record{Type: "TXT", Name: model.DKIMRecordName(k.Selector, name), Value: k.Record(), TTL: 3600})
		}
	}
	return out
}

// stsRecords announce the domain's MTA-STS policy (RFC 8461 §3.1) and who hears of TLS (RFC 8460 §3).
func stsRecords(d *model.Domain, name, host string) (out []Record) {
	if _, id := d.STSPolicy(host); id != "" {
		out = append(out,
			Record{Type: "TXT", Name: "_mta-sts." + name, Value: "v=STSv1; id=" + id + ";", TTL: 3600},
			Record{Type: "CNAME", Name: "mta-sts." + name, Value: host, TTL: 3600},
		)
	}
	if len(d.STS.ReportTo) > 0 {
		out = append(out, Record{Type: "TXT", Name: "_smtp._tls." + name, Value: "v=TLSRPTv1; rua=mailto:" + strings.Join(d.STS.ReportTo, ",mailto:"), TTL: 3600})
	}
	return out
}

var typeOrder = map[string]int{"A": 0, "AAAA": 1, "MX": 2, "TXT": 3, "TLSA": 4, "CNAME": 5, "SRV": 6}
