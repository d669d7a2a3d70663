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

// CheckPassword tells whether a password is that of a user. dn is where he was last seen; if he
// isn't there any more he is looked for by his name. An empty password is never right: a bind
// with one succeeds and proves nothing (RFC 4513 §5.1.2). Errors: ErrUnavailable.
func (c *Client) CheckPassword(ctx context.Context, dn, name string, password []byte) (bool, error) {
	if len(password) == 0 || len(password) > maxPassword || dn == "" {
		return false, nil
	}
	ok, err := c.bindAs(ctx, dn, password)
	if ok || err != nil {
		return ok, err
	}
	now, err := c.find(ctx, name)
	if err != nil || now == "" || DNKey(now) == DNKey(dn) {
		return false, err
	}
	return c.bindAs(ctx, now, password)
}

func (c *Client) bindAs(ctx context.Context, dn string, password []byte) (bool, error) {
	s, err := c.connect(ctx, maxLogin, false)
	if err != nil {
		return false, err
	}
	defer s.close()
	s.extend()
	err = s.Bind(dn, string(password))
	if err == nil {
		return true, nil
	}
	if goldap.IsErrorAnyOf(err, refusals...) {
		return false, nil
	}
	return false, unavailable("%s: %w", s.uri, err)
}

// find looks for the user with a name; empty when there is none, or not one alone.
func (c *Client) find(ctx context.Context, name string) (dn string, err error) {
	s, err := c.connect(ctx, maxLogin, true)
	if err != nil {
		return "", err
	}
	defer s.close()
	req := c.search(c.userFilter(name), "1.1")
	req.SizeLimit = 2
	s.extend()
	res, err := s.Search(req)
	switch {
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject), goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded):
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

// Nobody is the DN and name of no user, to ask for when there is no account: the answer takes as long.
func (c *Client) Nobody() (dn, name string) {
	const nobody = "nobody is here"
	return fmt.Sprintf("%s=%s,%s", c.conf.NameAttr, nobody, c.conf.BaseDN), nobody
}

// Probe is what a test finds at one server.
type Probe struct {
	URI string
	TLS bool
	Err error
}

// Probe connects to every server and logs in there.
func (c *Client) Probe(ctx context.Context) []Probe {
	out := make([]Probe, 0, len(c.conf.URIs))
	for _, uri := range c.conf.URIs {
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
