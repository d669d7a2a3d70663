package mail

import (
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
		out := &remote.Route{Host: set.Host, Port: set.Port, TLS: set.TLS}
		if set.Auth {
			out.User = set.User
			s.unseal(out, RelaySecret, set.Password, "mpctl relay set --password-file FILE")
		}
		return out
	case model.RelayMulti:
		if rule := pic.Relay(msg.From, r.Address); rule != nil {
			out := &remote.Route{Host: rule.Host, Port: rule.Port, TLS: rule.TLS, User: rule.User}
			s.unseal(out, RuleSecret(rule.Name), rule.Password, "mpctl relay rule set '"+rule.Name+"' --password-file FILE")
			return out
		}
	}
	return nil
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
