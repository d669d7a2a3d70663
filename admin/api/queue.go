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

// QueueFilter chooses recipients; the same filters look and act.
type QueueFilter struct {
	Sender     string `json:"sender" flag:"sender" help:"part of the sender"`
	Recipient  string `json:"recipient" flag:"recipient" help:"part of the recipient"`
	Domain     string `json:"domain" flag:"domain" help:"destination"`
	State      string `json:"state" flag:"state" enum:"pending,processing,deferred,held" help:"where it stands"`
	Reason     string `json:"reason" flag:"reason" help:"part of the reason"`
	OlderThan  string `json:"older_than" flag:"older-than" help:"in the queue for longer than this, such as 2h, or since before a time"`
	NewerThan  string `json:"newer_than" flag:"newer-than" help:"in the queue for less than this, such as 10m, or since after a time"`
	LargerThan string `json:"larger_than" flag:"larger-than" help:"size above this: octets, or with K, M or G behind the number"`
	SmallThan  string `json:"smaller_than" flag:"smaller-than" help:"size below this"`
	NextBefore string `json:"next_before" flag:"next-before" help:"next attempt within this from now, such as 30m, or before a time"`
	NextAfter  string `json:"next_after" flag:"next-after" help:"next attempt later than this from now, or after a time"`
	Search     string `json:"search" flag:"search" help:"part of anything"`
}

// QueueListIn filters the list.
type QueueListIn struct {
	QueueFilter
	Limit int `json:"limit" flag:"limit" min:"1" max:"1000000" default:"1000" help:"rows at most"`
}

// QueueActIn names messages, or all that the filters match.
type QueueActIn struct {
	IDs []string `json:"ids" arg:"1..." optional:"true" complete:"queue" help:"message"`
	All bool     `json:"all" flag:"all" help:"every message that the filters match"`
	QueueFilter
}

// QueueBulkIn is a row of --file: one message.
type QueueBulkIn struct {
	ID string `json:"id"`
}

// Validate wants IDs or --all, not both.
func (in *QueueActIn) Validate() error {
	if len(in.IDs) == 0 && !in.All {
		return op.Errorf(op.Usage, "name messages, or give --all")
	}
	if len(in.IDs) > 0 && in.All {
		return op.Errorf(op.Usage, "give messages or --all, not both")
	}
	if !in.All && in.QueueFilter != (QueueFilter{}) {
		return op.Errorf(op.Usage, "filters choose among --all; give --all, or messages without filters")
	}
	return nil
}

// QueueStep is a line of what happened to a queued recipient: an attempt, and at the end what
// comes next. The fields that it shares with QueueRow mean the same.
type QueueStep struct {
	Rcpt     string `json:"recipient" col:"RECIPIENT"`
	What     string `json:"what" col:"WHAT"` // try 1, try 2 …; next, now, held
	At       string `json:"at" col:"TIME"`
	Remote   string `json:"remote" col:"SERVER"`
	TLS      string `json:"tls" col:"TLS"`
	Reason   string `json:"reason" col:"REASON"`
	Code     int    `json:"code" col:"CODE,wide"` // of SMTP, 0 when there was no reply
	State    string `json:"state" col:"STATE,wide"`
	Attempts int    `json:"attempts" col:"TRIES,wide"`
	Next     string `json:"next" col:"NEXT TRY,wide"`
	ID       string `json:"id" col:"ID,wide"`
	Queued   string `json:"queued" col:"QUEUED,wide"`
	Sender   string `json:"sender" col:"SENDER,wide"`
	Size     int64  `json:"size" col:"SIZE,wide"`
	Subject  string `json:"subject" col:"SUBJECT,wide"`
	Expires  string `json:"expires" col:"GIVEN UP,wide"`
}

// QueueStatsIn filters what is counted.
type QueueStatsIn struct {
	QueueFilter
	Limit int `json:"limit" flag:"limit" min:"1" max:"1000000" default:"100" help:"destinations at most, those with the most mail"`
}

// QueueStat is what waits for one destination.
type QueueStat struct {
	Destination string `json:"destination" col:"DESTINATION"`
	Recipients  int    `json:"recipients" col:"RECIPIENTS"`
	Pending     int    `json:"pending" col:"PENDING"`
	Processing  int    `json:"processing" col:"PROCESSING"`
	Deferred    int    `json:"deferred" col:"DEFERRED"`
	Held        int    `json:"held" col:"HELD"`
	Oldest      string `json:"oldest" col:"OLDEST"`
	Next        string `json:"next" col:"NEXT TRY"`
	Reason      string `json:"reason" col:"LAST REASON"`
	DownUntil   string `json:"down_until" col:"DOWN UNTIL"` // nothing is tried before; empty: not down
	Size        int64  `json:"size" col:"SIZE,wide"`        // of each message once for each recipient
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

const queueHelp = "Name messages, give --all with filters, or give IDs with --file -, one a line. Filters choose recipients, IDs whole messages."

// The queue (R10.47–R10.58).
var (
	QueueList   = op.New[QueueListIn, []QueueRow]("queue list", op.Spec{Summary: "list mail that waits for other servers, and why", Effect: op.Read})
	QueueShow   = op.New[QueueIn, []QueueStep]("queue show", op.Spec{Summary: "show a message: for every recipient the last attempts and what comes next", Effect: op.Read})
	QueueStats  = op.New[QueueStatsIn, []QueueStat]("queue stats", op.Spec{Summary: "count what waits, by destination", Effect: op.Read})
	QueueResend = op.New[QueueActIn, QueueChanged]("queue resend", op.Spec{Summary: "try now what is not held", Effect: op.Run, Alone: true, Bulk: true, Confirm: op.ConfirmAll, Help: queueHelp,
		Examples: []string{"mpctl queue resend 17", "mpctl queue resend --all --domain example.com --older-than 2h", "mpctl queue list --reason greylist -o name | mpctl queue resend --file -"}})
	QueueHold    = op.New[QueueActIn, QueueChanged]("queue hold", op.Spec{Summary: "don't try until released", Effect: op.Update, Alone: true, Bulk: true, Confirm: op.ConfirmAll, Help: queueHelp})
	QueueRelease = op.New[QueueActIn, QueueChanged]("queue release", op.Spec{Summary: "try again what was held", Effect: op.Update, Alone: true, Bulk: true, Confirm: op.ConfirmAll, Help: queueHelp})
	QueueDelete  = op.New[QueueActIn, QueueChanged]("queue delete", op.Spec{Summary: "the same as queue clear", Effect: op.Delete, Alone: true, Bulk: true, Confirm: op.ConfirmYes, Help: queueHelp})
	QueueClear   = op.New[QueueActIn, QueueChanged]("queue clear", op.Spec{Summary: "remove messages without telling anybody", Effect: op.Delete, Alone: true, Bulk: true, Confirm: op.ConfirmYes, Help: queueHelp})
)
