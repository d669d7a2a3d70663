package api

import "mailplusd/admin/op"

// LogRow is one line of the mail log (R10.64–R10.70).
type LogRow struct {
	MessageID string `json:"message_id" col:"MESSAGE-ID"`
	Time      string `json:"time" col:"TIME"`
	Sender    string `json:"sender" col:"SENDER"`
	Recipient string `json:"recipient" col:"RECIPIENT"`
	Subject   string `json:"subject" col:"SUBJECT"`
	Size      int64  `json:"size" col:"SIZE"`
	Status    string `json:"status" col:"STATUS"`
	Trace     string `json:"trace" col:"ID,wide"`
	Client    string `json:"client" col:"CLIENT,wide"`
	Remote    string `json:"remote" col:"SERVER,wide"`
	TLS       string `json:"tls" col:"TLS,wide"` // of mail to other servers: none, opportunistic, required, verified, fingerprint, DANE or MTA-STS, version and cipher
	Reason    string `json:"reason" col:"REASON,wide"`
	Node      string `json:"node" col:"NODE,wide"`
}

// LogListIn filters the mail log.
type LogListIn struct {
	Sender     string `json:"sender" flag:"sender" help:"part of the sender"`
	Recipient  string `json:"recipient" flag:"recipient" help:"part of the recipient"`
	Subject    string `json:"subject" flag:"subject" help:"part of the subject"`
	MessageID  string `json:"message_id" flag:"message-id" help:"part of the Message-ID"`
	Status     string `json:"status" flag:"status" enum:"received,sent,resent,bounced" help:"what happened"`
	Search     string `json:"search" flag:"search" help:"part of any of them"`
	Since      string `json:"since" flag:"since" help:"time such as 2026-01-31, 2026-01-31T15:04:05Z or 2h (ago)"`
	Until      string `json:"until" flag:"until" help:"time before which"`
	Trace      string `json:"trace" flag:"id" help:"exactly this message ID of the log"`
	Everything bool   `json:"everything" flag:"everything" help:"also refusals and attempts that were put off"`
	Limit      int    `json:"limit" flag:"limit" min:"1" max:"100000" default:"100" help:"lines at most"`
	Source     string `json:"source" flag:"source" default:"internal" help:"internal, or a log database file on the server"`
}

// LogExport is a file.
type LogExport struct {
	Text string `json:"text" raw:"true"`
}

// AdminLogRow is one change (I.13).
type AdminLogRow struct {
	Time   string `json:"time" col:"TIME"`
	Actor  string `json:"actor" col:"WHO"`
	From   string `json:"from" col:"FROM,wide"`
	Op     string `json:"op" col:"COMMAND"`
	Object string `json:"object" col:"OBJECT"`
	Result string `json:"result" col:"RESULT"`
	Change string `json:"change" col:"CHANGE"`
}

// AdminLogIn filters.
type AdminLogIn struct {
	Search string `json:"search" flag:"search" help:"part of any column"`
	Limit  int    `json:"limit" flag:"limit" min:"1" max:"100000" default:"100" help:"lines at most, the newest"`
}

// Logs.
var (
	LogMailList   = op.New[LogListIn, []LogRow]("log mail list", op.Spec{Summary: "list what happened to messages, the newest first", Effect: op.Read})
	LogMailExport = op.New[LogListIn, LogExport]("log mail export", op.Spec{Summary: "write the mail log as CSV", Effect: op.Read})
	LogFollow     = op.New[LogListIn, LogRow]("log follow", op.Spec{Summary: "show the mail log as it happens", Effect: op.Read, Stream: true, Local: true})
	AdminLogList  = op.New[AdminLogIn, []AdminLogRow]("admin log list", op.Spec{Summary: "list who changed what", Effect: op.Read})
)
