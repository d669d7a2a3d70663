package ldap

import (
	"context"
	"errors"
	"fmt"

	goldap "github.com/go-ldap/ldap/v3"
)

// refusals are the answers to a bind that say that this name and password don't go together, or
// that the account may not log in (RFC 4513 §5.1, RFC 4511 appendix A).
var refusals = []uint16{
	goldap.LDAPResultInvalidCredentials, goldap.LDAPResultNoSuchObject, goldap.LDAPResultInvalidDNSyntax,
	goldap.LDAPResultInappropriateAuthentication, goldap.LDAPResultConstraintViolation, goldap.LDAPResultUnwillingToPerform,
}

// Who is a user as he was seen last.
type Who struct {
	DN, Name string
	GUID     string // of Active Directory
}

// Verdict is what a directory says to a password.
type Verdict struct {
	Right bool
	Why   string // why not, as far as it tells; for the administrator's eyes only
}

// CheckPassword tells whether a password is that of a user. If he isn't any more where he was last
// seen he is looked for, by his name or GUID. An empty password is never right: a bind with one succeeds
// and proves nothing (RFC 4513 §5.1.2). Errors: ErrUnavailable.
func (c *Client) CheckPassword(ctx context.Context, who Who, password []byte) (Verdict, error) {
	if len(password) == 0 || len(password) > maxPassword || who.DN == "" {
		return Verdict{}, nil
	}
	if c.conf.AD() {
		return c.checkAD(ctx, who, password)
	}
	v, err := c.bindAs(ctx, who.DN, password)
	if v.Right || err != nil {
		return v, err
	}
	now, err := c.find(ctx, who.Name)
	if err != nil || now == "" || DNKey(now) == DNKey(who.DN) {
		return v, err
	}
	return c.bindAs(ctx, now, password)
}

func (c *Client) bindAs(ctx context.Context, dn string, password []byte) (Verdict, error) {
	s, err := c.connect(ctx, maxLogin, false)
	if err != nil {
		return Verdict{}, err
	}
	defer s.close()
	return s.try(dn, password)
}

// try logs in with a password.
func (s *session) try(dn string, password []byte) (Verdict, error) {
	s.extend()
	err := s.Bind(dn, string(password))
	if err == nil {
		return Verdict{Right: true}, nil
	}
	if goldap.IsErrorAnyOf(err, refusals...) {
		return Verdict{Why: reason(err)}, nil
	}
	return Verdict{}, unavailable("%s: %w", s.uri, err)
}

// find looks for the user with a name; empty when there is none, or not one alone.
func (c *Client) find(ctx context.Context, name string) (dn string, err error) {
	s, err := c.connect(ctx, maxLogin, true)
	if err != nil {
		return "", err
	}
	defer s.close()
	return s.one(c.search(c.conf.BaseDN, c.userFilter(name), "1.1"))
}

// one gives the DN of the only entry that a search finds; empty when there is none, or not one alone.
func (s *session) one(req *goldap.SearchRequest) (dn string, err error) {
	req.SizeLimit = 2
	s.extend()
	res, err := s.Search(req)
	switch {
	case goldap.IsErrorAnyOf(err, goldap.LDAPResultNoSuchObject, goldap.LDAPResultSizeLimitExceeded):
		return "", nil
	case err != nil:
		return "", unavailable("%s: %w", s.uri, err)
	case len(res.Entries) != 1:
		return "", nil
	}
	return res.Entries[0].DN, nil
}

// userFilter finds the user with a name, whatever the name has in it.
func (c *Client) userFilter(name string) string {
	return fmt.Sprintf("(&%s(%s=%s))", c.conf.UserFilter, c.conf.NameAttr, goldap.EscapeFilter(name))
}

// Nobody is a user who isn't there, to ask for when there is no account: the answer takes as long.
func (c *Client) Nobody() Who {
	const nobody = "nobody is here"
	attr := c.conf.NameAttr
	if c.conf.AD() {
		attr = "CN"
	}
	return Who{DN: fmt.Sprintf("%s=%s,%s", attr, nobody, c.conf.BaseDN), Name: nobody, GUID: "00000000000000000000000000000000"}
}

// Probe is what a test finds at one server.
type Probe struct {
	URI string
	TLS bool
	Err error
}

// Probe connects to every server and logs in there. It gives one or more.
func (c *Client) Probe(ctx context.Context) []Probe {
	uris, err := c.Servers(ctx)
	if err != nil {
		return []Probe{{URI: "DNS", Err: err}}
	}
	out := make([]Probe, 0, len(uris))
	for _, uri := range uris {
		p := Probe{URI: uri}
		s, err := c.open(ctx, uri, maxLogin)
		if err == nil {
			_, p.TLS = s.TLSConnectionState()
			if err = c.bindService(s); err == nil {
				err = c.baseExists(s)
			}
			s.close()
		}
		p.Err = err
		out = append(out, p)
	}
	return out
}

func (c *Client) baseExists(s *session) error {
	req := goldap.NewSearchRequest(c.conf.BaseDN, goldap.ScopeBaseObject, goldap.NeverDerefAliases, 1, c.conf.TimeoutSec, false, "(objectClass=*)", []string{"1.1"}, nil)
	s.extend()
	res, err := s.Search(req)
	if err != nil {
		return fmt.Errorf("%s: %w", c.conf.BaseDN, err)
	}
	if len(res.Entries) == 0 {
		return errors.New(c.conf.BaseDN + " is not there, or not to be seen by this login")
	}
	return nil
}
