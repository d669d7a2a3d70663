package mail

import (
	"net/netip"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
)

// limit puts into a credential what a policy doesn't allow (R5.84–R5.97).
func limit(c *login.Credential, p *model.Policy) {
	c.Policy = p.Name
	for _, v := range []struct {
		service     login.Service
		on, lanOnly bool
	}{{login.IMAP, p.IMAP, p.IMAPLANOnly}, {login.POP3, p.POP3, p.POP3LANOnly}} {
		switch {
		case !v.on:
			c.PolicyDenied = append(c.PolicyDenied, v.service)
		case v.lanOnly:
			c.LANOnly = append(c.LANOnly, v.service)
		}
	}
}

// isInside tells whether a client is of the local network or is this machine itself, such as a
// webmail program that runs on it (R5.90, R5.97).
func (s *Server) isInside(ip netip.Addr) bool { return s.IsLocal(ip) || isInterface(ip) }
