package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// RelayOut is how mail for other servers leaves.
type RelayOut struct {
	Mode     string `json:"mode" col:"MODE"`
	Host     string `json:"host" col:"HOST"`
	Port     int    `json:"port" col:"PORT"`
	TLS      string `json:"tls" col:"TLS"`
	Verify   bool   `json:"verify" col:"VERIFIED"` // the certificate, with require and wrapper
	Auth     bool   `json:"auth" col:"LOGIN"`
	User     string `json:"user" col:"USER"`
	Password string `json:"password" col:"PASSWORD"` // set, not set, or not readable here
	Rules    int    `json:"rules" col:"RULES"`
	DANE     string `json:"dane" col:"DANE"` // of mail that goes direct: on, or why it is off
}

// RelaySetIn changes what is given.
type RelaySetIn struct {
	Mode     *string   `json:"mode" flag:"mode" enum:"direct,single,multi" help:"direct, through a single host, or by rules (multi; what no rule matches goes direct)"`
	Host     *string   `json:"host" flag:"host" help:"relay host: name or address"`
	Port     *int      `json:"port" flag:"port" min:"1" max:"65535" help:"TCP port of the relay host (25, 587, or 465 with wrapper)"`
	TLS      *string   `json:"tls" flag:"tls" enum:"none,starttls,require,wrapper" help:"starttls: when offered; require: or the mail waits; wrapper: TLS from the start (SMTPS)"`
	Verify   *bool     `json:"verify" flag:"verify" help:"with require and wrapper: the relay host's certificate must be trusted and have its name; on by itself for a new host"`
	Auth     *bool     `json:"auth" flag:"auth" help:"log in at the relay host"`
	User     *string   `json:"user" flag:"user" help:"account at the relay host"`
	Password op.Secret `json:"password" secret:"password" optional:"true" help:"password at the relay host"`
}

// RelayRuleRow is a rule.
type RelayRuleRow struct {
	Name    string   `json:"name" col:"NAME"`
	Kind    string   `json:"kind" col:"KIND"`
	Host    string   `json:"host" col:"HOST"`
	Port    int      `json:"port" col:"PORT"`
	TLS     string   `json:"tls" col:"TLS"`
	Verify  bool     `json:"verify" col:"VERIFIED"` // the certificate, with require and wrapper
	User    string   `json:"user" col:"USER,wide"`
	Address []string `json:"address" col:"ADDRESSES"`
	Domain  []string `json:"domain" col:"DOMAINS"`
	InForce bool     `json:"in_force" col:"IN FORCE"` // only in mode multi
}

// RelayRuleAddIn is a new rule.
type RelayRuleAddIn struct {
	Name     string    `json:"name" arg:"1" help:"name of the rule"`
	Kind     string    `json:"kind" flag:"kind" enum:"recipient,sender" required:"true" help:"whose address is compared; a rule by recipient wins over one by sender"`
	Host     string    `json:"host" flag:"host" required:"true" help:"relay host: name or address"`
	Port     int       `json:"port" flag:"port" min:"1" max:"65535" default:"25" help:"TCP port of the relay host"`
	TLS      string    `json:"tls" flag:"tls" enum:"none,starttls,require,wrapper" default:"starttls" help:"starttls: when offered; require: or the mail waits; wrapper: TLS from the start (SMTPS)"`
	Verify   *bool     `json:"verify" flag:"verify" help:"with require and wrapper: the relay host's certificate must be trusted and have its name; on by itself"`
	User     string    `json:"user" flag:"user" help:"account at the relay host; none: no login"`
	Password op.Secret `json:"password" secret:"password" optional:"true" help:"password at the relay host"`
	Address  []string  `json:"address" flag:"address" help:"address that the rule is for; may be repeated"`
	Domain   []string  `json:"domain" flag:"domain" help:"domain that the rule is for; may be repeated"`
}

// RelayRuleIn names a rule.
type RelayRuleIn struct {
	Name string `json:"name" arg:"1" complete:"relayrule" help:"name of the rule"`
}

// RelayRuleSetIn changes what is given.
type RelayRuleSetIn struct {
	Name     string    `json:"name" arg:"1" complete:"relayrule" help:"name of the rule"`
	Kind     *string   `json:"kind" flag:"kind" enum:"recipient,sender" help:"whose address is compared"`
	Host     *string   `json:"host" flag:"host" help:"relay host: name or address"`
	Port     *int      `json:"port" flag:"port" min:"1" max:"65535" help:"TCP port of the relay host"`
	TLS      *string   `json:"tls" flag:"tls" enum:"none,starttls,require,wrapper" help:"protection towards the relay host"`
	Verify   *bool     `json:"verify" flag:"verify" help:"with require and wrapper: the relay host's certificate must be trusted and have its name"`
	User     *string   `json:"user" flag:"user" help:"account at the relay host; empty: no login"`
	Password op.Secret `json:"password" secret:"password" optional:"true" help:"password at the relay host"`
	Add      []string  `json:"add" flag:"add" help:"address or domain to add; may be repeated"`
	Remove   []string  `json:"remove" flag:"remove" help:"address or domain to take out; may be repeated"`
	Rename   *string   `json:"rename" flag:"rename" help:"new name"`
}

