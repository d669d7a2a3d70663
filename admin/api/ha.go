package api

import "mailplusd/admin/op"

// HANode is one node of the pair as `ha show` tells it.
type HANode struct {
	Node     string   `json:"node" col:"NODE"`
	Role     string   `json:"role" col:"ROLE"`         // primary or secondary: who holds the floating address
	Original string   `json:"original" col:"ORIGINAL"` // role when the pair was made
	State    string   `json:"state" col:"STATE"`       // pair, solo, joining, merging, single, silent
	Address  bool     `json:"address" col:"HOLDS ADDRESS"`
	Leads    bool     `json:"leads" col:"LEADS LOG"`
	Lag      uint64   `json:"lag" col:"ENTRIES BEHIND"`
	Missing  int64    `json:"missing" col:"BODIES MISSING"` // -1: not known yet
	Version  string   `json:"version" col:"VERSION"`
	Links    []string `json:"links" col:"LINK,wide"`
	Heard    string   `json:"heard" col:"HEARD"` // how long ago; empty for this node
}

// HAShowOut is the pair at a glance.
type HAShowOut struct {
	Node      string   `json:"node"`
	State     string   `json:"state"`
	For       string   `json:"for"` // in that state
	Cluster   string   `json:"cluster,omitempty"`
	Epoch     uint64   `json:"epoch"`
	Turn      uint64   `json:"turn"`
	Addresses []string `json:"addresses"`
	Holder    string   `json:"holder"`          // node that holds them
	Since     string   `json:"since,omitempty"` // since then
	Lease     string   `json:"lease,omitempty"`
	Copies    int      `json:"copies"` // of new mail
	Nodes     []HANode `json:"nodes"`
	Arbiter   string   `json:"arbiter"`
	ArbiterOK bool     `json:"arbiter_ok"`
	ArbiterNo string   `json:"arbiter_says,omitempty"`
	Alarm     string   `json:"alarm,omitempty"`
	Advice    string   `json:"advice,omitempty"`
	ReadOnly  string   `json:"read_only,omitempty"` // why settings can't be changed
	Fault     string   `json:"fault,omitempty"`     // why the other node isn't heard
	CanFail   []string `json:"can_fail"`
	CantFail  []string `json:"cant_fail"`
	Skew      string   `json:"skew,omitempty"`
	Sharing   string   `json:"sharing,omitempty"`
	Progress  string   `json:"progress,omitempty"`
	History   []string `json:"history"`
}

// HAInviteOut is a one-time token.
type HAInviteOut struct {
	Token       string   `json:"token" col:"TOKEN"`
	Expires     string   `json:"expires" col:"EXPIRES"`
	Fingerprint string   `json:"fingerprint" col:"KEY"`
	Addresses   []string `json:"addresses" col:"ADDRESSES"`
	Volumes     []string `json:"volumes" col:"VOLUMES"` // path, free, total; the one of --data is marked
}

// HAInviteIn says how long.
type HAInviteIn struct {
	Minutes int `json:"minutes" flag:"minutes" default:"60" min:"1" max:"1440" unit:"minutes" help:"how long the token is good for"`
}

// HACreateIn describes the pair.
type HACreateIn struct {
	Peer        string    `json:"peer" flag:"peer" required:"true" help:"address of the secondary, HOST or HOST:PORT of its link"`
	VIP         string    `json:"vip" flag:"vip" required:"true" help:"floating address, such as 192.0.2.10 or 192.0.2.10/24; several with commas"`
	Token       op.Secret `json:"token" secret:"invite" help:"token that mpctl ha invite printed on the secondary: the word of its administrator"`
	Address     string    `json:"address" flag:"address" help:"address of this node on which the other reaches its link (default: the one that leads to the peer)"`
	PeerStorage string    `json:"peer_storage" flag:"peer-storage" help:"volume of the secondary that is to hold the mail, as mpctl ha invite lists it there: another one than that of its --data is refused"`
	Arbiter     string    `json:"arbiter" flag:"arbiter" enum:"gateway,manual" default:"gateway" help:"who decides that a node may go on alone: the network around it, or the administrator; a witness is added later"`
	Targets     []string  `json:"targets" flag:"target" help:"addresses that must answer for the gateway rule (default: the default gateway)"`
}

// HAPrecheckIn names the future secondary.
type HAPrecheckIn struct {
	Peer    string `json:"peer" flag:"peer" help:"address of the future secondary; without it only this node is checked"`
	VIP     string `json:"vip" flag:"vip" help:"future floating address"`
	Address string `json:"address" flag:"address" help:"address of this node on which the other reaches its link"`
}

