package api

import "mailplusd/admin/op"

// ConnectionPolicyOut is which clients may hand in mail.
type ConnectionPolicyOut struct {
	RejectUnknownClient bool `json:"reject_unknown_client" col:"REJECT UNKNOWN CLIENT"`
	LimitConnections    bool `json:"limit_connections" col:"LIMIT CONNECTIONS"`
	MaxConnections      int  `json:"max_connections" col:"MAX CONNECTIONS"`
	LimitMessages       bool `json:"limit_messages" col:"LIMIT MESSAGES"`
	MaxMessages         int  `json:"max_messages" col:"MAX MESSAGES A MINUTE"`
	LimitRate           bool `json:"limit_rate" col:"LIMIT RATE"`
	MaxRate             int  `json:"max_rate" col:"MAX CONNECTIONS A MINUTE"`
}

// ConnectionPolicySetIn changes it.
type ConnectionPolicySetIn struct {
	RejectUnknownClient *bool `json:"reject_unknown_client" flag:"reject-unknown-client" help:"refuse mail from clients without a host name (PTR) that leads back to their address"`
	LimitConnections    *bool `json:"limit_connections" flag:"limit-connections" help:"refuse a client's further connections while it has --max-connections"`
	MaxConnections      *int  `json:"max_connections" flag:"max-connections" min:"1" max:"100000" help:"connections of one client to one SMTP port at a time"`
	LimitMessages       *bool `json:"limit_messages" flag:"limit-messages" help:"block a client for a minute that sends more than --max-messages"`
	MaxMessages         *int  `json:"max_messages" flag:"max-messages" min:"1" max:"1000000" help:"messages of one client within a minute"`
	LimitRate           *bool `json:"limit_rate" flag:"limit-rate" help:"block a client for a minute that connects more often than --max-rate"`
	MaxRate             *int  `json:"max_rate" flag:"max-rate" min:"1" max:"1000000" help:"connections of one client to one SMTP port within a minute"`
}

// BlockRow is a client that is refused for a while.
type BlockRow struct {
	Network string `json:"network" col:"CLIENT"`
	Why     string `json:"why" col:"TOO MANY"` // messages or connections
	Until   string `json:"until" col:"UNTIL"`
}

// BlockIn names a client.
type BlockIn struct {
	Address string `json:"address" arg:"1" help:"address of the client"`
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

// Who may hand in mail (R7.63–R7.71, R2.24). Who has logged in or is trusted always may.
var (
	ConnectionPolicyShow = op.New[op.None, ConnectionPolicyOut]("delivery connection-policy show", op.Spec{Summary: "show which clients may hand in mail", Effect: op.Read})
	ConnectionPolicySet  = op.New[ConnectionPolicySetIn, ConnectionPolicyOut]("delivery connection-policy set", op.Spec{Summary: "say which clients may hand in mail", Effect: op.Update,
		Help:     "A client is told at RCPT. Who has logged in or is on the trusted list is never asked. While DNS does not answer the client is asked to come again.",
		Examples: []string{"mpctl delivery connection-policy set --reject-unknown-client on"}})
	BlockList   = op.New[ListIn, []BlockRow]("delivery block list", op.Spec{Summary: "list the clients that are refused for a while, by both nodes of a pair", Effect: op.Read, Local: true})
	BlockDelete = op.New[BlockIn, op.None]("delivery block delete", op.Spec{Summary: "let a client in again", Effect: op.Delete, Local: true, Alone: true})

	SenderPolicyShow = op.New[op.None, SenderPolicyOut]("delivery sender-policy show", op.Spec{Summary: "show which senders are taken", Effect: op.Read})
	SenderPolicySet  = op.New[SenderPolicySetIn, SenderPolicyOut]("delivery sender-policy set", op.Spec{Summary: "say which senders are taken", Effect: op.Update,
		Examples: []string{"mpctl delivery sender-policy set --reject-unknown-domain on"}})
)
