package api

import "mailplusd/admin/op"

// DomainSTSRow is what a domain tells others about TLS towards its servers.
type DomainSTSRow struct {
	Domain   string   `json:"domain" col:"DOMAIN"`
	Mode     string   `json:"mode" col:"MODE"`
	MaxAge   int      `json:"max_age" col:"MAX AGE"` // seconds
	ReportTo []string `json:"report_to" col:"REPORTS TO"`
	URL      string   `json:"url" col:"POLICY AT"`
	ID       string   `json:"id" col:"ID"`
	Text     string   `json:"text" col:"POLICY,wide"`
}

// DomainSTSSetIn changes what is given.
type DomainSTSSetIn struct {
	Name     string   `json:"name" arg:"1" complete:"domain" help:"domain name"`
	Mode     *string  `json:"mode" flag:"mode" enum:"off,none,testing,enforce" help:"testing: others tell of failures and send all the same; enforce: they send to a verified server or not at all; none: there is no policy any more; off: nothing is served"`
	MaxAge   *int     `json:"max_age" flag:"max-age" unit:"seconds" min:"0" max:"31557600" help:"how long others keep the policy"`
	ReportTo []string `json:"report_to" flag:"report-to" help:"mail address that others send their reports on TLS to (RFC 8460); may be repeated; empty: no reports"`
}

// MTA-STS of hosted domains (RFC 8461).
var (
	DomainSTSShow = op.New[DomainIn, DomainSTSRow]("domain mta-sts show", op.Spec{Summary: "show the MTA-STS policy that other servers find", Effect: op.Read})
	DomainSTSSet  = op.New[DomainSTSSetIn, DomainSTSRow]("domain mta-sts set", op.Spec{Summary: "tell other servers to send here over verified TLS only", Effect: op.Update,
		Help:     "The policy is served under https://mta-sts.DOMAIN by the listener of mpctl service autoconfig, and announced by records that mpctl domain dns-records prints. Begin with testing and enforce when the reports are good. To take a policy back, set none, wait for as long as the old one says, then off.",
		Examples: []string{"mpctl domain mta-sts set example.com --mode testing --report-to postmaster@example.com"}})
)
