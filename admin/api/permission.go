package api

import "mailplusd/admin/op"

// PermissionRow is which services an account may use (R2.44).
type PermissionRow struct {
	Name    string   `json:"name" col:"NAME"`
	Allowed []string `json:"allowed" col:"ALLOWED"`
	Denied  []string `json:"denied" col:"DENIED"`
}

// PermissionShowIn names users.
type PermissionShowIn struct {
	Names []string `json:"names" arg:"1..." optional:"true" complete:"user" help:"login name; none: every account"`
}

// PermissionSetIn allows or denies services.
type PermissionSetIn struct {
	Name  string   `json:"name" arg:"1" complete:"user" help:"login name"`
	Allow []string `json:"allow" flag:"allow" enum:"imap,pop3,smtp,self-service,all" help:"service to allow; all: every one"`
	Deny  []string `json:"deny" flag:"deny" enum:"imap,pop3,smtp,self-service,all" help:"service to deny; all: every one"`
}

// Validate wants something to do, and no service both ways.
func (in *PermissionSetIn) Validate() error {
	if len(in.Allow)+len(in.Deny) == 0 {
		return op.Errorf(op.Usage, "give --allow SERVICE or --deny SERVICE")
	}
	for _, a := range in.Allow {
		for _, d := range in.Deny {
			if a == d || a == "all" || d == "all" {
				return op.Errorf(op.Usage, "%s can't be both allowed and denied", a)
			}
		}
	}
	return nil
}

// Which services an account may use.
var (
	AppPermissionShow = op.New[PermissionShowIn, []PermissionRow]("user app-permission show", op.Spec{Summary: "show which services accounts may use", Effect: op.Read})
	AppPermissionSet  = op.New[PermissionSetIn, PermissionRow]("user app-permission set", op.Spec{Summary: "allow or deny services to an account", Effect: op.Update,
		Examples: []string{"mpctl user app-permission set carol --deny pop3", "mpctl user app-permission set carol --allow all"}})
)
