package api

import "mailplusd/admin/op"

// StageRow is one stage of the chain.
type StageRow struct {
	N     int    `json:"n" col:"N"`
	Phase string `json:"phase" col:"PHASE"`
	Stage string `json:"stage" col:"STAGE"`
	For   string `json:"for" col:"FOR"`
	Help  string `json:"help" col:"WHAT IT CAN SAY"`
}

// FlowTraceIn is a message that is not delivered.
type FlowTraceIn struct {
	Text string   `json:"text" file:"message" help:"file with the message; - for standard input"`
	From string   `json:"from" flag:"from" help:"envelope sender; none: <>"`
	Rcpt []string `json:"rcpt" flag:"rcpt" help:"envelope recipient; may be repeated"`
	IP   string   `json:"ip" flag:"ip" default:"192.0.2.1" help:"client's address"`
	User string   `json:"user" flag:"user" complete:"user" help:"as if this account had logged in"`
}

// TraceRow is what a stage said.
type TraceRow struct {
	Phase   string `json:"phase" col:"PHASE"`
	Stage   string `json:"stage" col:"STAGE"`
	Verdict string `json:"verdict" col:"VERDICT"`
}

// The chain of stages.
var (
	FlowShow  = op.New[op.None, []StageRow]("flow show", op.Spec{Summary: "list the stages that decide about a message, in order", Effect: op.Read})
	FlowTrace = op.New[FlowTraceIn, []TraceRow]("flow trace", op.Spec{Summary: "run a message through every stage without delivering it", Effect: op.Read})
)