// TrustedRow is a server that may send without login.
type TrustedRow struct {
	Name    string `json:"name" col:"NAME"`
	Network string `json:"network" col:"ADDRESS OR NETWORK"`
}

// TrustedAddIn is a new entry of the trusted list.
type TrustedAddIn struct {
	Name    string `json:"name" arg:"1" help:"name of the entry"`
	Network string `json:"network" arg:"2" help:"address of the other server, or a network such as 192.0.2.0/24"`
}

// TrustedSetIn changes one.
type TrustedSetIn struct {
	Name    string  `json:"name" arg:"1" complete:"trusted" help:"name of the entry"`
	Network *string `json:"network" flag:"network" help:"address of the other server, or a network"`
	Rename  *string `json:"rename" flag:"rename" help:"new name"`
}

// TrustedIn names one.
type TrustedIn struct {
	Name string `json:"name" arg:"1" complete:"trusted" help:"name of the entry"`
}

// RelayDomainRow is a domain whose mail is taken for its own server.
type RelayDomainRow struct {
	Name   string `json:"name" col:"NAME"`
	Domain string `json:"domain" col:"DOMAIN"`
}

// RelayDomainAddIn is a new one.
type RelayDomainAddIn struct {
	Name   string `json:"name" arg:"1" help:"name of the entry"`
	Domain string `json:"domain" arg:"2" help:"domain whose mail is taken and passed on to its own server"`
}

// RelayDomainSetIn changes one.
type RelayDomainSetIn struct {
	Name   string  `json:"name" arg:"1" complete:"relaydomain" help:"name of the entry"`
	Domain *string `json:"domain" flag:"domain" help:"domain whose mail is taken"`
	Rename *string `json:"rename" flag:"rename" help:"new name"`
}

// RelayDomainIn names one.
type RelayDomainIn struct {
	Name string `json:"name" arg:"1" complete:"relaydomain" help:"name of the entry"`
}

// CheckRelayDomainIn names a domain.
type CheckRelayDomainIn struct {
	Domain string `json:"domain" arg:"1" optional:"true" complete:"relaydomain" help:"relay domain; none: every one"`
}

// PostmasterOut is who gets system mail besides the administrators.
type PostmasterOut struct {
	Enabled bool     `json:"enabled" col:"ENABLED"`
	Address []string `json:"address" col:"ADDRESSES"`
}

// PostmasterIn names external postmasters.
type PostmasterIn struct {
	Address []string `json:"address" arg:"1..." help:"mail address elsewhere"`
}

// DNSOut is who answers DNS.
type DNSOut struct {
	Preferred string   `json:"preferred" col:"PREFERRED"`
	Alternate []string `json:"alternate" col:"ALTERNATE"`
	Source    string   `json:"source" col:"FROM"`            // set, or host
	DNSSEC    string   `json:"dnssec" col:"DNSSEC BELIEVED"` // of which: loopback, all, none
	Validates []string `json:"validates" col:"VALIDATED BY"` // servers whose word on DNSSEC counts
}

// DNSSetIn changes it.
type DNSSetIn struct {
	Preferred *string  `json:"preferred" flag:"preferred" help:"DNS server that is asked first, address or address:port; with relay domains the internal one; empty: those of the host"`
	Alternate []string `json:"alternate" flag:"alternate" help:"DNS server that is asked when the first does not answer; with relay domains the external one; may be repeated"`
	DNSSEC    *string  `json:"dnssec" flag:"dnssec" enum:"loopback,all,none" help:"which of them are believed when they say that they have checked DNSSEC; without one there is no DANE"`
}

