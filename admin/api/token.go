package api

import "mailplusd/admin/op"

// TokenRow is a login token; its text is shown once.
type TokenRow struct {
	Name    string `json:"name" col:"NAME"`
	Kind    string `json:"kind" col:"KIND"` // token, certificate or session
	User    string `json:"user" col:"USER"`
	Token   string `json:"token" col:"TOKEN"`
	Expires string `json:"expires" col:"EXPIRES"`
}

// TokenAddIn is a new token.
type TokenAddIn struct {
	Name string `json:"name" arg:"1" help:"name of the token"`
	User string `json:"user" flag:"user" required:"true" complete:"user" help:"account for which it logs in"`
	Days int    `json:"days" flag:"days" min:"1" max:"3650" default:"365" help:"how long it is good"`
	Cert string `json:"cert" file:"cert" optional:"true" help:"PEM file with a TLS client certificate: it logs in instead of a token"`
}

// TokenIn names a token.
type TokenIn struct {
	Name string `json:"name" arg:"1" complete:"token" help:"name of the token"`
}

// Login tokens.
var (
	TokenAdd    = op.New[TokenAddIn, TokenRow]("token add", op.Spec{Summary: "let mpctl --server log in with a token or a client certificate", Help: "A token is shown once. With --cert the certificate in that file logs in from then on; it need not be signed by anybody, since it is known by its SHA-256.", Effect: op.Create, Examples: []string{"mpctl token add backup --user alice > token", "mpctl token add laptop --user alice --cert laptop.pem", "mpctl --server mail.example.com:2825 --client-cert laptop.pem --client-key laptop.key status"}})
	TokenList   = op.New[op.None, []TokenRow]("token list", op.Spec{Summary: "list login tokens and client certificates", Effect: op.Read})
	TokenDelete = op.New[TokenIn, op.None]("token delete", op.Spec{Summary: "delete a login token or client certificate: it is refused from then on", Effect: op.Delete})
)
