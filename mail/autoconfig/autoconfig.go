// Package autoconfig tells mail clients how to set themselves up from an email address: the XML
// that Thunderbird and its kin fetch, the Autodiscover answer of Outlook, and a profile for Apple
// Mail. Nothing depends on who asks or on whether the address exists: the same settings hold for
// every address of a domain, so there is nothing to find out about accounts.
package autoconfig

import (
	"strings"

	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

// How a service is protected.
const (
	Implicit = "SSL"      // TLS from the first octet (RFC 8314 §3)
	StartTLS = "STARTTLS" //
	Clear    = "plain"
)

// Service is a way to read or send mail, the better ones first.
type Service struct {
	Name     string // of the listener: imaps, imap, pop3s, pop3, smtps, submission
	Kind     string // imap, pop3 or smtp
	Host     string
	Port     int
	Security string // Implicit, StartTLS or Clear
}

// Services lists what the settings offer to mail clients. SMTP on port 25 is for servers and not
// among it; nor is a service whose password would cross the network in clear where that is refused.
func Services(set *model.Settings) []Service {
	v, host := &set.Services, set.System.Hostname
	var out []Service
	add := func(on bool, name, kind string, port int, security string) {
		if on {
			out = append(out, Service{Name: name, Kind: kind, Host: host, Port: port, Security: security})
		}
	}
	for _, m := range []struct {
		kind string
		s    *model.MailboxService
	}{{"imap", &v.IMAP}, {"pop3", &v.POP3}} {
		add(m.s.Enabled && m.s.TLS, m.kind+"s", m.kind, m.s.TLSPort, Implicit)
		add(m.s.Enabled && m.s.TLS, m.kind, m.kind, m.s.Port, StartTLS)
		add(m.s.Enabled && !m.s.TLS && v.PlainLogin == "always", m.kind, m.kind, m.s.Port, Clear)
	}
	add(v.SMTPS.Enabled, "smtps", "smtp", v.SMTPS.Port, Implicit)
	add(v.Submission.Enabled, "submission", "smtp", v.Submission.Port, StartTLS)
	return out
}

// first gives the best service of a kind; nil when there is none.
func first(list []Service, kind string) *Service {
	for i := range list {
		if list[i].Kind == kind {
			return &list[i]
		}
	}
	return nil
}

// maxAddress bounds an email address in a request (RFC 5321 §4.5.3.1.3).
const maxAddress = 320

// domainOf finds the domain that a request is about: of the address, when there is one, or of the
// name under which the client found this server. Empty: none of ours.
func (s *Server) domainOf(address, host string) string {
	if address != "" {
		if len(address) > maxAddress {
			return ""
		}
		a, err := message.ParseMailbox(address, true)
		if err != nil {
			return ""
		}
		return s.ours(a.Domain)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == s.Settings().System.Hostname {
		return s.ours(s.Settings().System.Domain)
	}
	for _, prefix := range []string{"autoconfig.", "autodiscover."} {
		if rest, ok := strings.CutPrefix(host, prefix); ok {
			return s.ours(rest)
		}
	}
	return s.ours(host)
}

func (s *Server) ours(domain string) string {
	if domain = model.FoldDomain(domain); domain != "" && s.Hosts(domain) {
		return domain
	}
	return ""
}
