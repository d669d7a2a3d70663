package api

import "mailplusd/admin/op"

// TLSReportRow is what was counted for a report under one policy, of one kind.
type TLSReportRow struct {
	Day    string `json:"day" col:"DAY"`
	Domain string `json:"domain" col:"DOMAIN"`
	Policy string `json:"policy" col:"POLICY"` // tlsa, sts or no-policy-found
	Result string `json:"result" col:"RESULT"` // success, or the failure's name in RFC 8460 §4.3
	Count  int64  `json:"count" col:"CONNECTIONS"`
	Host   string `json:"host" col:"SERVER"`
	Detail string `json:"detail" col:"WORDS,wide"`
}

// TLSReportSent counts.
type TLSReportSent struct {
	Sent int `json:"sent" col:"REPORTS SENT"`
}

// Reports on TLS (RFC 8460).
var (
	TLSReportList = op.New[ListIn, []TLSReportRow]("delivery tls report list", op.Spec{Summary: "list what the next reports on TLS will say", Effect: op.Read})
	TLSReportSend = op.New[op.None, TLSReportSent]("delivery tls report send", op.Spec{Summary: "send reports on TLS now, today's as far as it has come", Effect: op.Run, Alone: true})
)
