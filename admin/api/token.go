package api

import "mailplusd/admin/op"

// TokenRow is a login token; its text is shown once.
type TokenRow struct {
	Name    string `json:"name" col:"NAME"`
	User    string `json:"user" col:"USER"`
	Token   string `json:"token" col:"TOKEN"`
	Expires string `json:"expires" col:"EXPIRES"`
}

// TokenAddIn is a new token.
type TokenAddIn struct {
	Name string `json:"name" arg:"1" help:"name of the token"`
	User string `json:"user" flag:"user" required:"true" complete:"user" help:"account for which it logs in"`
	Days int    `json:"days" flag:"days" min:"1" max:"3650" default:"365" help:"how long it is good"`
}

// TokenIn names a token.
type TokenIn struct {
	Name string `json:"name" arg:"1" help:"name of the token"`
}

// Login tokens.
var (
	TokenAdd    = op.New[TokenAddIn, TokenRow]("token add", op.Spec{Summary: "make a login token for mpctl --server", Effect: op.Create})
	TokenList   = op.New[op.None, []TokenRow]("token list", op.Spec{Summary: "list login tokens", Effect: op.Read})
	TokenDelete = op.New[TokenIn, op.None]("token delete", op.Spec{Summary: "delete a login token", Effect: op.Delete})
)
