package api

import "mailplusd/admin/op"

// BCCRow is a rule of blind copies.
type BCCRow struct {
	Name   string `json:"name" col:"NAME"`
	Domain string `json:"domain" col:"DOMAIN,wide"`
	Kind   string `json:"kind" col:"KIND"`
	Match  string `json:"match" col:"MATCH"`
	To     string `json:"to" col:"COPY TO"`
}

// BCCAddIn is a new rule.
type BCCAddIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name   string `json:"name" arg:"2" help:"name of the rule"`
	Kind   string `json:"kind" flag:"kind" enum:"sender,recipient,all" required:"true" help:"what is compared: MAIL FROM, RCPT TO, or nothing: every message but the system's notifications"`
	Match  string `json:"match" flag:"match" help:"a whole address, @ and a domain, or a part that the address contains"`
	To     string `json:"to" flag:"to" required:"true" help:"who gets the copy: user:NAME, alias:NAME, an address, or a name of whichever there is"`
}

// BCCIn names a rule.
type BCCIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name   string `json:"name" arg:"2" complete:"autobcc" help:"name of the rule"`
}

// BCCSetIn changes what is given.
type BCCSetIn struct {
	Domain string  `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Name   string  `json:"name" arg:"2" complete:"autobcc" help:"name of the rule"`
	Kind   *string `json:"kind" flag:"kind" enum:"sender,recipient,all" help:"what is compared"`
	Match  *string `json:"match" flag:"match" help:"a whole address, @ and a domain, or a part that the address contains"`
	To     *string `json:"to" flag:"to" help:"who gets the copy"`
	Rename *string `json:"rename" flag:"rename" help:"new name"`
}

// Blind copies (R8.67–R8.73).
var (
	BCCAdd = op.New[BCCAddIn, BCCRow]("domain autobcc add", op.Spec{Summary: "send a blind copy of some mail of a domain", Effect: op.Create,
		Examples: []string{"mpctl domain autobcc add example.com archive --kind all --to archive@example.com", "mpctl domain autobcc add example.com boss --kind recipient --match boss@example.com --to secretary"}})
	BCCList   = op.New[DomainListIn, []BCCRow]("domain autobcc list", op.Spec{Summary: "list a domain's rules of blind copies", Effect: op.Read})
	BCCSet    = op.New[BCCSetIn, BCCRow]("domain autobcc set", op.Spec{Summary: "change a rule of blind copies", Effect: op.Update})
	BCCDelete = op.New[BCCIn, op.None]("domain autobcc delete", op.Spec{Summary: "delete a rule of blind copies", Effect: op.Delete})
)
