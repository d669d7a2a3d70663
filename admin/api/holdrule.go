package api

import "mailplusd/admin/op"

// HoldRuleRow is a rule that holds mail in the queue.
type HoldRuleRow struct {
	Name          string `json:"name" col:"NAME"`
	Enabled       bool   `json:"enabled" col:"ENABLED"`
	Kind          string `json:"kind" col:"HOLDS"` // in words, what follows
	All           bool   `json:"all"`
	Sender        string `json:"sender"`
	Recipient     string `json:"recipient"`
	Domain        string `json:"domain"`
	Search        string `json:"search"`
	Larger        int64  `json:"larger"`  // octets; 0: not compared
	Smaller       int64  `json:"smaller"` // octets; 0: not compared
	Notifications bool   `json:"notifications"`
	Until         string `json:"until" col:"UNTIL"`
	Held          int    `json:"held" col:"HELD"`             // recipients that it holds now
	Matching      int    `json:"matching" col:"WAITING,wide"` // recipients in the queue that are of its kind and that nobody holds
	Description   string `json:"description" col:"DESCRIPTION"`
}

// HoldRuleAddIn is a new rule.
type HoldRuleAddIn struct {
	Name          string `json:"name" arg:"1" help:"name of the rule"`
	All           bool   `json:"all" flag:"all" help:"hold every message"`
	Sender        string `json:"sender" flag:"sender" help:"whose mail: a whole address, @ and a domain, a part that the address contains, or <> for mail without a sender"`
	Recipient     string `json:"recipient" flag:"recipient" help:"a whole address, @ and a domain, or a part that the address contains"`
	Domain        string `json:"domain" flag:"domain" help:"destination: domain of the recipient, or .domain for all below it"`
	Search        string `json:"search" flag:"search" help:"part of the sender, the recipient or the subject"`
	LargerThan    string `json:"larger_than" flag:"larger-than" help:"size above this: octets, or with K, M or G behind the number"`
	SmallThan     string `json:"smaller_than" flag:"smaller-than" help:"size below this"`
	Notifications bool   `json:"notifications" flag:"notifications" help:"also this server's own notifications (DSN)"`
	Description   string `json:"description" flag:"description" help:"why, for those who find the mail held"`
	Enabled       *bool  `json:"enabled" flag:"enabled" help:"off: hold nothing yet"`
	Until         string `json:"until" flag:"until" help:"hold nothing that comes later: time such as 2026-01-31T15:04:05Z, or 2h from now"`
	Existing      bool   `json:"existing" flag:"existing" help:"also hold what is in the queue already"`
}

// HoldRuleIn names a rule.
type HoldRuleIn struct {
	Name string `json:"name" arg:"1" complete:"holdrule" help:"name of the rule"`
}

// HoldRuleSetIn changes what is given; an empty text takes a condition back.
type HoldRuleSetIn struct {
	Name          string  `json:"name" arg:"1" complete:"holdrule" help:"name of the rule"`
	All           *bool   `json:"all" flag:"all" help:"hold every message"`
	Sender        *string `json:"sender" flag:"sender" help:"whose mail: a whole address, @ and a domain, a part that the address contains, or <> for mail without a sender"`
	Recipient     *string `json:"recipient" flag:"recipient" help:"a whole address, @ and a domain, or a part that the address contains"`
	Domain        *string `json:"domain" flag:"domain" help:"destination: domain of the recipient, or .domain for all below it"`
	Search        *string `json:"search" flag:"search" help:"part of the sender, the recipient or the subject"`
	LargerThan    *string `json:"larger_than" flag:"larger-than" help:"size above this: octets, or with K, M or G behind the number"`
	SmallThan     *string `json:"smaller_than" flag:"smaller-than" help:"size below this"`
	Notifications *bool   `json:"notifications" flag:"notifications" help:"also this server's own notifications (DSN)"`
	Description   *string `json:"description" flag:"description" help:"why, for those who find the mail held"`
	Enabled       *bool   `json:"enabled" flag:"enabled" help:"hold mail at all"`
	Until         *string `json:"until" flag:"until" help:"hold nothing that comes later: a time, or 2h from now; empty: no end"`
}

const holdRuleHelp = `A rule is asked once, when mail enters the queue: mail of users, forwards, automatic replies, mail for relay domains.
All of its conditions must be true. What it holds stays until "mpctl queue release", also when the rule ends, is changed or deleted; no rule holds it again.`

// Rules that hold mail as it enters the queue.
var (
	HoldRuleAdd = op.New[HoldRuleAddIn, HoldRuleRow]("queue hold-rule add", op.Spec{Summary: "hold mail of a kind as it enters the queue", Effect: op.Create, Help: holdRuleHelp,
		Examples: []string{"mpctl queue hold-rule add spam-wave --sender bob@example.com --description 'password stolen' --existing", "mpctl queue hold-rule add move --domain partner.example --until 8h"}})
	HoldRuleList   = op.New[ListIn, []HoldRuleRow]("queue hold-rule list", op.Spec{Summary: "list the rules that hold mail, and how much they hold", Effect: op.Read})
	HoldRuleShow   = op.New[HoldRuleIn, HoldRuleRow]("queue hold-rule show", op.Spec{Summary: "show a rule", Effect: op.Read})
	HoldRuleSet    = op.New[HoldRuleSetIn, HoldRuleRow]("queue hold-rule set", op.Spec{Summary: "change what a rule holds from now on", Effect: op.Update, Help: holdRuleHelp})
	HoldRuleDelete = op.New[HoldRuleIn, op.None]("queue hold-rule delete", op.Spec{Summary: "delete a rule; what it holds stays held", Effect: op.Delete})
)
