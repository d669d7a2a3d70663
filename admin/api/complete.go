package api

import "mailplusd/admin/op"

// CompleteIn asks for the values of a word.
type CompleteIn struct {
	Kind   string   `json:"kind" help:"what"`
	Prefix string   `json:"prefix" help:"what is typed so far"`
	Words  []string `json:"words" help:"words before"`
}

// CompleteOut are the values.
type CompleteOut struct {
	Values []string `json:"values"`
}

// Shell completion.
var (
	Complete = op.New[CompleteIn, CompleteOut]("complete", op.Spec{Summary: "values for shell completion", Effect: op.Read})
)
