package api

import "mailplusd/admin/op"

// ConnectionPolicyOut is which clients may hand in mail.
type ConnectionPolicyOut struct {
	RejectUnknownClient bool `json:"reject_unknown_client" col:"REJECT UNKNOWN CLIENT"`
}

// ConnectionPolicySetIn changes it.
type ConnectionPolicySetIn struct {
	RejectUnknownClient *bool `json:"reject_unknown_client" flag:"reject-unknown-client" help:"refuse mail from clients without a host name (PTR) that leads back to their address"`
}

// SenderPolicyOut is which senders are taken.
type SenderPolicyOut struct {
	RejectNonFQDN       bool `json:"reject_non_fqdn" col:"REJECT NON-FQDN"`
	RejectUnknownDomain bool `json:"reject_unknown_domain" col:"REJECT UNKNOWN DOMAIN"`
}

// SenderPolicySetIn changes it.
type SenderPolicySetIn struct {
	RejectNonFQDN       *bool `json:"reject_non_fqdn" flag:"reject-non-fqdn" help:"refuse senders whose domain is not a full domain name"`
	RejectUnknownDomain *bool `json:"reject_unknown_domain" flag:"reject-unknown-domain" help:"refuse senders from other domains that have neither MX nor address in DNS"`
}

// Who may hand in mail (R7.63–R7.65, R2.24). Who has logged in or is trusted always may.
var (
	ConnectionPolicyShow = op.New[op.None, ConnectionPolicyOut]("delivery connection-policy show", op.Spec{Summary: "show which clients may hand in mail", Effect: op.Read})
	ConnectionPolicySet  = op.New[ConnectionPolicySetIn, ConnectionPolicyOut]("delivery connection-policy set", op.Spec{Summary: "say which clients may hand in mail", Effect: op.Update,
		Help:     "A client is told at RCPT. Who has logged in or is on the trusted list is never asked. While DNS does not answer the client is asked to come again.",
		Examples: []string{"mpctl delivery connection-policy set --reject-unknown-client on"}})
	SenderPolicyShow = op.New[op.None, SenderPolicyOut]("delivery sender-policy show", op.Spec{Summary: "show which senders are taken", Effect: op.Read})
	SenderPolicySet  = op.New[SenderPolicySetIn, SenderPolicyOut]("delivery sender-policy set", op.Spec{Summary: "say which senders are taken", Effect: op.Update,
		Examples: []string{"mpctl delivery sender-policy set --reject-unknown-domain on"}})
)