// HASetIn changes the pair.
type HASetIn struct {
	VIP     *string   `json:"vip" flag:"vip" help:"floating address with its prefix length, such as 192.0.2.10/24; several with commas"`
	Netmask *string   `json:"netmask" flag:"netmask" help:"netmask or prefix length of the floating address, such as 255.255.255.0 or 24"`
	Arbiter *string   `json:"arbiter" flag:"arbiter" enum:"gateway,witness,manual" help:"who decides that a node may go on alone"`
	Targets *[]string `json:"targets" flag:"target" help:"addresses that must answer for the gateway rule"`
	Sharing *string   `json:"sharing" flag:"sharing" enum:"primary-only,balanced" help:"whether the secondary serves sessions, too"`
	Weights *[]string `json:"weights" flag:"weight" help:"share of sessions by node, NODE=0..100"`
}

// HANodeIn names a node.
type HANodeIn struct {
	Node string `json:"node" arg:"1" complete:"node" help:"node of the pair"`
}

// HARemoveIn names the node to remove.
type HARemoveIn struct {
	Node string `json:"node" arg:"1" complete:"node" help:"node to delete; run it on the one to be kept"`
	Dead bool   `json:"dead" flag:"dead" help:"the node is gone for good: don't wait for a last synchronisation with it"`
}

// HARecoverIn is the last resort.
type HARecoverIn struct {
	Node  string `json:"node" arg:"1" complete:"node" help:"this node"`
	Force bool   `json:"force" flag:"force" help:"serve alone although newer mail may be on the other node"`
}

// HAWaitIn says what to wait for.
type HAWaitIn struct {
	For     string `json:"for" flag:"for" enum:"sync,primary,secondary,single" default:"sync" help:"sync: both nodes have everything; primary, secondary: this node is it; single: no pair any more"`
	Timeout int    `json:"timeout" flag:"timeout" default:"600" min:"1" max:"86400" unit:"seconds" help:"give up after so long"`
}

// HAWitnessAddIn names a witness.
type HAWitnessAddIn struct {
	Address  string    `json:"address" arg:"1" help:"HOST:PORT of the witness"`
	Token    op.Secret `json:"token" secret:"invite" help:"token that the witness printed at its start"`
	Fallback bool      `json:"fallback" flag:"fallback-gateway" help:"where the witness can't be asked, the gateway rule decides"`
}

// HAWitnessOut is what the witness knows.
type HAWitnessOut struct {
	Address string   `json:"address" col:"ADDRESS"`
	Reached bool     `json:"reached" col:"REACHED"`
	Epoch   uint64   `json:"epoch" col:"EPOCH"`
	Primary string   `json:"primary" col:"PRIMARY"`
	InSync  []string `json:"in_sync" col:"MAY SERVE ALONE"`
	Holder  string   `json:"holder" col:"SERVES ALONE"`
	Changed string   `json:"changed" col:"SINCE"`
}

// HAFoundRow is a node found in the LAN.
type HAFoundRow struct {
	Node        string `json:"node" col:"NODE"`
	Address     string `json:"address" col:"ADDRESS"`
	Version     string `json:"version" col:"VERSION"`
	Initialised bool   `json:"initialised" col:"IN USE"`
	Interface   string `json:"interface" col:"SEEN ON"`
	Fingerprint string `json:"fingerprint" col:"KEY,wide"`
}

// HAMergeRow is one merge of two histories.
type HAMergeRow struct {
	ID      uint64 `json:"id" col:"MERGE"`
	Time    string `json:"time" col:"TIME"`
	From    string `json:"from" col:"FROM"`
	State   string `json:"state" col:"STATE"`
	Summary string `json:"summary" col:"WHAT"`
}

// HAMergeIn names a merge.
type HAMergeIn struct {
	ID string `json:"id" arg:"1" help:"number of the merge, see mpctl ha merge list"`
}

// HAMergeOut is a merge with its decisions.
type HAMergeOut struct {
	HAMergeRow
	Counts map[string]int64 `json:"counts" col:"COUNTS"`
	Lines  []string         `json:"lines" col:"DECISIONS"`
}

// ServerRow is a node with what it uses (R10.40–R10.43).
type ServerRow struct {
	Node      string            `json:"node" col:"NODE"`
	Role      string            `json:"role" col:"ROLE"`
	State     string            `json:"state" col:"STATE"`
	CPU       string            `json:"cpu" col:"CPU"`
	Memory    string            `json:"memory" col:"MEMORY"`
	NetIn     string            `json:"net_in" col:"NET IN"`
	NetOut    string            `json:"net_out" col:"NET OUT"`
	Functions map[string]string `json:"functions" col:"FUNCTIONS,wide"` // function to its state: running, stopped, abnormal, not installed, getting ready, syncing mail
	Uptime    string            `json:"uptime" col:"UP"`
}

// HAUpgradeIn says whether to finish.
type HAUpgradeIn struct {
	Finish bool `json:"finish" flag:"finish" help:"use the new formats from now on; older programs can't read them"`
}

// HAUpgradeRow is a node's program during a rolling upgrade.
type HAUpgradeRow struct {
	Node    string `json:"node" col:"NODE"`
	Version string `json:"version" col:"VERSION"`
	Formats string `json:"formats" col:"FORMATS"`
	Level   string `json:"level" col:"LEVEL IN FORCE"`
}

