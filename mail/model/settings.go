package model

import (
	"net/netip"
	"strings"
	"unicode"
)

// Settings are all single values of the system by section. Tags: `key` is the name in
// `config get|set`, `help` says what it does; `unit`, `min`, `max` and `enum` bound it.
type Settings struct {
	System   System   `key:"system"`
	Services Services `key:"service"`
	Delivery Delivery `key:"delivery"`
	Queue    Queue    `key:"queue"`
	Relay    Relay    `key:"relay"`
	Certs    Certs    `key:"cert"`
	Login    Login    `key:"login"`
	Accounts Accounts `key:"account"`
	Network  Network  `key:"network"`
	Storage  Storage  `key:"storage"`
	FTS      FTS      `key:"fts"`
	Log      Log      `key:"log"`
}

// System is what set-up decides.
type System struct {
	ID        string `cbor:"id" key:"id" readonly:"true" help:"name of this mail system, made at set-up"`
	SetUp     int64  `cbor:"setup" key:"set-up" readonly:"true" help:"when the system was set up (Unix seconds, 0: not yet)"`
	Domain    string `cbor:"domain" key:"domain" help:"main mail domain"`
	Hostname  string `cbor:"host" key:"hostname" help:"this server's own name (FQDN): HELO, banner, Received, Message-ID"`
	Source    string `cbor:"source" key:"account-source" enum:"local,ldap,domain" readonly:"true" help:"where accounts come from: mpctl account source set"`
	Interface string `cbor:"iface" key:"interface" help:"network interface or address that the services listen on; all: every one"`
	IssuerKey string `cbor:"issuer" key:"issuer-key" secret:"true" readonly:"true" help:"key that signs seat licences"`
}

// Listener is one port.
type Listener struct {
	Enabled bool `cbor:"on" key:"enable" help:"listen at all"`
	Port    int  `cbor:"port" key:"port" min:"1" max:"65535" help:"TCP port"`
}

// MailboxService is IMAP or POP3: STARTTLS on Port and implicit TLS on TLSPort, both by one switch (A.32).
type MailboxService struct {
	Enabled bool `cbor:"on" key:"enable" help:"offer the service at all"`
	Port    int  `cbor:"port" key:"port" min:"1" max:"65535" help:"TCP port in clear, with STARTTLS when TLS is on"`
	TLS     bool `cbor:"tls" key:"tls" help:"offer STARTTLS, and implicit TLS on the TLS port"`
	TLSPort int  `cbor:"tlsport" key:"tls-port" min:"1" max:"65535" help:"TCP port with implicit TLS"`
}

// Autoconfig is the HTTPS listener from which mail clients fetch their settings.
type Autoconfig struct {
	Enabled  bool `cbor:"on" key:"enable" help:"answer mail clients that look for settings, over HTTPS"`
	Port     int  `cbor:"port" key:"port" min:"1" max:"65535" help:"TCP port of HTTPS; clients look at 443"`
	HTTP     bool `cbor:"http" key:"http" help:"send clients that come by HTTP to HTTPS, too"`
	HTTPPort int  `cbor:"httpport" key:"http-port" min:"1" max:"65535" help:"TCP port of HTTP; clients look at 80"`
}

// Services are the listeners.
type Services struct {
	SMTP       Listener       `cbor:"smtp" key:"smtp"`
	SMTPS      Listener       `cbor:"smtps" key:"smtps"`
	Submission Listener       `cbor:"subm" key:"submission"`
	IMAP       MailboxService `cbor:"imap" key:"imap"`
	POP3       MailboxService `cbor:"pop3" key:"pop3"`
	Autoconfig Autoconfig     `cbor:"auto" key:"autoconfig"`
	PlainLogin string         `cbor:"plain" key:"plain-login" enum:"loopback,always,never" help:"where a password may cross an unencrypted connection"`
}

