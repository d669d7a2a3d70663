package api

import "mailplusd/admin/op"

// ForwardRow is where a user's mail is passed on to; none: nowhere.
type ForwardRow struct {
	User     string   `json:"user" col:"USER"`
	To       []string `json:"to" col:"FORWARDED TO"`
	KeepCopy bool     `json:"keep_copy" col:"COPY KEPT"`
	Allowed  bool     `json:"allowed" col:"ALLOWED,wide"` // by policy; false: nothing is forwarded
	Changed  string   `json:"changed" col:"CHANGED,wide"`
}

// MeForwardSetIn is where one's own mail goes.
type MeForwardSetIn struct {
	To       []string `json:"to" arg:"1..." help:"address to forward to; replaces those there are"`
	KeepCopy bool     `json:"keep_copy" flag:"keep-copy" help:"a copy stays in the Inbox"`
}

// UserForwardSetIn is where a user's mail goes.
type UserForwardSetIn struct {
	Name     string   `json:"name" arg:"1" complete:"user" help:"login name"`
	To       []string `json:"to" arg:"2..." help:"address to forward to; replaces those there are"`
	KeepCopy bool     `json:"keep_copy" flag:"keep-copy" help:"a copy stays in the Inbox"`
}

// PassingOut is how mail is passed on.
type PassingOut struct {
	SRS    bool   `json:"srs" col:"SRS"`
	Secret string `json:"secret" col:"SECRET"` // set, not made yet, or not readable here
}

// PassingSetIn changes it.
type PassingSetIn struct {
	SRS   *bool `json:"srs" flag:"srs" help:"rewrite the sender of other servers' mail that is passed on, so that SPF holds at the next server"`
	Renew bool  `json:"renew_secret" flag:"renew-secret" help:"make a new secret; what bounces to senders that were rewritten before is refused then"`
}

// Forwards (I.15, R5.56–R5.59).
var (
	MeForwardShow   = op.New[op.None, ForwardRow]("me forward show", op.Spec{Summary: "show where your mail is forwarded to", Effect: op.Read, Role: op.RoleUser})
	MeForwardSet    = op.New[MeForwardSetIn, ForwardRow]("me forward set", op.Spec{Summary: "forward your mail", Effect: op.Update, Alone: true, Role: op.RoleUser, Examples: []string{"mpctl me forward set --keep-copy me@elsewhere.example"}})
	MeForwardDelete = op.New[op.None, op.None]("me forward delete", op.Spec{Summary: "forward your mail no longer", Effect: op.Delete, Alone: true, Role: op.RoleUser})

	UserForwardShow   = op.New[UserIn, ForwardRow]("user forward show", op.Spec{Summary: "show where a user's mail is forwarded to", Effect: op.Read})
	UserForwardList   = op.New[ListIn, []ForwardRow]("user forward list", op.Spec{Summary: "list the users whose mail is forwarded", Effect: op.Read})
	UserForwardSet    = op.New[UserForwardSetIn, ForwardRow]("user forward set", op.Spec{Summary: "forward a user's mail", Effect: op.Update, Examples: []string{"mpctl user forward set carol carol@elsewhere.example --keep-copy"}})
	UserForwardDelete = op.New[UserIn, op.None]("user forward delete", op.Spec{Summary: "forward a user's mail no longer", Effect: op.Delete})

	DeliveryForwardShow = op.New[op.None, PassingOut]("delivery forward show", op.Spec{Summary: "show how mail is passed on", Effect: op.Read})
	DeliveryForwardSet  = op.New[PassingSetIn, PassingOut]("delivery forward set", op.Spec{Summary: "say how mail is passed on by forwards, aliases and blind copies", Effect: op.Update})
)
