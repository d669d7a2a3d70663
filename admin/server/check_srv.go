package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// clientServices are the services that clients look up in DNS (RFC 6186, RFC 8314), with the
// listener that answers and its place in the order of preference.
var clientServices = []struct {
	srv, listener string
	priority      int
}{
	{"_submission._tcp", "submission", 0}, {"_submissions._tcp", "smtps", 0},
	{"_imaps._tcp", "imaps", 0}, {"_imap._tcp", "imap", 10}, {"_pop3s._tcp", "pop3s", 20}, {"_pop3._tcp", "pop3", 30},
}

// clientRecords compares the records by which mail clients find a domain's settings with what is
// offered (R2.51).
func (s *Server) clientRecords(ctx context.Context, f *findings, domain string) {
	set := s.mail.State.Current()
	r, remedy := s.resolver(), "mpctl domain dns-records "+domain
	want := map[string]string{} // name → port and host
	for _, rec := range dnsRecords(set, domain, nil) {
		if rec.Type == "SRV" {
			want[rec.Name] = rec.Value
		}
	}
	var missing, right []string
	for _, c := range append(clientServices, struct {
		srv, listener string
		priority      int
	}{srv: "_autodiscover._tcp"}) {
		name := c.srv + "." + domain
		got, err := r.service(ctx, name)
		switch {
		case err != nil && !errors.Is(err, errNXDomain):
			f.add("warning", "dns", name, "mpctl config set network.resolvers=ADDRESS", "can't be looked up: %v", err)
			return
		case want[name] == "" && got != "":
			f.add("warning", "dns", name, "take the record out of the zone, or mpctl service show", "leads clients to %s, which is not offered", got)
		case want[name] == "":
		case got == "":
			missing = append(missing, c.srv)
		case !strings.EqualFold(got, strings.TrimPrefix(want[name], "0 ")):
			f.add("error", "dns", name, remedy, "leads clients to %s instead of %s", got, strings.TrimPrefix(want[name], "0 "))
		default:
			right = append(right, c.srv)
		}
	}
	if len(missing) > 0 {
		f.add("info", "dns", domain, remedy, "mail clients must be set up by hand: no SRV record for %s", strings.Join(missing, ", "))
	}
	if len(right) > 0 {
		f.add("ok", "dns", domain, "", "SRV records of %s lead mail clients here", strings.Join(right, ", "))
	}
}

// service gives port and host of a name's SRV record, the most preferred one; empty when there is
// none, or one that says that the service is not offered (RFC 2782: target ".").
func (r resolver) service(ctx context.Context, name string) (string, error) {
	rrs, err := r.ask(ctx, name, dns.TypeSRV)
	var best *dns.SRV
	for _, rr := range rrs {
		if srv, ok := rr.(*dns.SRV); ok && (best == nil || srv.Priority < best.Priority) {
			best = srv
		}
	}
	if best == nil || best.Target == "." {
		return "", err
	}
	return fmt.Sprintf("%d %s", best.Port, strings.ToLower(best.Target)), err
}
