package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailplusd/admin/exchange"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// anySpace is the address space of everything.
const anySpace = "*"

// sendNames are the properties of a send connector that its way is made of.
var sendNames = []string{"Enabled", "AddressSpaces", "DNSRoutingEnabled", "SmartHosts", "SmartHostAuthMechanism", "Port", "RequireTLS", "TlsAuthLevel", "TlsDomain"}

// sendConnector is how some mail leaves Exchange.
type sendConnector struct {
	o       *exchange.Object
	src     source
	domains []string // address spaces of single domains
	any     bool     // and the one of everything
	cost    int      // of that
	host    string   // empty: by DNS
	port    string
	tls     string // of model.Relay
	verify  bool
}

// send takes over send connectors: a smart host for everything is the relay, one for some domains a
// relay rule; what must be encrypted becomes a TLS policy.
func (p *exchangePlan) send() error {
	var all []*sendConnector
	for _, o := range p.file.All("SendConnector") {
		if c := p.connector(o); c != nil {
			all = append(all, c)
		}
	}
	// The cheapest way of everything is the one that counts (the first of several).
	var main *sendConnector
	for _, c := range all {
		if c.any && (main == nil || c.cost < main.cost) {
			main = c
		}
	}
	if main != nil { // before the others: whether their rules have an effect follows from it
		if err := p.mainWay(main); err != nil {
			return err
		}
	}
	for _, c := range all {
		var err error
		switch {
		case c == main:
		case c.any:
			p.left(c.src, "relay.mode", "another connector takes everything at lower cost, and one way is kept")
			continue
		}
		if err == nil && len(c.domains) > 0 {
			err = p.domainWay(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connector reads a send connector; nil: it is not taken over.
func (p *exchangePlan) connector(o *exchange.Object) *sendConnector {
	c := &sendConnector{o: o, src: source{section: exchangeConditions, object: o, names: sendNames}, port: o.Value("Port"), tls: model.RelayStartTLS}
	if o.Value("Enabled") != "" && !o.On("Enabled") {
		p.left(c.src, "relay rule", "the connector is switched off")
		return nil
	}
	for _, text := range o.Values("AddressSpaces") {
		sp, ok := exchange.ParseSpace(text)
		switch {
		case !ok:
			p.left(c.src, "relay rule", "%.60q is no address space of SMTP", text)
		case sp.Domain == anySpace:
			c.any, c.cost = true, sp.Cost
		case strings.HasPrefix(sp.Domain, "*"):
			p.left(c.src, "relay rule", "a rule can't stand for all domains below one: %s", sp.Domain)
		default:
			c.domains = append(c.domains, asciiDomain(sp.Domain))
		}
	}
	if o.On("RequireTLS") || o.Value("TlsAuthLevel") != "" {
		c.tls = model.RelayRequire
		c.verify = o.Value("TlsAuthLevel") == "CertificateValidation" || o.Value("TlsAuthLevel") == "DomainValidation"
	}
	hosts := o.Values("SmartHosts")
	if o.On("DNSRoutingEnabled") || len(hosts) == 0 {
		return c
	}
	c.host = asciiHost(strings.Trim(hosts[0], "[]"))
	if len(hosts) > 1 {
		c.src.note = "of " + strconv.Itoa(len(hosts)) + " smart hosts only the first"
	}
	if a := o.Value("SmartHostAuthMechanism"); a != "" && a != "None" && a != "ExternalAuthoritative" {
		p.left(c.src, "relay.host", "its password is not in the file; mpctl relay set --mode single --host %s --auth on --user NAME --password-file FILE, or mpctl relay rule add for some domains", c.host)
		return nil
	}
	return c
}

// mainWay is how everything leaves that has no way of its own.
func (p *exchangePlan) mainWay(c *sendConnector) error {
	if c.host == "" {
		if p.set.Relay.Mode == model.RelaySingle {
			p.put(c.src, "relay.mode", model.RelayDirect)
		} else {
			p.put(c.src, "relay.mode", p.set.Relay.Mode)
		}
		if c.tls == model.RelayRequire {
			return p.tlsPolicy(c.src, model.AnyDestination, c.level(), nil)
		}
		return nil
	}
	kv := []string{"relay.host", c.host, "relay.mode", model.RelaySingle, "relay.tls", c.tls, "relay.verify", onOff(c.verify)}
	if c.host != p.set.Relay.Host {
		kv = append(kv, "relay.auth", "off") // the password is another host's
	}
	if c.port != "" {
		kv = append(kv, "relay.port", c.port)
	}
	p.put(c.src, kv...)
	return nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func (c *sendConnector) level() string {
	if c.verify {
		return model.TLSLevelVerify
	}
	return model.TLSLevelRequire
}

// domainWay is how mail to some domains leaves.
func (p *exchangePlan) domainWay(c *sendConnector) error {
	if c.host == "" {
		if c.tls != model.RelayRequire {
			p.left(c.src, "relay rule", "mail to %s leaves by DNS, as it does without a rule", strings.Join(c.domains, ", "))
			return nil
		}
		var names []string
		if d := c.o.Value("TlsDomain"); d != "" && c.verify {
			names = []string{strings.TrimPrefix(strings.ToLower(d), "*")}
		}
		for _, d := range c.domains {
			if err := p.tlsPolicy(c.src, d, c.level(), names); err != nil {
				return err
			}
		}
		return nil
	}
	if p.set.Relay.Mode == model.RelaySingle {
		p.left(c.src, "relay rule", "everything goes through %s, and rules have no effect then", p.set.Relay.Host)
		return nil
	}
	port, err := strconv.Atoi(c.port)
	if c.port == "" || err != nil {
		port = 25
	}
	rule := &model.RelayRule{Name: fmt.Sprintf("%.100s", strings.TrimSpace(strings.ReplaceAll(c.o.Name, "/", "-"))), Kind: model.RuleByRecipient, Host: c.host, Port: port, TLS: c.tls, Verify: c.verify, Domain: c.domains, Created: p.now.Unix()}
	before := len(p.rows)
	err = p.row(c.src, "relay rule", rule.Name+" ("+strings.Join(c.domains, ", ")+" through "+c.host+")", func() error {
		have, err := state.RelayRules.Get(p.tx, rule.Name)
		if err == nil && have.Host == rule.Host && have.Kind == rule.Kind && slices.Equal(have.Domain, slices.Sorted(slices.Values(rule.Domain))) {
			return errExchangeSame
		}
		if err == nil {
			return refused("there is another rule of this name", "mpctl relay rule show '"+rule.Name+"'")
		}
		if !errors.Is(err, state.ErrNotFound) {
			return err
		}
		return putRule(p.tx, rule)
	})
	if err == nil && len(p.diff) > 0 && len(p.rows) > before && p.rows[before].Result == "set" {
		p.put(c.src, "relay.mode", model.RelayMulti)
	}
	return err
}

// tlsPolicy protects mail to a destination, unless it has a policy.
func (p *exchangePlan) tlsPolicy(src source, domain, level string, names []string) error {
	if _, err := netip.ParseAddr(domain); err == nil || domain == "" {
		p.left(src, "TLS policy", "%.60q is no domain", domain)
		return nil
	}
	return p.row(src, "TLS policy", domain+" "+level, func() error {
		have, err := state.TLSPolicies.Get(p.tx, domain)
		switch {
		case err == nil && have.Level == level:
			return errExchangeSame
		case err == nil:
			return refused(domain+" has a policy of level "+have.Level, "mpctl delivery tls set "+domain+" --level "+level)
		case !errors.Is(err, state.ErrNotFound):
			return err
		}
		t := &model.TLSPolicy{Domain: domain, Level: level, Name: names, Created: p.now.Unix()}
		if err := t.Validate(); err != nil {
			return err
		}
		return state.TLSPolicies.Put(p.tx, t)
	})
}
