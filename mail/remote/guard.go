package remote

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailplusd/mail/remote/dane"
	"mailplusd/mail/remote/mtasts"
)

// Levels of a TLS policy.
const (
	LevelNone        = "none"        // never encrypted
	LevelMay         = "may"         // encrypted when the other side offers it, whoever it is
	LevelRequire     = "require"     // encrypted, whoever it is
	LevelVerify      = "verify"      // with a certificate that is trusted and has the right name
	LevelDANE        = "dane"        // with a certificate that TLSA records vouch for
	LevelFingerprint = "fingerprint" // with a certificate that is known
)

// How a delivery was protected, for people: what is in front of version and cipher.
const (
	Opportunistic = "opportunistic" // encrypted, to whoever it was
	Required      = "required"      // the same, and it would not have gone in clear
	Verified      = "verified"      // the certificate is trusted and has the right name
	Pinned        = "fingerprint"   // the certificate is the one that was given
	DANE          = "DANE"          // the certificate is the one that DNSSEC names
	MTASTS        = "MTA-STS"       // the certificate is trusted, the host is in the domain's policy
	Clear         = "none"
)

// TLSPolicy is what the administrator demands of connections to a destination.
type TLSPolicy struct {
	Domain string   // as it was given: a domain, .suffix or *
	Level  string   // one of Level…
	Names  []string // for verify: names of the certificate, of which one suffices; none: the domain and what is below it
	Pins   []string // for fingerprint: SHA-256 of the certificate or its public key, hex
}

// protection is what holds for all connections of a job.
type protection struct {
	domain string         // where the job goes
	mode   string         // as of a route
	route  *Route         // with TLS settings of its own; nil: a policy or the default holds
	row    *TLSPolicy     // the administrator's; nil: none
	sts    *mtasts.Policy // the domain's; nil: none
	stsErr error          // why there is none, or an old one
	dane   bool           // TLSA records count
	both   bool           // the host is found by all DNS servers together, so that DNSSEC vouches for nothing
}

// protect finds out what holds for a job.
func (c *Client) protect(ctx context.Context, j *Job) *protection {
	p := &protection{domain: j.Domain, mode: c.mode(j.Route)}
	if r := j.Route; r != nil {
		p.domain, p.both = strings.ToLower(r.Host), r.Both
	}
	if a, err := ascii(p.domain); err == nil { // as policies have it
		p.domain = a
	}
	if r := j.Route; r != nil && r.TLS != "" {
		p.route = r
		if c.Policy != nil {
			row := c.Policy(p.domain)
			if row != nil && row.Domain == p.domain && (r.Verify || row.Level == LevelDANE) { // of this very host
				p.row = row
			}
			if p.row != nil && row.Level == LevelDANE && p.mode != TLSWrapped {
				p.mode = TLSRequire // whoever asks for DANE there means it, whatever the relay's own setting
			}
		}
		return p
	}
	if c.Policy != nil {
		p.row = c.Policy(p.domain)
	}
	direct := j.Route == nil && !strings.HasPrefix(p.domain, "[")
	switch {
	case p.row != nil:
		p.dane = direct && p.row.Level == LevelDANE
		switch p.row.Level {
		case LevelNone:
			p.mode = TLSNone
		case LevelMay:
			p.mode = TLSStartTLS
		default:
			p.mode = TLSRequire
		}
	case p.mode == TLSNone || !direct:
	default:
		p.dane = c.UseDANE != nil && c.UseDANE()
		if c.STS != nil {
			p.sts, p.stsErr = c.STS(ctx, p.domain)
		}
	}
	return p
}

// key tells which connections are as good as new ones: those that fulfil the same demands.
func (p *protection) key() string {
	key := p.mode
	if r := p.route; r != nil && r.Verify {
		key += " verify"
	}
	if p.row != nil {
		sum := sha256.Sum256([]byte(p.row.Level + "\n" + strings.Join(p.row.Names, "\n") + "\n\n" + strings.Join(p.row.Pins, "\n")))
		key += fmt.Sprintf(" %x", sum[:8])
	}
	if p.sts != nil {
		key += " " + p.sts.Mode + p.sts.ID
	}
	return key
}

// guard is what one connection must fulfil.
type guard struct {
	mode  string                                     // as of a route
	label string                                     // what a connection that fulfils it is called
	want  string                                     // who demands it, and which command changes that
	sni   string                                     // name that is asked for
	check func([]*x509.Certificate, time.Time) error // nil: any certificate will do
	// testing: a failure is told and doesn't stop the mail.
	testing bool
	tlsa    []dane.Record // what check compares with, for reports
	sts     bool          // the check is the MTA-STS policy's
}

// guard gives the demands on a connection to a host. An error stands for one that can't be tried.
func (c *Client) guard(ctx context.Context, p *protection, t target) (*guard, error) {
	g := &guard{mode: p.mode, label: Opportunistic, sni: strings.Trim(t.host, "[]")}
	if p.mode == TLSRequire || p.mode == TLSWrapped {
		g.label = Required
	}
	switch {
	case p.route != nil:
		return g, c.guardRelay(ctx, g, p, t)
	case p.row != nil && p.row.Level != LevelDANE:
		c.guardPolicy(g, p)
		return g, nil
	}
	if p.dane && t.secure {
		if found, err := c.guardDANE(ctx, g, p, t); found || err != nil {
			return g, err
		}
	}
	if p.row != nil { // dane, and nothing found
		return g, daneless(p, t)
	}
	return g, c.guardSTS(g, p, t)
}