// High availability (manual chapter 11).
var (
	HAShow     = op.New[op.None, HAShowOut]("ha show", op.Spec{Summary: "show the pair: who serves, what can fail now, what is behind, what to do", Effect: op.Read, Early: true, Local: true})
	HAPrecheck = op.New[HAPrecheckIn, []Finding]("ha precheck", op.Spec{Summary: "check every condition for making a pair", Effect: op.Read, Early: true, Local: true,
		Examples: []string{"mpctl ha precheck --peer 192.0.2.2 --vip 192.0.2.10"}})
	HADiscover = op.New[op.None, []HAFoundRow]("ha discover", op.Spec{Summary: "find nodes in this LAN", Effect: op.Read, Early: true, Local: true})
	HAInvite   = op.New[HAInviteIn, HAInviteOut]("ha invite", op.Spec{Summary: "make a one-time token with which a primary takes this empty node in", Effect: op.Run, Alone: true, Early: true, Local: true,
		Help: "Run it on the future secondary. The token is good once, for an hour."})
	HACreate = op.New[HACreateIn, HAShowOut]("ha create", op.Spec{Summary: "make a pair of this node and an empty one", Effect: op.Run, Alone: true, Local: true, Confirm: op.ConfirmYes,
		Help:     "This node keeps serving while mail is copied. When both have everything they share the load, and each goes on without the other.",
		Examples: []string{"mpctl ha create --peer 192.0.2.2 --vip 192.0.2.10 --invite-file invite --yes"}})
	HASet        = op.New[HASetIn, HAShowOut]("ha set", op.Spec{Summary: "change the floating address, the arbiter or the sharing of sessions", Effect: op.Update})
	HASwitchover = op.New[HANodeIn, HAShowOut]("ha switchover", op.Spec{Summary: "make a node the primary: the floating address goes there", Effect: op.Run, Alone: true, Local: true,
		Examples: []string{"mpctl ha switchover node2"}})
	HARemove = op.New[HARemoveIn, HAShowOut]("ha remove", op.Spec{Summary: "end the pair and keep this node", Effect: op.Delete, Alone: true, Local: true, Confirm: op.ConfirmName,
		Help: "Mail is synchronised once more; the floating address is given up by both nodes. The removed node is told, keeps what it has and serves nothing.\nWith --dead the other node is not waited for: what only it has is lost with it, and if it still runs where it does not reach this node,\nit may take the floating address and serve old mail: erase it or keep it off."})
	HARecover = op.New[HARecoverIn, HAShowOut]("ha recover", op.Spec{Summary: "serve alone on your word, when the arbiter can't give its own", Effect: op.Run, Alone: true, Local: true, Confirm: op.ConfirmName,
		Help: "The last resort. Be sure that the other node does not serve. Mail that only the other node has is not seen until it comes back; then both histories are merged and nothing is lost."})
	HAWait        = op.New[HAWaitIn, HAShowOut]("ha wait", op.Spec{Summary: "wait until the pair is where it should be", Effect: op.Read, Early: true, Local: true})
	HAWitnessAdd  = op.New[HAWitnessAddIn, HAWitnessOut]("ha witness add", op.Spec{Summary: "let a third machine decide who may serve alone", Effect: op.Update, Examples: []string{"mpctl ha witness add 192.0.2.3:2827 --invite-file invite"}})
	HAWitnessDel  = op.New[op.None, HAShowOut]("ha witness remove", op.Spec{Summary: "do without the witness: the gateway rule decides", Effect: op.Update})
	HAWitnessShow = op.New[op.None, HAWitnessOut]("ha witness show", op.Spec{Summary: "show what the witness knows", Effect: op.Read, Local: true})
	HAUpgrade     = op.New[HAUpgradeIn, []HAUpgradeRow]("ha upgrade", op.Spec{Summary: "show the nodes' versions in a rolling upgrade, and finish it", Effect: op.Update,
		Help: "Upgrade one node after the other: the secondary first, then switch over, then the other. Until --finish both write what the\nolder program reads. Formats are never raised by themselves."})
	HAMergeList = op.New[op.None, []HAMergeRow]("ha merge list", op.Spec{Summary: "list merges of histories that had come apart", Effect: op.Read, Local: true})
	HAMergeShow = op.New[HAMergeIn, HAMergeOut]("ha merge show", op.Spec{Summary: "show what a merge has decided", Effect: op.Read, Local: true})
	ServerList  = op.New[op.None, []ServerRow]("server list", op.Spec{Summary: "list the nodes with their load and the state of each function", Effect: op.Read, Local: true})
	ServerShow  = op.New[HANodeIn, ServerRow]("server show", op.Spec{Summary: "show a node's load and the state of each function", Effect: op.Read, Local: true})
)
