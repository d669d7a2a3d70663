package api

import "mailplusd/admin/op"

// FTSOut is the service of full-text search.
type FTSOut struct {
	Enable bool `json:"enable" col:"ENABLED"`
	CJK    bool `json:"cjk" col:"CHARACTERS (CJK)"`
	CPU    int  `json:"cpu" col:"CPU (%)"`
}

// FTSSetIn changes it.
type FTSSetIn struct {
	Enable *bool `json:"enable" flag:"enable" help:"keep a full-text index of users' mail; off removes all of them"`
	CJK    *bool `json:"cjk" flag:"cjk" help:"index single characters of Chinese, Japanese and Korean mail; a change builds every index anew"`
	CPU    *int  `json:"cpu" flag:"cpu" unit:"percent" min:"1" max:"100" help:"share of one processor that indexing may take"`
}

// FTSRow is the index of one user on the node that is asked.
type FTSRow struct {
	User     string `json:"user" col:"USER"`
	State    string `json:"state" col:"STATE"` // up to date, indexing, waiting, failed, or off
	Messages int64  `json:"messages" col:"MESSAGES"`
	Indexed  int64  `json:"indexed" col:"INDEXED"`
	Skipped  int64  `json:"skipped" col:"NOT INDEXED"` // too large, or with a body that can't be read: searches read them
	Size     int64  `json:"size" col:"OCTETS"`
	Why      string `json:"why" col:"WHY"`
}

// FTSStatusIn names users.
type FTSStatusIn struct {
	User string `json:"user" arg:"1" optional:"true" complete:"user" help:"one user; without: all"`
}

// FTSReindexIn names users.
type FTSReindexIn struct {
	User string `json:"user" arg:"1" optional:"true" complete:"user" help:"one user"`
	All  bool   `json:"all" flag:"all" help:"every user"`
}

// Validate asks for one of both.
func (in *FTSReindexIn) Validate() error {
	if (in.User == "") != in.All {
		return op.Errorf(op.Usage, "name a user, or give --all")
	}
	return nil
}

// FTSReindexOut is what was done.
type FTSReindexOut struct {
	Users    int   `json:"users" col:"USERS"`
	Messages int64 `json:"messages" col:"MESSAGES"`
	Indexed  int64 `json:"indexed" col:"INDEXED"`
}

// Full-text search (R7.10 to R7.18).
var (
	ServiceFTSShow = op.New[op.None, FTSOut]("service fts show", op.Spec{Summary: "show full-text search", Effect: op.Read})
	ServiceFTSSet  = op.New[FTSSetIn, FTSOut]("service fts set", op.Spec{Summary: "change full-text search", Effect: op.Update, Confirm: op.ConfirmYes,
		Help: "Subject, sender, recipients, text and names of attachments are indexed, on each node of a pair by itself. With much mail this is work: the load of the servers rises for some time. A user is left out with: mpctl user set NAME --fts off."})
	FTSStatus = op.New[FTSStatusIn, []FTSRow]("fts status", op.Spec{Summary: "show how far the index of each user is on this node", Effect: op.Read, Local: true,
		Help: "Messages that are not in the index yet are found all the same: a search reads them. Another node is asked with --server."})
	FTSReindex = op.New[FTSReindexIn, FTSReindexOut]("fts reindex", op.Spec{Summary: "build indexes anew on this node", Effect: op.Run, Alone: true, Local: true, Job: true, Confirm: op.ConfirmAll,
		Help: "Searches go on meanwhile, only slower.", Examples: []string{"mpctl fts reindex alice"}})
)