// daneless says why a host can't be verified by the TLSA records that a policy demands.
func daneless(p *protection, t target) error {
	why := "it has no TLSA records"
	if p.both {
		return &certFailure{failDANE, fmt.Errorf("%s can't be verified by DANE: %s is a relay domain, whose server is found by the inside DNS server, too, so DNSSEC vouches for nothing, and its mail waits; it is sent with mpctl delivery tls set %s --level require; demanded by mpctl delivery tls show '%s'", t.host, p.domain, p.domain, p.row.Domain)}
	}
	if !t.secure {
		why = "DNSSEC does not vouch for its address (mpctl net dns show tells whose answers count)"
	}
	return &certFailure{failDANE, fmt.Errorf("%s can't be verified by DANE: %s; demanded by mpctl delivery tls show %s", t.host, why, p.row.Domain)}
}

func (c *Client) guardRelay(ctx context.Context, g *guard, p *protection, t target) error {
	g.want = "the relay's settings require it: " + orElse(p.route.Remedy, "mpctl relay show")
	dane := p.row != nil && p.row.Level == LevelDANE
	if !p.route.Verify && !dane || g.mode != TLSRequire && g.mode != TLSWrapped {
		return nil
	}
	g.label = Verified
	names := []string{t.host}
	switch mode := g.mode; {
	case p.row != nil && p.row.Level == LevelFingerprint:
		g.label, g.check = Pinned, pinned(p.row.Pins)
		return nil
	case dane: // at the port that is used (RFC 7672 §2.2.2)
		if t.secure {
			if found, err := c.guardDANE(ctx, g, p, t); found || err != nil {
				g.mode = mode
				return err
			}
		}
		return daneless(p, t)
	}
	if p.row != nil && len(p.row.Names) > 0 {
		names = p.row.Names
	}
	g.check = c.trusted(names)
	return nil
}

func (c *Client) guardPolicy(g *guard, p *protection) {
	g.want = "demanded by the policy for " + p.row.Domain + ": mpctl delivery tls show '" + p.row.Domain + "'"
	switch p.row.Level {
	case LevelFingerprint:
		g.label, g.check = Pinned, pinned(p.row.Pins)
	case LevelVerify:
		names := p.row.Names
		if len(names) == 0 {
			names = []string{p.domain, "." + p.domain}
		}
		g.label, g.check = Verified, c.trusted(names)
	}
}

// guardDANE looks up TLSA records and tells whether there are any. Records that can't be compared
// with anything still say that the host has TLS (RFC 7672 §2.2).
func (c *Client) guardDANE(ctx context.Context, g *guard, p *protection, t target) (bool, error) {
	base, list, err := c.tlsa(ctx, t)
	if err != nil {
		return false, &certFailure{failDNSSEC, fmt.Errorf("the TLSA records of %s can't be looked up, and without them nothing may be sent there: %w", t.host, err)}
	}
	if len(list) == 0 {
		return false, nil
	}
	g.mode, g.label, g.sni, g.tlsa = TLSRequire, Required, base, list
	g.want = "demanded by the TLSA records of " + base + "; to send all the same: mpctl delivery tls set " + p.domain + " --level may"
	usable := dane.Usable(list)
	if len(usable) == 0 {
		if p.row != nil {
			return true, &certFailure{failTLSA, fmt.Errorf("no TLSA record of %s can be used; demanded by mpctl delivery tls show %s", base, p.row.Domain)}
		}
		return true, nil
	}
	names := []string{base, t.host, p.domain} // RFC 7672 §3.2.3
	g.label = DANE
	g.check = func(chain []*x509.Certificate, now time.Time) error {
		err := dane.Verify(usable, chain, func(cert *x509.Certificate) bool { return named(cert, names) }, now)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, dane.ErrName):
			return &certFailure{failName, fmt.Errorf("the certificate is for %s, not for %s", namesOf(chain[0]), strings.Join(names, " or "))}
		case errors.Is(err, dane.ErrNoMatch):
			return &certFailure{failValidation, err}
		}
		return chainFailure(chain[0], err)
	}
	return true, nil
}

// guardSTS holds a host to the domain's policy.
func (c *Client) guardSTS(g *guard, p *protection, t target) error {
	if p.sts == nil {
		return nil
	}
	g.sts, g.testing = true, p.sts.Mode != mtasts.ModeEnforce
	g.want = "demanded by the MTA-STS policy of " + p.domain + "; to send all the same: mpctl delivery tls set " + p.domain + " --level may"
	listed := p.sts.Allows(t.host)
	if !g.testing {
		g.mode = TLSRequire
		if !listed {
			return &certFailure{failValidation, fmt.Errorf("%s is not among the mail servers of its domain's MTA-STS policy; %s", t.host, g.want)}
		}
	}
	g.label = MTASTS
	check := c.trusted([]string{t.host})
	g.check = func(chain []*x509.Certificate, now time.Time) error {
		if !listed {
			return &certFailure{failValidation, fmt.Errorf("%s is not among the mail servers of the policy", t.host)}
		}
		return check(chain, now)
	}
	return nil
}

func (c *Client) trusted(names []string) func([]*x509.Certificate, time.Time) error {
	return func(chain []*x509.Certificate, now time.Time) error {
		var roots *x509.CertPool
		if c.Roots != nil {
			roots = c.Roots()
		}
		return verifyPKIX(chain, roots, names, now)
	}
}

func pinned(pins []string) func([]*x509.Certificate, time.Time) error {
	return func(chain []*x509.Certificate, _ time.Time) error { return verifyPin(chain, pins) }
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// verdict looks at a connection whose handshake is done: how it is called, and what is wrong with it.
func (g *guard) verdict(st *tls.ConnectionState) (label string, err error) {
	if g.check == nil {
		return g.label, nil
	}
	if err := g.check(st.PeerCertificates, time.Now()); err != nil {
		return Opportunistic, err
	}
	return g.label, nil
}
