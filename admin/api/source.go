package api

import "mailplusd/admin/op"

// SourceRow is a place where accounts may come from (R5.07).
type SourceRow struct {
	Type       string `json:"type" col:"TYPE"` // local, ldap or domain
	InForce    bool   `json:"in_force" col:"IN FORCE"`
	Configured bool   `json:"configured" col:"CONFIGURED"`
	Accounts   int    `json:"accounts" col:"ACCOUNTS"`
}

// SourceSetIn chooses the account source.
type SourceSetIn struct {
	Type     string  `json:"type" arg:"1" enum:"local,ldap,domain" help:"where accounts come from"`
	MoveMail *string `json:"move_mail" flag:"move-mail" enum:"yes,no" help:"from local to a directory: give mail, forward, automatic reply and second factor of each local account to the directory account of the same name; asked for on a terminal"`
}

// Account sources: exactly one is in force.
var (
	AccountSourceShow = op.New[op.None, []SourceRow]("account source show", op.Spec{Summary: "show where accounts come from", Effect: op.Read})
	AccountSourceSet  = op.New[SourceSetIn, []SourceRow]("account source set", op.Spec{Summary: "choose where accounts come from; only a bound directory can be chosen", Effect: op.Update,
		Help: "The accounts of the directory are read first. Accounts of different sources have addresses and mailboxes of their own, even with the same name;\n" +
			"who switches back finds the mail that was there. Other sessions than new ones are not touched.",
		Examples: []string{"mpctl account source set ldap --move-mail yes", "mpctl account source set domain --move-mail no"}})
)
