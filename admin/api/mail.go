package api

import "mailplusd/admin/op"

// MailSendIn is a mail to try the server with.
type MailSendIn struct {
	To      string `json:"to" flag:"to" required:"true" help:"recipient"`
	From    string `json:"from" flag:"from" help:"envelope sender; none: <>"`
	Subject string `json:"subject" flag:"subject" default:"test" help:"subject"`
	Text    string `json:"body" flag:"text" default:"This is a test." help:"text"`
}

// A mail to try the server with.
var (
	MailSend = op.New[MailSendIn, op.None]("mail send", op.Spec{Summary: "send a mail to try the server", Effect: op.Run, Alone: true})
)
