package api

import "mailplusd/admin/op"

// ReplyRow is what a user's absence answers; an empty text: nothing.
type ReplyRow struct {
	User    string `json:"user" col:"USER"`
	Active  bool   `json:"active" col:"ACTIVE NOW"`
	Subject string `json:"subject" col:"SUBJECT"`
	From    string `json:"from" col:"FROM"`
	Until   string `json:"until" col:"UNTIL"`
	Text    string `json:"text" col:"TEXT,wide"`
}

// ReplySetting changes what is given.
type ReplySetting struct {
	Subject *string `json:"subject" flag:"subject" help:"subject of the reply; empty: Auto: and the subject of the mail"`
	Text    string  `json:"text" file:"text" optional:"true" help:"file with the text, - for standard input"`
	From    *string `json:"from" flag:"from" help:"first day or time, such as 2026-12-24 or 2026-12-24T18:00:00Z; empty: at once"`
	Until   *string `json:"until" flag:"until" help:"last day (included) or end; empty: until it is deleted"`
}

// MeReplySetIn is one's own reply.
type MeReplySetIn struct{ ReplySetting }

// UserReplySetIn is a user's reply.
type UserReplySetIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name"`
	ReplySetting
}

// Automatic replies (I.15, I.33).
var (
	MeReplyShow   = op.New[op.None, ReplyRow]("me autoreply show", op.Spec{Summary: "show your automatic reply", Effect: op.Read, Role: op.RoleUser})
	MeReplySet    = op.New[MeReplySetIn, ReplyRow]("me autoreply set", op.Spec{Summary: "answer mail while you are away", Help: replyHelp, Effect: op.Update, Alone: true, Role: op.RoleUser, Examples: []string{"mpctl me autoreply set --text away.txt --from 2026-12-24 --until 2027-01-02"}})
	MeReplyDelete = op.New[op.None, op.None]("me autoreply delete", op.Spec{Summary: "answer mail no longer", Effect: op.Delete, Alone: true, Role: op.RoleUser})

	UserReplyShow   = op.New[UserIn, ReplyRow]("user autoreply show", op.Spec{Summary: "show a user's automatic reply", Effect: op.Read})
	UserReplyList   = op.New[ListIn, []ReplyRow]("user autoreply list", op.Spec{Summary: "list the users who have an automatic reply", Effect: op.Read})
	UserReplySet    = op.New[UserReplySetIn, ReplyRow]("user autoreply set", op.Spec{Summary: "answer a user's mail while he is away", Help: replyHelp, Effect: op.Update})
	UserReplyDelete = op.New[UserIn, op.None]("user autoreply delete", op.Spec{Summary: "answer a user's mail no longer", Effect: op.Delete})
)

const replyHelp = "Only people get a reply, each once in 7 days: not lists, bulk mail, notifications or other automatic mail, and only for mail that names the user in To or Cc. Setting it again starts the 7 days anew."