// Delivery is Mail Delivery > General and SMTP authentication.
type Delivery struct {
	Banner          string   `cbor:"banner" key:"banner" help:"text of the 220 greeting; $hostname stands for the server's name"`
	MaxRecipients   int      `cbor:"rcpts" key:"max-recipients" min:"1" max:"10000" help:"recipients of one message"`
	MaxHops         int      `cbor:"hops" key:"max-hops" min:"1" max:"100" help:"Received headers of one message"`
	MaxSizeMB       int      `cbor:"size" key:"max-size" unit:"MB" min:"1" max:"2047" help:"size of one message"`
	AuthEnabled     bool     `cbor:"auth" key:"auth" help:"who sends to other servers must log in"`
	LANExempt       bool     `cbor:"lan" key:"lan-exempt" help:"the local network may send without login"`
	SenderMatch     bool     `cbor:"match" key:"sender-match" help:"the sender address must belong to the login"`
	SkipTrusted     bool     `cbor:"skip" key:"skip-match-trusted" help:"no sender check for trusted networks"`
	Postmaster      bool     `cbor:"pm" key:"postmaster" help:"external postmasters get the mail that other servers send to postmaster and mailer-daemon of the hosted domains"`
	Postmasters     []string `cbor:"pms" key:"postmasters" help:"addresses of external postmasters"`
	BareNewline     string   `cbor:"bare" key:"bare-newline" enum:"reject,normalise" help:"mail with a bare LF or CR"`
	MaxHeaderKB     int      `cbor:"header" key:"max-header" unit:"KB" min:"16" max:"4096" help:"header of one message"`
	MaxParts        int      `cbor:"parts" key:"max-parts" min:"10" max:"100000" help:"MIME parts of one message"`
	MaxDepth        int      `cbor:"depth" key:"max-depth" min:"5" max:"1000" help:"nesting of MIME parts"`
	ConnectionLimit int      `cbor:"conns" key:"max-connections" min:"10" max:"100000" help:"connections to one listener"`
	FQDNSender      bool     `cbor:"fqdn" key:"reject-non-fqdn-sender" help:"refuse senders whose domain is not a full domain name"`
	KnownSender     bool     `cbor:"known" key:"reject-unknown-sender" help:"refuse senders from other domains that have neither MX nor address in DNS"`
	KnownClient     bool     `cbor:"client" key:"reject-unknown-client" help:"refuse clients without a host name that leads back to their address"`
	SRS             bool     `cbor:"srs" key:"srs" help:"rewrite the sender of other servers' mail that a forward, an alias or a blind copy passes on, so that SPF holds there (SRS)"`
	SRSSecret       string   `cbor:"srskey" key:"srs-secret" secret:"true" readonly:"true" help:"secret of rewritten senders, sealed; made by the server"`
	LimitConns      bool     `cbor:"lconns" key:"limit-client-connections" help:"hold clients of SMTP to client-connections"`
	ClientConns     int      `cbor:"cconns" key:"client-connections" min:"1" max:"100000" help:"connections of one client to one SMTP port at a time"`
	LimitMessages   bool     `cbor:"lmsgs" key:"limit-client-messages" help:"block for a minute who sends more than client-messages"`
	ClientMessages  int      `cbor:"cmsgs" key:"client-messages" min:"1" max:"1000000" help:"messages of one client within a minute"`
	LimitRate       bool     `cbor:"lrate" key:"limit-client-rate" help:"block for a minute who connects more often than client-rate"`
	ClientRate      int      `cbor:"crate" key:"client-rate" min:"1" max:"1000000" help:"connections of one client to one SMTP port within a minute"`
	PerAddressLimit int      `cbor:"peraddr" key:"max-connections-per-address" min:"1" max:"100000" help:"connections from one address to one listener"`
}

