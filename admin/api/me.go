package api

import "mailplusd/admin/op"

// MeOut is one's own account.
type MeOut struct {
	Name      string   `json:"name" col:"NAME"`
	Addresses []string `json:"addresses" col:"ADDRESSES"`
	Activated bool     `json:"activated" col:"ACTIVATED"`
	Messages  int      `json:"messages" col:"MESSAGES"`
	Bytes     int64    `json:"bytes" col:"OCTETS"`
}

// MePasswdIn is a new password of one's own.
type MePasswdIn struct {
	Password op.Secret `json:"password" secret:"password" help:"new password"`
}

// ClientRow is what a mail client needs.
type ClientRow struct {
	Service  string `json:"service" col:"SERVICE"`
	Server   string `json:"server" col:"SERVER"`
	Port     int    `json:"port" col:"PORT"`
	Security string `json:"security" col:"SECURITY"`
	Login    string `json:"login" col:"LOGIN"`
}

// One's own account.
var (
	MeShow           = op.New[op.None, MeOut]("me show", op.Spec{Summary: "show your account", Effect: op.Read, Role: op.RoleUser})
	MePasswd         = op.New[MePasswdIn, op.None]("me passwd", op.Spec{Summary: "set your password", Effect: op.Update, Alone: true, Role: op.RoleUser})
	MeClientSettings = op.New[op.None, []ClientRow]("me client-settings", op.Spec{Summary: "show what your mail client needs", Effect: op.Read, Role: op.RoleUser})
)
