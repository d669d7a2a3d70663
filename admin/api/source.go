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
	Type string `json:"type" arg:"1" enum:"local,ldap,domain" help:"where accounts come from"`
}

// Account sources: exactly one is in force.
var (
	AccountSourceShow = op.New[op.None, []SourceRow]("account source show", op.Spec{Summary: "show where accounts come from", Effect: op.Read})
	AccountSourceSet  = op.New[SourceSetIn, []SourceRow]("account source set", op.Spec{Summary: "choose where accounts come from; only a configured directory can be chosen", Effect: op.Update})
)
