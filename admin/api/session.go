package api

import "mailplusd/admin/op"

// SessionAddIn says how long.
type SessionAddIn struct {
	Minutes int `json:"minutes" flag:"minutes" default:"480" min:"1" max:"1440" unit:"minutes" help:"how long the session is good for"`
}

// SessionOut is a session; its token is shown once.
type SessionOut struct {
	Token   string `json:"token" col:"TOKEN"`
	User    string `json:"user" col:"USER"`
	Expires string `json:"expires" col:"EXPIRES"`
}

// Sessions: one login for many commands.
var SessionAdd = op.New[SessionAddIn, SessionOut]("login session add", op.Spec{Summary: "log in once for many commands: password and one-time code become a token for some hours", Effect: op.Create, Role: op.RoleUser, Alone: true,
	Help:     "It takes --server and --login. Sessions are in mpctl token list, and end with mpctl token delete.",
	Examples: []string{"mpctl --server mail.example.com:2825 --login alice login session add -o name > session", "mpctl --server mail.example.com:2825 --token-file session status"}})