// Sending through other servers and for them (R7.07–R7.09, R7.78–R7.115).
var (
	RelayShow = op.New[op.None, RelayOut]("relay show", op.Spec{Summary: "show how mail for other servers leaves", Effect: op.Read})
	RelaySet  = op.New[RelaySetIn, RelayOut]("relay set", op.Spec{Summary: "say how mail for other servers leaves", Effect: op.Update,
		Examples: []string{"mpctl relay set --mode single --host smtp.provider.example --port 587 --tls require --auth on --user me --password-file pw", "mpctl relay set --mode direct"}})
	RelayRuleAdd = op.New[RelayRuleAddIn, RelayRuleRow]("relay rule add", op.Spec{Summary: "send some mail through a host of its own", Effect: op.Create,
		Examples: []string{"mpctl relay rule add partner --kind recipient --domain partner.example --host gw.partner.example"}})
	RelayRuleList   = op.New[ListIn, []RelayRuleRow]("relay rule list", op.Spec{Summary: "list the rules", Effect: op.Read})
	RelayRuleShow   = op.New[RelayRuleIn, RelayRuleRow]("relay rule show", op.Spec{Summary: "show a rule", Effect: op.Read})
	RelayRuleSet    = op.New[RelayRuleSetIn, RelayRuleRow]("relay rule set", op.Spec{Summary: "change a rule", Effect: op.Update})
	RelayRuleDelete = op.New[RelayRuleIn, op.None]("relay rule delete", op.Spec{Summary: "delete a rule; its mail goes direct, or by another one", Effect: op.Delete})

	TrustedAdd    = op.New[TrustedAddIn, TrustedRow]("relay trusted add", op.Spec{Summary: "let another server send through this one without login", Effect: op.Create, Examples: []string{"mpctl relay trusted add office 192.0.2.7"}})
	TrustedList   = op.New[ListIn, []TrustedRow]("relay trusted list", op.Spec{Summary: "list the servers that may send without login", Effect: op.Read})
	TrustedSet    = op.New[TrustedSetIn, TrustedRow]("relay trusted set", op.Spec{Summary: "change an entry of the trusted list", Effect: op.Update})
	TrustedDelete = op.New[TrustedIn, op.None]("relay trusted delete", op.Spec{Summary: "take an entry off the trusted list", Effect: op.Delete})

	RelayDomainAdd    = op.New[RelayDomainAddIn, RelayDomainRow]("relay domain add", op.Spec{Summary: "take a domain's mail and pass it on to its own server", Effect: op.Create, Examples: []string{"mpctl relay domain add branch branch.example"}})
	RelayDomainList   = op.New[ListIn, []RelayDomainRow]("relay domain list", op.Spec{Summary: "list the domains that mail is taken for", Effect: op.Read})
	RelayDomainSet    = op.New[RelayDomainSetIn, RelayDomainRow]("relay domain set", op.Spec{Summary: "change an entry", Effect: op.Update})
	RelayDomainDelete = op.New[RelayDomainIn, op.None]("relay domain delete", op.Spec{Summary: "take no more mail for a domain; what is queued still goes out", Effect: op.Delete})

	CheckRelayDomain = op.New[CheckRelayDomainIn, []Finding]("check relay-domain", op.Spec{Summary: "check that a relay domain's mail comes here, and finds its own server", Effect: op.Read, Local: true,
		Help: "The first DNS server (mpctl net dns set) is taken for the internal one, the second for the external one."})

	PostmasterShow    = op.New[op.None, PostmasterOut]("delivery postmaster show", op.Spec{Summary: "show the external postmasters", Effect: op.Read})
	PostmasterEnable  = op.New[op.None, PostmasterOut]("delivery postmaster enable", op.Spec{Summary: "send them what other servers write to postmaster and mailer-daemon of the hosted domains", Effect: op.Update})
	PostmasterDisable = op.New[op.None, PostmasterOut]("delivery postmaster disable", op.Spec{Summary: "only administrators get system mail", Effect: op.Update})
	PostmasterAdd     = op.New[PostmasterIn, PostmasterOut]("delivery postmaster add", op.Spec{Summary: "add external postmasters", Effect: op.Create})
	PostmasterDelete  = op.New[PostmasterIn, PostmasterOut]("delivery postmaster delete", op.Spec{Summary: "take external postmasters off the list", Effect: op.Delete})

	NetDNSShow = op.New[op.None, DNSOut]("net dns show", op.Spec{Summary: "show which DNS servers are asked", Effect: op.Read})
	NetDNSSet  = op.New[DNSSetIn, DNSOut]("net dns set", op.Spec{Summary: "name the DNS servers that are asked", Effect: op.Update, Examples: []string{"mpctl net dns set --preferred 10.0.0.53 --alternate 192.0.2.53"}})
)

// Validate refuses a rule that could never match before it is sent.
func (in *RelayRuleAddIn) Validate() error {
	pw := ""
	if in.Password != "" {
		pw = "given"
	}
	r := model.RelayRule{Name: in.Name, Kind: in.Kind, Host: in.Host, Port: in.Port, TLS: in.TLS, User: in.User, Password: pw,
		Address: append([]string(nil), in.Address...), Domain: append([]string(nil), in.Domain...)}
	return r.Validate()
}