// Queue is how outgoing mail is tried.
type Queue struct {
	LifetimeHours  int    `cbor:"life" key:"lifetime" unit:"hours" min:"1" max:"720" help:"undelivered mail is bounced after this"`
	MinBackoffSec  int    `cbor:"min" key:"min-backoff" unit:"seconds" min:"1" max:"86400" help:"first wait after a failure"`
	MaxBackoffSec  int    `cbor:"max" key:"max-backoff" unit:"seconds" min:"1" max:"86400" help:"longest wait between attempts"`
	DelayWarnHours int    `cbor:"warn" key:"delay-warning" unit:"hours" min:"0" max:"720" help:"tell the sender about a delay after this; 0: never"`
	PerDestination int    `cbor:"dest" key:"per-destination" min:"1" max:"100" help:"connections to one destination at a time"`
	Concurrency    int    `cbor:"conc" key:"concurrency" min:"1" max:"1000" help:"connections to all destinations at a time"`
	Port           int    `cbor:"port" key:"port" min:"1" max:"65535" help:"TCP port of other mail servers; other than 25 only for tests"`
	TLS            string `cbor:"tls" key:"tls" enum:"may,none" help:"STARTTLS towards other servers without a policy of their own"`
	MTASTS         bool   `cbor:"sts" key:"mta-sts" help:"hold other servers to their domains' MTA-STS policies (RFC 8461)"`
	TLSReports     bool   `cbor:"rpt" key:"tls-reports" help:"count how TLS towards other servers goes, and send each domain that asks for it a report a day (RFC 8460)"`
	DANE           bool   `cbor:"dane" key:"dane" help:"hold other servers to their TLSA records (RFC 7672), where a DNS server that validates is trusted"`
}

// Login is how guessing passwords is slowed down.
type Login struct {
	MaxFailures   int `cbor:"fail" key:"max-failures" min:"3" max:"1000" help:"wrong passwords in the window before the address is locked out for the account"`
	WindowMinutes int `cbor:"win" key:"window" unit:"minutes" min:"1" max:"1440" help:"how long a failure counts"`
	LockMinutes   int `cbor:"lock" key:"lock-time" unit:"minutes" min:"1" max:"1440" help:"how long a lock-out lasts"`
	MinPassword   int `cbor:"minpw" key:"min-password" min:"4" max:"128" help:"characters of a new password"`
}

// Accounts is the default step of activation (R5.29).
type Accounts struct {
	ActivateAll bool `cbor:"all" key:"activate-all" help:"activate every user that neither he nor a group decides about"`
}

// Network is what counts as near, and who answers DNS.
type Network struct {
	LAN        []string `cbor:"lan" key:"lan" help:"further networks that count as local (CIDR)"`
	Proxies    []string `cbor:"proxy" key:"proxies" help:"proxies that begin each connection to SMTP, IMAP and POP3 with a PROXY header, version 1 or 2 (CIDR)"`
	XClient    []string `cbor:"xclient" key:"xclient" help:"SMTP proxies that may name their client by XCLIENT (CIDR)"`
	Resolvers  []string `cbor:"dns" key:"resolvers" help:"DNS servers (address or address:port); none: those of the host"`
	DNSSEC     string   `cbor:"dnssec" key:"dnssec" enum:"loopback,all,none" help:"DNS servers that are believed when they say that they have checked DNSSEC: those on this host, all, or none"`
	PublicIP   []string `cbor:"public" key:"public-address" help:"addresses by which the Internet sees this server; none: those of the interface"`
	NTP        []string `cbor:"ntp" key:"ntp-servers" help:"time servers that mpctl check time asks (name or address, with :port if it is not 123)"`
	BlockLists []string `cbor:"bl" key:"block-lists" help:"DNS block lists that mpctl check blocklist asks about this server's own addresses"`
}

// Storage is how bodies are kept.
type Storage struct {
	KeepHours    int `cbor:"keep" key:"keep-removed" unit:"hours" min:"0" max:"8760" help:"how long a body without references stays on disk"`
	ExpungedDays int `cbor:"expunged" key:"keep-expunged" unit:"days" min:"0" max:"3650" help:"how long expunged mail can be given back; 0: not at all"`
	JunkDays     int `cbor:"junk" key:"junk-days" unit:"days" min:"0" max:"3650" help:"how long mail stays in Junk mailboxes, from the day it was filed there; 0: for ever"`
	CompactRatio int `cbor:"ratio" key:"compact-ratio" unit:"percent" min:"5" max:"95" help:"dead share of a segment at which it is compacted"`
}

