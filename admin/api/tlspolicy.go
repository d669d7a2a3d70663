package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// TLSPolicyRow is how mail to a destination is protected.
type TLSPolicyRow struct {
	Domain      string   `json:"domain" col:"DESTINATION"`
	Level       string   `json:"level" col:"LEVEL"`
	Name        []string `json:"name" col:"NAMES"`
	Fingerprint []string `json:"fingerprint" col:"FINGERPRINTS"`
}

// TLSPolicyIn names a destination.
type TLSPolicyIn struct {
	Domain string `json:"domain" arg:"1" complete:"tlspolicy" help:"domain; .domain for all below it; * for all that have none of their own"`
}

// TLSPolicySetIn makes or changes a policy.
type TLSPolicySetIn struct {
	Domain      string   `json:"domain" arg:"1" complete:"tlspolicy" help:"domain; .domain for all below it; * for all that have none of their own; or the host of a relay"`
	Level       *string  `json:"level" flag:"level" enum:"none,may,require,verify,dane,fingerprint" help:"none: in clear; may: encrypted when offered; require: encrypted, or the mail waits; verify: and the certificate must be trusted and have the right name; dane: and DNSSEC must vouch for it; fingerprint: and it must be the given one"`
	Name        []string `json:"name" flag:"name" help:"of verify: name that the certificate may have, .name for all below it; may be repeated; default: the domain and what is below it"`
	Fingerprint []string `json:"fingerprint" flag:"fingerprint" help:"of fingerprint: SHA-256 of the certificate or of its public key; may be repeated"`
}

// TrustedCARow is a certificate that is trusted.
type TrustedCARow struct {
	Name        string `json:"name" col:"NAME"`
	Subject     string `json:"subject" col:"FOR"`
	NotAfter    string `json:"not_after" col:"UNTIL"`
	Count       int    `json:"count" col:"CERTIFICATES"`
	Fingerprint string `json:"fingerprint" col:"SHA-256,wide"`
}

// TrustedCAAddIn is a new one.
type TrustedCAAddIn struct {
	Name string `json:"name" arg:"1" help:"name to give it here"`
	Cert string `json:"cert" file:"cert" help:"PEM file: the authority's certificate, or that of a single server"`
}

// TrustedCAIn names one.
type TrustedCAIn struct {
	Name string `json:"name" arg:"1" complete:"trustedca" help:"name of the entry"`
}

// TLSDefaultOut is how mail to destinations without a policy is protected.
type TLSDefaultOut struct {
	TLS     string `json:"tls" col:"TLS"`   // may or none
	DANE    string `json:"dane" col:"DANE"` // on, or why it is off
	STS     string `json:"mta_sts" col:"MTA-STS"`
	Reports bool   `json:"reports" col:"REPORTS"` // are sent
}

// TLSDefaultSetIn changes what is given.
type TLSDefaultSetIn struct {
	TLS     *string `json:"tls" flag:"tls" enum:"may,none" help:"may: encrypted when the other server offers it; none: in clear"`
	Reports *bool   `json:"reports" flag:"reports" help:"send each domain that asks for it a report a day on how TLS towards it went (RFC 8460)"`
	STS     *bool   `json:"mta_sts" flag:"mta-sts" help:"hold servers to their domains' MTA-STS policies"`
	DANE    *bool   `json:"dane" flag:"dane" help:"hold servers to their TLSA records, where a DNS server that validates is trusted (mpctl net dns set --dnssec)"`
}

// TLS towards other servers.
var (
	TLSPolicyList = op.New[ListIn, []TLSPolicyRow]("delivery tls list", op.Spec{Summary: "list the destinations with a TLS policy of their own", Effect: op.Read})
	TLSPolicyShow = op.New[TLSPolicyIn, TLSPolicyRow]("delivery tls show", op.Spec{Summary: "show which TLS policy holds for a destination", Effect: op.Read})
	TLSPolicySet  = op.New[TLSPolicySetIn, TLSPolicyRow]("delivery tls set", op.Spec{Summary: "say how mail to a destination is protected", Effect: op.Update,
		Help:     "A policy comes before what the destination says of itself by DANE and MTA-STS. For the host of a relay whose certificate is verified, names and fingerprints of a policy hold instead of the host's name.",
		Examples: []string{"mpctl delivery tls set partner.example --level verify", "mpctl delivery tls set bank.example --level verify --name mx.provider.example", "mpctl delivery tls set .gov.example --level require"}})
	TLSPolicyDelete = op.New[TLSPolicyIn, op.None]("delivery tls delete", op.Spec{Summary: "delete a policy; the default holds again", Effect: op.Delete})

	TLSDefaultShow = op.New[op.None, TLSDefaultOut]("delivery tls default show", op.Spec{Summary: "show how mail to destinations without a policy is protected", Effect: op.Read})
	TLSDefaultSet  = op.New[TLSDefaultSetIn, TLSDefaultOut]("delivery tls default set", op.Spec{Summary: "say how mail to destinations without a policy is protected", Effect: op.Update})

	TrustedCAAdd    = op.New[TrustedCAAddIn, TrustedCARow]("delivery tls ca add", op.Spec{Summary: "trust an authority, or a single certificate, besides those of the system", Effect: op.Create, Examples: []string{"mpctl delivery tls ca add provider --cert ca.pem"}})
	TrustedCAList   = op.New[ListIn, []TrustedCARow]("delivery tls ca list", op.Spec{Summary: "list whom other servers' certificates are trusted by, besides the system's", Effect: op.Read})
	TrustedCADelete = op.New[TrustedCAIn, op.None]("delivery tls ca delete", op.Spec{Summary: "trust an authority no more", Effect: op.Delete})
)

// Validate refuses a certificate that can't be read before it is sent.
func (in *TrustedCAAddIn) Validate() error {
	c := model.TrustedCA{Name: in.Name, Cert: in.Cert}
	return c.Validate()
}
