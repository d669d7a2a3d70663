package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote/dane"
	"mailplusd/mail/state"

	"github.com/miekg/dns"
)

// tlsaName is where other servers look for this one's TLSA records: MX leads to port 25.
func tlsaName(host string) string { return "_25._tcp." + host }

// tlsaRecords vouch for the keys of the certificates that other servers are shown (RFC 7672 §3.1.1).
func (s *Server) tlsaRecords(c *Call) (out []Record) {
	host := s.mail.State.Current().System.Hostname
	for _, chain := range s.mail.Keyring.Chains(host) {
		sum := sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)
		r := dane.Record{Usage: dane.UsageEE, Selector: dane.SelectorSPKI, Match: dane.MatchSHA256, Data: sum[:]}
		out = append(out, Record{Type: "TLSA", Name: tlsaName(asciiDomain(host)), Value: r.String(), TTL: addressTTL})
	}
	if len(out) == 0 {
		c.Warn("there is no certificate for %s: mpctl cert list", host)
		return nil
	}
	c.Warn("TLSA records count where the zones of the domain and of %s are signed (DNSSEC); then mail from others stops when the key changes and the records do not: publish new ones first", host)
	if name := s.changingKey(host); name != "" {
		c.Warn("certificate %s gets a new key whenever it is renewed: mpctl cert acme set --keep-key on", name)
	}
	return out
}

// changingKey names the certificate for a host whose key the next renewal changes; empty: there is none.
func (s *Server) changingKey(host string) string {
	name := s.mail.Keyring.Serves(host)
	c, err := state.Certificates.Get(s.mail.State, name)
	if err != nil || c.Source != model.CertACME || s.mail.State.Current().Certs.ACME.KeepKey {
		return ""
	}
	return name
}

// daneFound compares this server's TLSA records, where it has some, with the certificates that it
// shows: others that obey DANE send it nothing if they differ.
func (s *Server) daneFound(ctx context.Context, f *findings) {
	host := s.mail.State.Current().System.Hostname
	name := tlsaName(asciiDomain(host))
	rrs, err := s.resolver().ask(ctx, name, dns.TypeTLSA)
	if err != nil && !errors.Is(err, errNXDomain) {
		f.add("warning", "dns", name, "", "the TLSA records can't be looked up: %v; if others can't either, those that obey DANE send nothing", err)
		return
	}
	list := dane.FromAnswer(rrs)
	if len(list) == 0 {
		return
	}
	remedy := "mpctl domain dns-records " + s.mail.State.Current().System.Domain + " --tlsa"
	usable := dane.Usable(list)
	if len(usable) == 0 {
		f.add("warning", "dns", name, remedy, "no TLSA record is one that mail servers use")
		return
	}
	now := time.Now()
	for _, chain := range s.mail.Keyring.Chains(host) {
		err := dane.Verify(usable, chain, func(c *x509.Certificate) bool { return c.VerifyHostname(host) == nil }, now)
		if err != nil {
			f.add("error", "dns", name, remedy, "%v: mail from servers that obey DANE does not come", err)
			return
		}
	}
	if cert := s.changingKey(host); cert != "" {
		f.add("warning", "dns", name, "mpctl cert acme set --keep-key on", "the TLSA records are those of the certificate that is served, and the renewal of %s changes its key", cert)
		return
	}
	f.add("ok", "dns", name, "", "the TLSA records are those of the certificate that is served")
}