// FTS is full-text search: whether mail is indexed, and at what cost.
type FTS struct {
	Enabled bool `cbor:"on" key:"enable" help:"keep a full-text index of users' mail, on each node its own"`
	CJK     bool `cbor:"cjk" key:"cjk" help:"index single Chinese, Japanese and Korean characters"`
	CPU     int  `cbor:"cpu" key:"cpu" unit:"percent" min:"1" max:"100" help:"share of one processor that indexing may take"`
}

// Log is how long records are kept.
type Log struct {
	AdminDays int `cbor:"admin" key:"admin-keep" unit:"days" min:"1" max:"36500" help:"how long the admin log keeps a line"`
}

// DefaultSettings are the values before anybody sets one.
func DefaultSettings() Settings {
	return Settings{
		System: System{Source: "local", Interface: "all"},
		Services: Services{
			SMTP: Listener{Port: 25}, SMTPS: Listener{Port: 465}, Submission: Listener{Port: 587},
			IMAP:       MailboxService{Port: 143, TLSPort: 993},
			POP3:       MailboxService{Port: 110, TLSPort: 995},
			Autoconfig: Autoconfig{Port: 443, HTTP: true, HTTPPort: 80},
			PlainLogin: "loopback",
		},
		Delivery: Delivery{
			Banner: "$hostname ESMTP", MaxRecipients: 1000, MaxHops: 50, MaxSizeMB: 10, AuthEnabled: true,
			BareNewline: "reject", SRS: true, MaxHeaderKB: 256, MaxParts: 1000, MaxDepth: 100,
			ConnectionLimit: 10000, PerAddressLimit: 5000, FQDNSender: true,
			ClientConns: 50, ClientMessages: 100, ClientRate: 100,
		},
		Queue:   Queue{LifetimeHours: 120, MinBackoffSec: 300, MaxBackoffSec: 14400, PerDestination: 5, Concurrency: 50, Port: 25, TLS: "may", DANE: true, MTASTS: true},
		Relay:   Relay{Mode: RelayDirect, Port: 25, TLS: RelayStartTLS},
		Certs:   DefaultCerts(),
		Login:   Login{MaxFailures: 10, WindowMinutes: 15, LockMinutes: 15, MinPassword: 8},
		Network: Network{DNSSEC: "loopback", NTP: []string{"pool.ntp.org"}, BlockLists: []string{"zen.spamhaus.org", "bl.spamcop.net"}},
		Storage: Storage{KeepHours: 24, ExpungedDays: 14, JunkDays: 30, CompactRatio: 40},
		FTS:     FTS{CPU: 25},
		Log:     Log{AdminDays: 730},
	}
}

// Validate checks a section's rules that the tags can't say.
func (s *System) Validate() error {
	if s.Hostname != "" {
		if err := ValidateHostname("hostname", s.Hostname); err != nil {
			return err
		}
	}
	if s.Domain != "" {
		if err := ValidateDomainName("domain", s.Domain); err != nil {
			return err
		}
	}
	if s.Source != SourceLocal && s.Source != SourceLDAP && s.Source != SourceDomain {
		return Invalid("account-source", "%q is not one of local, ldap, domain", s.Source)
	}
	return nil
}

// Ports lists the enabled listeners by name.
func (s *Services) Ports() map[string]int {
	out := map[string]int{}
	add := func(on bool, name string, port int) {
		if on {
			out[name] = port
		}
	}
	add(s.SMTP.Enabled, "smtp", s.SMTP.Port)
	add(s.SMTPS.Enabled, "smtps", s.SMTPS.Port)
	add(s.Submission.Enabled, "submission", s.Submission.Port)
	add(s.IMAP.Enabled, "imap", s.IMAP.Port)
	add(s.IMAP.Enabled && s.IMAP.TLS, "imaps", s.IMAP.TLSPort)
	add(s.POP3.Enabled, "pop3", s.POP3.Port)
	add(s.POP3.Enabled && s.POP3.TLS, "pop3s", s.POP3.TLSPort)
	add(s.Autoconfig.Enabled, "autoconfig", s.Autoconfig.Port)
	add(s.Autoconfig.Enabled && s.Autoconfig.HTTP, "autoconfig-http", s.Autoconfig.HTTPPort)
	return out
}

