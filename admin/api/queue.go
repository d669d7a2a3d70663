package api

import "mailplusd/admin/op"

// QueueRow is one queued recipient (R10.48–R10.52).
type QueueRow struct {
	ID       string `json:"id" col:"ID"`
	Queued   string `json:"queued" col:"QUEUED"`
	Sender   string `json:"sender" col:"SENDER"`
	Rcpt     string `json:"recipient" col:"RECIPIENT"`
	State    string `json:"state" col:"STATE"`
	Attempts int    `json:"attempts" col:"TRIES"`
	Next     string `json:"next" col:"NEXT TRY"`
	Reason   string `json:"reason" col:"REASON"`
	Size     int64  `json:"size" col:"SIZE,wide"`
	Subject  string `json:"subject" col:"SUBJECT,wide"`
	Remote   string `json:"remote" col:"SERVER,wide"`
	TLS      string `json:"tls" col:"TLS,wide"`
	Expires  string `json:"expires" col:"GIVEN UP,wide"`
}

// QueueListIn filters; the same filters act with --all.
type QueueListIn struct {
	Sender    string `json:"sender" flag:"sender" help:"part of the sender"`
	Recipient string `json:"recipient" flag:"recipient" help:"part of the recipient"`
	Domain    string `json:"domain" flag:"domain" help:"destination"`
	State     string `json:"state" flag:"state" enum:"pending,processing,deferred,held" help:"where it stands"`
	Reason    string `json:"reason" flag:"reason" help:"part of the reason"`
	Search    string `json:"search" flag:"search" help:"part of anything"`
	Limit     int    `json:"limit" flag:"limit" min:"1" max:"1000000" default:"1000" help:"rows at most"`
}

// QueueActIn names messages, or all that the filters match.
type QueueActIn struct {
	IDs       []string `json:"ids" arg:"1..." optional:"true" complete:"queue" help:"message"`
	All       bool     `json:"all" flag:"all" help:"every message that the filters match"`
	Sender    string   `json:"sender" flag:"sender" help:"part of the sender"`
	Recipient string   `json:"recipient" flag:"recipient" help:"part of the recipient"`
	Domain    string   `json:"domain" flag:"domain" help:"destination"`
	State     string   `json:"state" flag:"state" enum:"pending,processing,deferred,held" help:"where it stands"`
	Reason    string   `json:"reason" flag:"reason" help:"part of the reason"`
	Search    string   `json:"search" flag:"search" help:"part of anything"`
}

// Validate wants IDs or --all, not both.
func (in *QueueActIn) Validate() error {
	if len(in.IDs) == 0 && !in.All {
		return op.Errorf(op.Usage, "name messages, or give --all")
	}
	if len(in.IDs) > 0 && in.All {
		return op.Errorf(op.Usage, "give messages or --all, not both")
	}
	return nil
}

// QueueIn names a message.
type QueueIn struct {
	ID string `json:"id" arg:"1" complete:"queue" help:"message"`
}

// QueueChanged counts what was done.
type QueueChanged struct {
	Messages   int `json:"messages" col:"MESSAGES"`
	Recipients int `json:"recipients" col:"RECIPIENTS"`
}

// The queue (R10.47–R10.58).
var (
	QueueList    = op.New[QueueListIn, []QueueRow]("queue list", op.Spec{Summary: "list mail that waits for other servers, and why", Effect: op.Read})
	QueueShow    = op.New[QueueIn, []QueueRow]("queue show", op.Spec{Summary: "show a message with every recipient", Effect: op.Read})
	QueueResend  = op.New[QueueActIn, QueueChanged]("queue resend", op.Spec{Summary: "try now", Effect: op.Run})
	QueueHold    = op.New[QueueActIn, QueueChanged]("queue hold", op.Spec{Summary: "don't try until released", Effect: op.Update})
	QueueRelease = op.New[QueueActIn, QueueChanged]("queue release", op.Spec{Summary: "try again what was held", Effect: op.Update})
	QueueClear   = op.New[QueueActIn, QueueChanged]("queue clear", op.Spec{Summary: "remove messages without telling anybody", Effect: op.Delete, Confirm: op.ConfirmYes})
)
