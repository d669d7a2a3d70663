package api

import "mailplusd/admin/op"

// AccountRow is an account with its activation (R5.22–R5.24).
type AccountRow struct {
	Name      string `json:"name" col:"NAME"`
	Setting   string `json:"setting" col:"SETTING"`           // activate, deactivate or empty
	Activated bool   `json:"activated" col:"ACTIVATED"`       // a seat is taken
	By        string `json:"by" col:"DECIDED BY"`             // user, group NAME or default
	Status    string `json:"status" col:"STATUS"`             // normal, disabled or username not supported
	CanUse    bool   `json:"can_use_mail" col:"CAN USE MAIL"` // activated and normal
	Address   string `json:"address" col:"ADDRESS,wide"`
}

// AccountList is all accounts and the seats.
type AccountList struct {
	Accounts []AccountRow `json:"accounts"`
	Used     int          `json:"used"`
	Seats    int          `json:"seats"`
	Unused   int          `json:"unused"`
}

// AccountIn names users.
type AccountIn struct {
	Names []string `json:"names" arg:"1..." complete:"user" help:"login name"`
}

// AccountNameIn is one row of a bulk activation.
type AccountNameIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name"`
}

// AccountChange tells what an activation did.
type AccountChange struct {
	Changed int `json:"changed" col:"CHANGED"`
	Used    int `json:"used" col:"SEATS USED"`
	Seats   int `json:"seats" col:"SEATS"`
}

// AccountGroupIn names groups.
type AccountGroupIn struct {
	Names []string `json:"names" arg:"1..." complete:"group" help:"group"`
}

// AccountGroupRow is a group's setting.
type AccountGroupRow struct {
	Name    string `json:"name" col:"GROUP"`
	Setting string `json:"setting" col:"SETTING"`
	Members int    `json:"members" col:"MEMBERS"`
}

// AccountDefault is the default status (R5.29).
type AccountDefault struct {
	ActivateAll bool `json:"activate_all" col:"ACTIVATE ALL"`
}

// AccountDefaultIn sets it.
type AccountDefaultIn struct {
	ActivateAll bool `json:"activate_all" flag:"activate-all" required:"true" help:"activate every user that neither he nor a group decides about"`
}

// Accounts: who may use mail (R5.16–R5.31).
var (
	AccountListOp = op.New[ListIn, AccountList]("account list", op.Spec{Summary: "list accounts, their activation and the seats", Effect: op.Read})

	AccountActivate = op.New[AccountIn, AccountChange]("account activate", op.Spec{
		Summary: "activate accounts: all of those named, or none; with --file row by row", Effect: op.Update, Bulk: true,
		Examples: []string{"mpctl account activate carol dave", "mpctl user list -o name | mpctl account activate --file -"}})
	AccountDeactivate = op.New[AccountIn, AccountChange]("account deactivate", op.Spec{Summary: "deactivate accounts; their seats are free again", Effect: op.Update, Bulk: true})
	AccountReset      = op.New[AccountIn, AccountChange]("account reset", op.Spec{Summary: "let groups and the default decide about accounts", Effect: op.Update, Bulk: true})

	AccountGroupList       = op.New[ListIn, []AccountGroupRow]("account group list", op.Spec{Summary: "list groups with their activation", Effect: op.Read})
	AccountGroupActivate   = op.New[AccountGroupIn, AccountChange]("account group activate", op.Spec{Summary: "activate every member of groups", Effect: op.Update})
	AccountGroupDeactivate = op.New[AccountGroupIn, AccountChange]("account group deactivate", op.Spec{Summary: "deactivate every member of groups", Effect: op.Update})
	AccountGroupReset      = op.New[AccountGroupIn, AccountChange]("account group reset", op.Spec{Summary: "let the default decide about the members of groups", Effect: op.Update})

	AccountDefaultShow = op.New[op.None, AccountDefault]("account default show", op.Spec{Summary: "show the default status", Effect: op.Read})
	AccountDefaultSet  = op.New[AccountDefaultIn, AccountChange]("account default set", op.Spec{Summary: "set the default status", Effect: op.Update})
)