// Validate refuses a port that two enabled listeners share (R6.18).
func (s *Services) Validate() error {
	used := map[int]string{}
	for _, name := range []string{"smtp", "smtps", "submission", "imap", "imaps", "pop3", "pop3s", "autoconfig", "autoconfig-http"} {
		port, on := s.Ports()[name]
		if !on {
			continue
		}
		if other, taken := used[port]; taken {
			return Invalid("port", "%d is the port of both %s and %s; give one of them another", port, other, name)
		}
		used[port] = name
	}
	return nil
}

// Validate keeps the banner to one clean line that starts with the host name (RFC 5321 §4.2).
func (d *Delivery) Validate() error {
	if len(d.Banner) > 400 {
		return Invalid("banner", "has %d octets, more than 400", len(d.Banner))
	}
	for _, r := range d.Banner {
		if r > 126 || unicode.IsControl(r) {
			return Invalid("banner", "contains %q; only printable ASCII is allowed", r)
		}
	}
	if first, _, _ := strings.Cut(d.Banner, " "); first != "$hostname" && first != "" {
		if err := ValidateHostname("banner", strings.ToLower(first)); err != nil {
			return Invalid("banner", "the first word must be the server's name; start with $hostname")
		}
	}
	if len(d.Postmasters) > MaxPostmasters {
		return Invalid("postmasters", "%d addresses are more than %d", len(d.Postmasters), MaxPostmasters)
	}
	for _, a := range d.Postmasters {
		local, domain, ok := SplitAddress(a)
		if !ok || strings.Contains(a, ",") {
			return Invalid("postmasters", "%q is no address", a)
		}
		if err := ValidateLocalPart("postmasters", local); err != nil {
			return err
		}
		if err := ValidateDomainName("postmasters", FoldDomain(domain)); err != nil {
			return err
		}
	}
	return nil
}

// MaxPostmasters bounds the list of external postmasters.
const MaxPostmasters = 100

// Validate checks the order of the waits.
func (q *Queue) Validate() error {
	if q.MinBackoffSec > q.MaxBackoffSec {
		return Invalid("min-backoff", "%d s is longer than max-backoff, %d s", q.MinBackoffSec, q.MaxBackoffSec)
	}
	return nil
}

// Validate checks addresses and networks.
func (n *Network) Validate() error {
	for _, c := range n.LAN {
		if _, err := ParsePrefix(c); err != nil {
			return Invalid("lan", "%q is no network; write it like 192.168.1.0/24", c)
		}
	}
	for name, list := range map[string][]string{"proxies": n.Proxies, "xclient": n.XClient} {
		for _, c := range list {
			p, err := ParsePrefix(c)
			if err != nil {
				return Invalid(name, "%q is no address or network; write it like 192.0.2.7 or 192.0.2.0/24", c)
			}
			if p.Bits() == 0 {
				return Invalid(name, "%s is the whole Internet: anybody could say to be anybody", c)
			}
		}
	}
	for _, r := range n.Resolvers {
		if _, err := netip.ParseAddrPort(r); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(r); err != nil {
			return Invalid("resolvers", "%q is no address; write it like 192.0.2.53 or 192.0.2.53:5353", r)
		}
	}
	for _, l := range n.BlockLists {
		if err := ValidateDomainName("block-lists", FoldDomain(l)); err != nil {
			return err
		}
	}
	for _, a := range n.PublicIP {
		if _, err := netip.ParseAddr(a); err != nil {
			return Invalid("public-address", "%q is no IP address", a)
		}
	}
	return nil
}

// Prefixes reads a list of networks that has been validated; what can't be read is left out.
func Prefixes(list []string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		if p, err := ParsePrefix(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// ParsePrefix reads a network or a single address.
func ParsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
