package mail

import (
	"crypto/x509"
	"fmt"
	"net/netip"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// RelaySecret is what the password at the relay host is sealed for.
const RelaySecret = "relay.password"

// RuleSecret is what the password of a relay rule is sealed for.
func RuleSecret(name string) string { return "relay rule " + name }

// route gives the way of a queued recipient: the relay host or rule that the settings name, the own
// server of a relay domain, or nil, the servers of the recipient's domain. It is asked again for
// each attempt, so a change of the settings acts on what waits.
func (s *Server) route(msg *model.QueueMessage, r *model.QueueRcpt) *remote.Route {
	pic, err := s.Directory.Now()
	if err != nil {
		return &remote.Route{Wait: fmt.Sprintf("the directory can't be read: %v", err)}
	}
	if pic.Relayed[r.Domain] { // R7.104: it must reach its own server, whatever the others' way is
		return &remote.Route{Host: r.Domain, Both: true}
	}
	switch set := s.State.Current().Relay; set.Mode {
	case model.RelaySingle:
		out := &remote.Route{Host: set.Host, Port: set.Port, TLS: set.TLS, Verify: set.Verify, Remedy: trustRemedy(set.Host, "mpctl relay set")}
		if set.Auth {
			out.User = set.User
			s.unseal(out, RelaySecret, set.Password, "mpctl relay set --password-file FILE")
		}
		return out
	case model.RelayMulti:
		if rule := pic.Relay(msg.From, r.Address); rule != nil {
			out := &remote.Route{Host: rule.Host, Port: rule.Port, TLS: rule.TLS, User: rule.User, Verify: rule.Verify, Remedy: trustRemedy(rule.Host, "mpctl relay rule set '"+rule.Name+"'")}
			s.unseal(out, RuleSecret(rule.Name), rule.Password, "mpctl relay rule set '"+rule.Name+"' --password-file FILE")
			return out
		}
	}
	return nil
}

// trustRemedy says how a relay whose certificate is refused can be used all the same.
func trustRemedy(host, set string) string {
	return "trust who signed its certificate (mpctl delivery tls ca add NAME --cert FILE) or the name that it has (mpctl delivery tls set " + host + " --level verify --name NAME), or don't verify it (" + set + " --verify off)"
}

// tlsPolicy gives what the administrator demands of connections to a destination.
func (s *Server) tlsPolicy(domain string) *remote.TLSPolicy {
	pic, err := s.Directory.Now()
	if err != nil { // better late than in clear
		return &remote.TLSPolicy{Domain: domain, Level: remote.LevelVerify}
	}
	p := pic.TLSPolicy(domain)
	if p == nil {
		return nil
	}
	return &remote.TLSPolicy{Domain: p.Domain, Level: p.Level, Names: p.Name, Pins: p.Fingerprint}
}

// roots are trusted to sign other servers' certificates; nil: those of the system only.
func (s *Server) roots() *x509.CertPool {
	pic, err := s.Directory.Now()
	if err != nil {
		return nil
	}
	return pic.Roots
}

// Validates tells whether a DNS server is believed when it says that it has checked DNSSEC.
func Validates(set *model.Settings, server string) bool {
	switch set.Network.DNSSEC {
	case "all":
		return true
	case "loopback":
		ap, err := netip.ParseAddrPort(server)
		return err == nil && ap.Addr().Unmap().IsLoopback()
	}
	return false
}

// unseal gives a route its password, or the reason why mail can't take it.
func (s *Server) unseal(r *remote.Route, use, sealed, remedy string) {
	var err error
	if r.Password, err = s.Vault.Unseal(use, sealed); err != nil {
		r.Wait = fmt.Sprintf("the password at %s can't be read: %v; set it again: %s", r.Host, err, remedy)
	}
}

// isSelf tells whether a mail server that DNS names is this one: by its name, an address of a
// listener, or one by which the Internet sees it.
func (s *Server) isSelf(host string, addr netip.Addr) bool {
	set := s.State.Current()
	if host == set.System.Hostname || s.ours(netip.AddrPortFrom(addr, uint16(set.Queue.Port))) {
		return true
	}
	for _, a := range set.Network.PublicIP {
		if own, err := netip.ParseAddr(a); err == nil && own.Unmap() == addr.Unmap() {
			return true
		}
	}
	return false
}
