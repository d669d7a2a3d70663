package server

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/exchange"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// domains takes over accepted domains: those that Exchange answers for are hosted here, those that it
// passes on are relay domains.
func (p *exchangePlan) domains() error {
	for _, o := range p.file.All("AcceptedDomain") {
		src := source{section: exchangeGeneral, object: o, names: []string{"DomainName", "DomainType", "Default", "MatchSubDomains"}}
		name := asciiDomain(o.Value("DomainName"))
		var err error
		switch kind := o.Value("DomainType"); {
		case strings.HasPrefix(name, "*"):
			p.left(src, "domain", "a domain can't stand for all below it; add each: mpctl domain add, or mpctl relay domain add")
		case kind == "Authoritative":
			if o.On("MatchSubDomains") {
				src.note = "without the domains below it"
			}
			err = p.row(src, "domain", name, func() error { return addDomain(p.tx, &model.Domain{Name: name}, p.now) })
		case kind == "ExternalRelay":
			err = p.row(src, "relay domain", name, func() error {
				all, err := state.RelayDomains.List(p.tx, "")
				if err != nil {
					return err
				}
				if slices.ContainsFunc(all, func(d *model.RelayDomain) bool { return d.Domain == name }) {
					return errExchangeSame
				}
				return putRelayDomain(p.tx, &model.RelayDomain{Name: name, Domain: name, Created: p.now.Unix()})
			})
		default:
			p.left(src, "domain", "some of its mailboxes are elsewhere; decide: mpctl domain add %s, or mpctl relay domain add NAME %s", name, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// transport takes over the limits of the organisation and of the server.
func (p *exchangePlan) transport() error {
	for _, o := range p.file.All("TransportConfig") {
		p.limit(o, "MaxRecipientEnvelopeLimit", "delivery.max-recipients")
		// There is one limit for both ways here; the smaller one would refuse what Exchange took.
		receive, send := o.Value("MaxReceiveSize"), o.Value("MaxSendSize")
		larger, smaller := "MaxReceiveSize", "MaxSendSize"
		r, rerr := exchange.Octets(receive)
		s, serr := exchange.Octets(send)
		if exchange.Unlimited(send) && !exchange.Unlimited(receive) || rerr == nil && serr == nil && s > r || receive == "" {
			larger, smaller = smaller, larger
		}
		p.size(o, larger, "delivery.max-size", 1<<20)
		if v := o.Value(smaller); v == o.Value(larger) {
			p.use(o, smaller)
		} else if v != "" {
			p.left(source{section: exchangeGeneral, object: o, names: []string{smaller}}, "delivery.max-size", "one limit holds for mail in and out, and it is the larger one: %s", larger)
		}
		for _, d := range o.Values("TLSSendDomainSecureList") {
			err := p.tlsPolicy(source{section: exchangeConditions, object: o, names: []string{"TLSSendDomainSecureList"}}, asciiDomain(d), model.TLSLevelVerify, nil)
			if err != nil {
				return err
			}
		}
	}
	for _, o := range p.file.All("TransportService") {
		p.span(o, "MessageExpirationTimeout", "queue.lifetime", time.Hour)
		p.span(o, "DelayNotificationTimeout", "queue.delay-warning", time.Hour)
		p.span(o, "OutboundConnectionFailureRetryInterval", "queue.min-backoff", time.Second)
		p.limit(o, "MaxOutboundConnections", "queue.concurrency")
		p.limit(o, "MaxPerDomainOutboundConnections", "queue.per-destination")
		src := source{section: exchangeGeneral, object: o, names: []string{"ExternalDNSAdapterEnabled", "ExternalDNSServers"}}
		switch list := o.Values("ExternalDNSServers"); {
		case o.On("ExternalDNSAdapterEnabled") || len(list) == 0:
			p.use(o, src.names...)
		case p.resolvers:
			p.left(src, "network.resolvers", "others are given with --resolver")
		default:
			p.put(src, "network.resolvers", strings.Join(list, ","))
		}
	}
	return nil
}

// receive takes over what the connector that the Internet comes to says, and which services there are.
func (p *exchangePlan) receive() error {
	all := p.file.All("ReceiveConnector")
	front := slices.ContainsFunc(all, func(o *exchange.Object) bool { return o.Value("TransportRole") == "FrontendTransport" })
	var main *exchange.Object
	keys := map[int]string{25: "service.smtp.enable", 465: "service.smtps.enable", 587: "service.submission.enable"}
	for _, o := range all {
		if o.Value("Enabled") != "" && !o.On("Enabled") || front && o.Value("TransportRole") != "FrontendTransport" {
			continue
		}
		for _, binding := range o.Values("Bindings") {
			port, _ := exchange.Port(binding)
			if keys[port] != "" {
				p.put(source{section: exchangeGeneral, object: o, names: []string{"Bindings"}}, keys[port], "on")
				delete(keys, port)
			}
			if port == 25 && (main == nil || !fromEverywhere(main) && fromEverywhere(o)) {
				main = o
			}
		}
	}
	if main == nil {
		return nil
	}
	p.use(main, "Enabled", "TransportRole")
	p.banner(main)
	p.limit(main, "MaxHopCount", "delivery.max-hops")
	p.size(main, "MaxHeaderSize", "delivery.max-header", 1<<10)
	p.limit(main, "MaxInboundConnection", "delivery.max-connections")
	p.limit(main, "MaxInboundConnectionPerSource", "delivery.client-connections", "delivery.limit-client-connections", "on")
	if v := main.Value("MessageRateLimit"); exchange.Unlimited(v) {
		p.put(source{section: exchangeGeneral, object: main, names: []string{"MessageRateLimit"}}, "delivery.limit-client-messages", "off")
	} else {
		p.limit(main, "MessageRateLimit", "delivery.client-messages", "delivery.limit-client-messages", "on")
	}
	return nil
}

// fromEverywhere tells whether a connector takes connections from the whole Internet.
func fromEverywhere(o *exchange.Object) bool {
	return slices.Contains(o.Values("RemoteIPRanges"), "0.0.0.0-255.255.255.255")
}

// banner takes over the greeting, with this server's name in front.
func (p *exchangePlan) banner(o *exchange.Object) {
	text := strings.TrimSpace(strings.TrimPrefix(o.Value("Banner"), "220"))
	if text == "" {
		return
	}
	if first, rest, _ := strings.Cut(text, " "); model.ValidateHostname("banner", strings.ToLower(first)) == nil {
		text = rest
	}
	p.put(source{section: exchangeGeneral, object: o, names: []string{"Banner"}, note: "with this server's name in front"}, "delivery.banner", strings.TrimSpace("$hostname "+text))
}

// mailboxServices takes over IMAP and POP3 where they run.
func (p *exchangePlan) mailboxServices() error {
	for _, service := range []struct {
		kind, key string
		port, tls int // where clients look for it
	}{{"ImapSettings", "service.imap.", 143, 993}, {"PopSettings", "service.pop3.", 110, 995}} {
		for _, o := range p.file.All(service.kind) {
			src := source{section: exchangeGeneral, object: o, names: []string{"Running"}}
			if !o.On("Running") {
				p.left(source{section: exchangeGeneral, object: o, names: propertyNames(o)}, service.key+"enable", "it does not run there; mpctl %s set --enable on", strings.ReplaceAll(strings.TrimSuffix(service.key, "."), ".", " "))
				continue
			}
			kv := []string{service.key + "enable", "on"}
			if list := o.Values("UnencryptedOrTLSBindings"); len(list) > 0 {
				src.names = append(src.names, "UnencryptedOrTLSBindings")
				if port, ok := exchange.Port(list[0]); ok && port != service.port {
					kv = append(kv, service.key+"port", strconv.Itoa(port))
				}
			}
			if list := o.Values("SSLBindings"); len(list) > 0 {
				src.names, kv = append(src.names, "SSLBindings"), append(kv, service.key+"tls", "on")
				if port, ok := exchange.Port(list[0]); ok && port != service.tls {
					kv = append(kv, service.key+"tls-port", strconv.Itoa(port))
				}
			}
			p.put(src, kv...)
			switch login := (source{section: exchangeGeneral, object: o, names: []string{"LoginType"}}); o.Value("LoginType") {
			case "":
			case "SecureLogin":
				p.put(login, "service.plain-login", "loopback")
			default:
				p.left(login, "service.plain-login", "passwords would cross the network in clear; if that must be: mpctl config set service.plain-login=always")
			}
		}
	}
	return nil
}

func propertyNames(o *exchange.Object) (out []string) {
	for _, prop := range o.Properties {
		out = append(out, prop.Name)
	}
	return out
}

// trusted takes over the networks that may send through Exchange without login.
func (p *exchangePlan) trusted() error {
	trusted := 0
	for _, o := range p.file.All("ReceiveConnector") {
		if !o.On("AnonymousRelay") {
			p.use(o, "AnonymousRelay")
			continue
		}
		src := source{section: exchangeConditions, object: o, names: []string{"AnonymousRelay", "RemoteIPRanges"}}
		if o.Value("Enabled") != "" && !o.On("Enabled") {
			p.left(src, "relay trusted server", "the connector is switched off")
			continue
		}
		n := 0
		for _, text := range o.Values("RemoteIPRanges") {
			list, err := exchange.Networks(text)
			if err != nil {
				p.left(src, "relay trusted server", "%v; mpctl relay trusted add NAME NETWORK", err)
				continue
			}
			if slices.ContainsFunc(list, tooWide) { // the edges of such a range are nobody's network either
				n += len(list)
				p.left(src, "relay trusted server", "%s is too wide for a network whose mail is passed on without login", text)
				continue
			}
			if trusted += len(list); trusted > maxExchangeNetworks {
				return refused(fmt.Sprintf("the file names more than %d networks that may send without login", maxExchangeNetworks), "")
			}
			for _, network := range list {
				n++
				if err := p.trust(src, fmt.Sprintf("%.100s %d", strings.ReplaceAll(o.Name, "/", "-"), n), network.String()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// maxExchangeNetworks bounds the trusted networks of a file: each is compared with all that there are.
const maxExchangeNetworks = 1000

// tooWide tells whether a network is wider than anybody's own.
func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 32
}

// trust adds a network to the trusted list, unless it is there under any name.
func (p *exchangePlan) trust(src source, name, network string) error {
	return p.row(src, "relay trusted server", network, func() error {
		t := &model.TrustedServer{Name: strings.TrimSpace(name), Network: network, Created: p.now.Unix()}
		if err := t.Validate(); err != nil {
			return err
		}
		all, err := state.TrustedServers.List(p.tx, "")
		if err != nil {
			return err
		}
		for _, have := range all {
			if have.Network == t.Network {
				return errExchangeSame
			}
			if have.Name == t.Name {
				return refused("another network is trusted under the name "+t.Name, "mpctl relay trusted list")
			}
		}
		return state.TrustedServers.Put(p.tx, t)
	})
}
