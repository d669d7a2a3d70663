package model

import (
	"encoding/base64"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Where a certificate comes from.
const (
	CertSelfSigned = "self-signed" // made here
	CertImported   = "imported"
	CertACME       = "acme" // ordered here, and renewed by itself
)

// Certificate is a TLS certificate of the services with its key.
type Certificate struct {
	Name    string   `cbor:"name" json:"name"`
	Cert    string   `cbor:"cert" json:"-"`                // PEM: leaf first, then the chain; empty: of CertACME
	Key     string   `cbor:"key" json:"-"`                 // sealed; PEM in rows of before; empty: of CertACME
	Names   []string `cbor:"names,omitempty" json:"names"` // what CertACME is ordered for
	Source  string   `cbor:"source" json:"source"`         // CertSelfSigned, CertImported or CertACME
	Default bool     `cbor:"default,omitempty" json:"default"`
	Created int64    `cbor:"created" json:"created"`
}

// IssuedCert is what came of the orders of a certificate of CertACME. It is no setting: a node
// that serves alone renews, too.
type IssuedCert struct {
	Name     string `cbor:"name" json:"name"`                 // of the Certificate
	Cert     string `cbor:"cert,omitempty" json:"-"`          // PEM: leaf first, then the chain; empty: none yet
	Key      string `cbor:"key,omitempty" json:"-"`           // sealed
	Created  int64  `cbor:"created,omitempty" json:"created"` // when Cert was issued (Unix seconds)
	Tried    int64  `cbor:"tried,omitempty" json:"tried"`     // when the last attempt began (Unix nanoseconds), 0: not yet
	Failures int    `cbor:"fail,omitempty" json:"failures"`   // attempts in a row that failed
	Next     int64  `cbor:"next,omitempty" json:"next"`       // after a failure: when the next attempt is due (Unix seconds)
	Error    string `cbor:"error,omitempty" json:"error"`     // why the last attempt failed, in the server's words
}

// MaxCertNames bounds the names of one order; the large public authorities take 100.
const MaxCertNames = 100

// ACMEAccount is this system's account at an ACME server (RFC 8555 §7.3).
type ACMEAccount struct {
	Directory string `cbor:"directory" json:"directory"`
	Contact   string `cbor:"contact,omitempty" json:"contact"`
	Location  string `cbor:"location" json:"location"` // the account's URL
	Key       string `cbor:"key" json:"-"`             // sealed PEM
	Created   int64  `cbor:"created" json:"created"`
}

// ACMEChallenge is what an ACME server is about to ask for. It is a row so that every node of a
// pair can answer, whichever is asked.
type ACMEChallenge struct {
	Type    string `cbor:"type"`  // http-01 or tls-alpn-01
	Token   string `cbor:"token"` // RFC 8555 §8.3
	Name    string `cbor:"name"`  // DNS name that is validated
	KeyAuth string `cbor:"auth"`  // key authorization, RFC 8555 §8.1
	Created int64  `cbor:"created"`
}

// How an ACME server is shown that a name is ours.
const (
	ChallengeHTTP = "http-01"     // RFC 8555 §8.3
	ChallengeTLS  = "tls-alpn-01" // RFC 8737
	ChallengeDNS  = "dns-01"      // RFC 8555 §8.4
)

// Certs is how certificates are watched and ordered.
type Certs struct {
	WarnDays int  `cbor:"warn" key:"warn-days" unit:"days" min:"1" max:"365" help:"warn when a certificate has fewer days left"`
	ACME     ACME `cbor:"acme" key:"acme"`
}

// ACME is the server that certificates are ordered from (RFC 8555), and how it is shown that names are ours.
type ACME struct {
	Directory    string   `cbor:"dir" key:"directory" help:"URL of the ACME server's directory"`
	Contact      string   `cbor:"contact" key:"contact" help:"mail address that the ACME server may write to"`
	Agreed       string   `cbor:"agreed" key:"agreed" readonly:"true" help:"directory whose terms of service were agreed to; set by mpctl cert acme set --agree-terms"`
	Root         []string `cbor:"root" key:"root" readonly:"true" help:"certificates that a private ACME server is trusted by (base64 DER); set by mpctl cert acme set --root FILE"`
	Challenge    string   `cbor:"challenge" key:"challenge" enum:"http-01,tls-alpn-01,dns-01" help:"how the server is shown that a name is ours"`
	HTTPPort     int      `cbor:"http" key:"http-port" min:"1" max:"65535" help:"TCP port for http-01; the server comes to 80"`
	TLSPort      int      `cbor:"tls" key:"tls-port" min:"1" max:"65535" help:"TCP port for tls-alpn-01; the server comes to 443"`
	RetrySec     int      `cbor:"retry" key:"retry" unit:"seconds" min:"1" max:"86400" help:"wait after a failed order; doubled each time, up to 12 hours"`
	KeepKey      bool     `cbor:"keepkey,omitempty" key:"keep-key" help:"renew certificates with the key that they have, so that TLSA records (DANE) stay right"`
	EABKeyID     string   `cbor:"eabid" key:"eab-key-id" help:"external account: key ID that the authority gave (RFC 8555 §7.3.4)"`
	EABKey       string   `cbor:"eab" key:"eab-key" secret:"true" readonly:"true" help:"external account: MAC key, sealed; set by mpctl cert acme set"`
	DNSServer    string   `cbor:"dns" key:"dns-server" help:"server that takes dynamic updates for dns-01 (RFC 2136): address or name, with :port if it is not 53"`
	DNSZone      string   `cbor:"zone" key:"dns-zone" help:"zone that is updated; empty: found by asking the server"`
	DNSKeyName   string   `cbor:"tsig" key:"dns-key-name" help:"name of the TSIG key that signs updates (RFC 8945)"`
	DNSAlgorithm string   `cbor:"alg" key:"dns-algorithm" enum:"hmac-sha256,hmac-sha512,hmac-sha384,hmac-sha224,hmac-sha1" help:"algorithm of the TSIG key"`
	DNSKey       string   `cbor:"dnskey" key:"dns-key" secret:"true" readonly:"true" help:"TSIG key, sealed; set by mpctl cert acme set"`
	DNSWaitSec   int      `cbor:"dnswait" key:"dns-wait" unit:"seconds" min:"0" max:"600" help:"wait until secondary DNS servers have the record"`
}

// LetsEncrypt is the directory of the largest public authority.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// DefaultCerts are the values before anybody sets one.
func DefaultCerts() Certs {
	return Certs{WarnDays: 14, ACME: ACME{
		Directory: LetsEncrypt, Challenge: ChallengeHTTP, HTTPPort: 80, TLSPort: 443, RetrySec: 300, DNSAlgorithm: "hmac-sha256",
	}}
}

// Validate checks what the tags can't say.
func (c *Certs) Validate() error { return c.ACME.validate() }

func (a *ACME) validate() error {
	u, err := url.Parse(a.Directory)
	if err != nil || u.Host == "" || u.User != nil || len(a.Directory) > 1000 {
		return Invalid("cert.acme.directory", "%.100q is no URL; write it like %s", a.Directory, LetsEncrypt)
	}
	if u.Scheme != "https" {
		return Invalid("cert.acme.directory", "%s is not https, which RFC 8555 §6.1 wants", a.Directory)
	}
	if a.Contact != "" {
		local, domain, ok := SplitAddress(a.Contact)
		if !ok || strings.ContainsAny(a.Contact, ",? ") {
			return Invalid("cert.acme.contact", "%q is no mail address", a.Contact)
		}
		if err := ValidateLocalPart("cert.acme.contact", local); err != nil {
			return err
		}
		if err := ValidateDomainName("cert.acme.contact", FoldDomain(domain)); err != nil {
			return err
		}
	}
	for _, r := range a.Root {
		if _, err := base64.StdEncoding.DecodeString(r); err != nil {
			return Invalid("cert.acme.root", "has something that is no base64")
		}
	}
	if len(a.EABKeyID) > 1000 {
		return Invalid("cert.acme.eab-key-id", "has %d octets, more than 1000", len(a.EABKeyID))
	}
	return a.validateDNS()
}

// Complete tells what is missing to order: secrets are not among the settings that are exported.
func (a *ACME) Complete() error {
	if (a.EABKeyID == "") != (a.EABKey == "") {
		return Invalid("cert.acme.eab-key-id", "an external account needs both its key ID and its key: mpctl cert acme set --eab-key-id ID --eab-key-file FILE")
	}
	if (a.DNSKeyName == "") != (a.DNSKey == "") {
		return Invalid("cert.acme.dns-key-name", "signed updates need both the name of the TSIG key and the key: mpctl cert acme set --dns-key-name NAME --dns-key-file FILE")
	}
	return nil
}

func (a *ACME) validateDNS() error {
	if a.DNSServer != "" {
		host, port, err := net.SplitHostPort(a.DNSServer)
		if err != nil {
			host, port = strings.Trim(a.DNSServer, "[]"), "53"
		}
		_, perr := netip.ParseAddrPort("127.0.0.1:" + port)
		if perr != nil || ValidateRelayHost("cert.acme.dns-server", host) != nil {
			return Invalid("cert.acme.dns-server", "%q is neither a name nor an address", a.DNSServer)
		}
	}
	if a.Challenge == ChallengeDNS && a.DNSServer == "" {
		return Invalid("cert.acme.dns-server", "dns-01 needs the DNS server that takes updates: mpctl cert acme set --challenge dns-01 --dns-server ADDRESS")
	}
	return nil
}

// ValidateCertName checks a name that a certificate is ordered for: a host name, perhaps with a
// first label "*" (RFC 8555 §7.1.3).
func ValidateCertName(field, name string) error {
	host := strings.TrimPrefix(name, "*.")
	if _, err := netip.ParseAddr(host); err == nil {
		return Invalid(field, "%s is an address; certificates are ordered for names", name)
	}
	return ValidateHostname(field, host)
}
