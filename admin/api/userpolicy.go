package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// PolicyRow is a policy as lists and shows print it.
type PolicyRow struct {
	Name               string   `json:"name" col:"NAME"`
	Order              int      `json:"order" col:"ORDER"` // 1 comes first; the default policy is last
	Colour             string   `json:"colour" col:"COLOUR"`
	InForce            int      `json:"in_force" col:"IN FORCE FOR"` // how many accounts it counts for
	IMAP               bool     `json:"imap" col:"IMAP"`
	IMAPLANOnly        bool     `json:"imap_lan_only" col:"IMAP LAN ONLY"`
	POP3               bool     `json:"pop3" col:"POP3"`
	POP3LANOnly        bool     `json:"pop3_lan_only" col:"POP3 LAN ONLY"`
	FTS                bool     `json:"fts" col:"FTS"`
	DisableAutoForward string   `json:"disable_auto_forward" col:"NO AUTO-FORWARD"`
	DailyCount         string   `json:"daily_count" col:"MESSAGES A DAY,wide"`
	DailyMB            string   `json:"daily_mb" col:"MB A DAY,wide"`
	AttachmentMB       string   `json:"attachment_mb" col:"ATTACHMENT MB,wide"`
	InternalOnly       bool     `json:"internal_only" col:"INTERNAL ONLY,wide"`
	Targets            string   `json:"targets" col:"TARGETS"`
	Users              []string `json:"users"`
	Groups             []string `json:"groups"`
	Created            string   `json:"created" col:"CREATED,wide"`
}

// PolicyAddIn is a new policy.
type PolicyAddIn struct {
	Name               string   `json:"name" arg:"1" help:"name of the policy"`
	Colour             string   `json:"colour" flag:"colour" enum:"none,red,orange,yellow,green,blue,purple,grey" help:"label, to tell policies apart"`
	Users              []string `json:"users" flag:"user" complete:"user" help:"user it is for; may be repeated"`
	Groups             []string `json:"groups" flag:"group" complete:"group" help:"group it is for, with the groups in it; may be repeated"`
	IMAP               *bool    `json:"imap" flag:"imap" help:"may use IMAP"`
	IMAPLANOnly        *bool    `json:"imap_lan_only" flag:"imap-lan-only" help:"may log in to IMAP from the local network only"`
	POP3               *bool    `json:"pop3" flag:"pop3" help:"may use POP3"`
	POP3LANOnly        *bool    `json:"pop3_lan_only" flag:"pop3-lan-only" help:"may log in to POP3 from the local network only"`
	FTS                *bool    `json:"fts" flag:"fts" help:"index the mail for full-text search, when the service is on; off removes the indexes"`
	DisableAutoForward *string  `json:"disable_auto_forward" flag:"disable-auto-forward" enum:"on,off,inherit" help:"let nobody have his mail forwarded automatically; inherit: as the domain says"`
	DailyCount         *string  `json:"daily_count" flag:"daily-count" help:"messages that he may send a day, off or inherit; 0: no limit; inherit: as the domain says"`
	DailyMB            *string  `json:"daily_mb" flag:"daily-mb" help:"MB that he may send a day, off or inherit; 0: no limit; inherit: as the domain says"`
	AttachmentMB       *string  `json:"attachment_mb" flag:"attachment-mb" help:"size of one attachment that he sends in MB, off or inherit; inherit: as the domain says"`
	InternalOnly       *bool    `json:"internal_only" flag:"internal-only" help:"may write to addresses of hosted domains only"`
}

// Validate checks what needs no state.
func (in *PolicyAddIn) Validate() error {
	p := model.DefaultPolicy()
	p.Name = in.Name
	return validateLimits(p, in.DailyCount, in.DailyMB, in.AttachmentMB)
}

// validateLimits checks a policy with limits as they were typed.
func validateLimits(p *model.Policy, count, mb, attachment *string) error {
	for to, text := range map[*model.Limit]*string{&p.DailyCount: count, &p.DailyMB: mb, &p.AttachmentMB: attachment} {
		if text != nil {
			*to = model.Limit(*text)
		}
	}
	return p.Validate()
}

// PolicyListIn filters the list.
type PolicyListIn struct {
	Search  string `json:"search" flag:"search" help:"only policies whose name or targets contain this"`
	Colour  string `json:"colour" flag:"colour" enum:"none,red,orange,yellow,green,blue,purple,grey" help:"only policies with this label"`
	Targets bool   `json:"targets" flag:"targets" help:"name the users and groups of each policy"`
}

// PolicyIn names a policy.
type PolicyIn struct {
	Name string `json:"name" arg:"1" complete:"policy" help:"name of the policy"`
}

// PolicySetIn changes what is given.
type PolicySetIn struct {
	Name               string  `json:"name" arg:"1" complete:"policy" help:"name of the policy"`
	Colour             *string `json:"colour" flag:"colour" enum:"none,red,orange,yellow,green,blue,purple,grey" help:"label, to tell policies apart"`
	IMAP               *bool   `json:"imap" flag:"imap" help:"may use IMAP"`
	IMAPLANOnly        *bool   `json:"imap_lan_only" flag:"imap-lan-only" help:"may log in to IMAP from the local network only"`
	POP3               *bool   `json:"pop3" flag:"pop3" help:"may use POP3"`
	POP3LANOnly        *bool   `json:"pop3_lan_only" flag:"pop3-lan-only" help:"may log in to POP3 from the local network only"`
	FTS                *bool   `json:"fts" flag:"fts" help:"index the mail for full-text search, when the service is on; off removes the indexes"`
	DisableAutoForward *string `json:"disable_auto_forward" flag:"disable-auto-forward" enum:"on,off,inherit" help:"let nobody have his mail forwarded automatically; inherit: as the domain says"`
	DailyCount         *string `json:"daily_count" flag:"daily-count" help:"messages that he may send a day, off or inherit; 0: no limit; inherit: as the domain says"`
	DailyMB            *string `json:"daily_mb" flag:"daily-mb" help:"MB that he may send a day, off or inherit; 0: no limit; inherit: as the domain says"`
	AttachmentMB       *string `json:"attachment_mb" flag:"attachment-mb" help:"size of one attachment that he sends in MB, off or inherit; inherit: as the domain says"`
	InternalOnly       *bool   `json:"internal_only" flag:"internal-only" help:"may write to addresses of hosted domains only"`
	Rename             *string `json:"rename" flag:"rename" help:"new name"`
}

// Validate checks what needs no state.
func (in *PolicySetIn) Validate() error {
	p := model.DefaultPolicy()
	p.Name = "any"
	return validateLimits(p, in.DailyCount, in.DailyMB, in.AttachmentMB)
}

// PolicyEffectiveIn names a user, and where he sends from.
type PolicyEffectiveIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name"`
	From string `json:"from" flag:"from" help:"address that he sends from, whose domain may decide; default: his main address"`
}

// PolicyMoveIn puts policies at another place of the order, all at once.
type PolicyMoveIn struct {
	Names  []string `json:"names" arg:"1..." complete:"policy" help:"policies to move, in the order that they are to have"`
	Before string   `json:"before" flag:"before" complete:"policy" help:"put them right before this one"`
	After  string   `json:"after" flag:"after" complete:"policy" help:"put them right after this one"`
	First  bool     `json:"first" flag:"first" help:"put them before all others"`
	Last   bool     `json:"last" flag:"last" help:"put them after all others; the default policy still comes later"`
}

// Validate wants one place.
func (in *PolicyMoveIn) Validate() error {
	n := 0
	for _, given := range []bool{in.Before != "", in.After != "", in.First, in.Last} {
		if given {
			n++
		}
	}
	if n != 1 {
		return op.Errorf(op.Usage, "give one of --before NAME, --after NAME, --first, --last")
	}
	return nil
}

// PolicyTargetIn names users and groups of a policy.
type PolicyTargetIn struct {
	Policy string   `json:"policy" arg:"1" complete:"policy" help:"name of the policy"`
	Users  []string `json:"users" arg:"2..." optional:"true" complete:"user" help:"user"`
	Groups []string `json:"groups" flag:"group" complete:"group" help:"group; may be repeated"`
}

// Validate wants something to do.
func (in *PolicyTargetIn) Validate() error {
	if len(in.Users)+len(in.Groups) == 0 {
		return op.Errorf(op.Usage, "name a user, or a group with --group")
	}
	return nil
}

// PolicyTargetListIn filters the users of a policy.
type PolicyTargetListIn struct {
	Policy string `json:"policy" arg:"1" complete:"policy" help:"name of the policy"`
	Search string `json:"search" flag:"search" help:"only rows that contain this"`
}

// PolicyTargetRow is a user whom a policy names, himself or by a group.
type PolicyTargetRow struct {
	User    string `json:"user" col:"USER"`
	Through string `json:"through" col:"THROUGH"`          // user, or group NAME
	InForce string `json:"in_force" col:"POLICY IN FORCE"` // the policy that counts for him
}

// EffectiveRow is one thing that a policy decides, as it is for a user.
type EffectiveRow struct {
	Item      string `json:"item" col:"ITEM"`
	Value     string `json:"value" col:"VALUE"`
	DecidedBy string `json:"decided_by" col:"DECIDED BY"`
	Change    string `json:"change" col:"CHANGED WITH"`
}

// Policies (R5.32 to R5.100).
var (
	PolicyAdd = op.New[PolicyAddIn, PolicyRow]("policy add", op.Spec{Summary: "add a policy, after the others and before the default one", Effect: op.Create,
		Help: "What is not given is as in the default policy.", Examples: []string{"mpctl policy add interns --group interns --pop3 off --imap-lan-only on"}})
	PolicyList = op.New[PolicyListIn, []PolicyRow]("policy list", op.Spec{Summary: "list policies in the order in which they count", Effect: op.Read,
		Help: "Of the policies that name a user, or a group that he is in, the first one counts, whole."})
	PolicyShow   = op.New[PolicyIn, PolicyRow]("policy show", op.Spec{Summary: "show a policy", Effect: op.Read})
	PolicySet    = op.New[PolicySetIn, PolicyRow]("policy set", op.Spec{Summary: "change a policy", Effect: op.Update, Help: "It counts from the next login on; sessions that are open go on."})
	PolicyDelete = op.New[PolicyIn, op.None]("policy delete", op.Spec{Summary: "delete a policy; the next one that names a user counts for him", Effect: op.Delete, Confirm: op.ConfirmYes})
	PolicyMove   = op.New[PolicyMoveIn, []PolicyRow]("policy move", op.Spec{Summary: "change the order of policies, in one step", Effect: op.Update,
		Examples: []string{"mpctl policy move interns sales --first", "mpctl policy move interns --after sales --dry-run"}})
	PolicyTargetAdd    = op.New[PolicyTargetIn, PolicyRow]("policy target add", op.Spec{Summary: "let a policy be for users or groups", Effect: op.Update, Examples: []string{"mpctl policy target add interns carol --group summer"}})
	PolicyTargetDelete = op.New[PolicyTargetIn, PolicyRow]("policy target delete", op.Spec{Summary: "let a policy no longer be for users or groups", Effect: op.Update})
	PolicyTargetList   = op.New[PolicyTargetListIn, []PolicyTargetRow]("policy target list", op.Spec{Summary: "list the users that a policy names, those of its groups too", Effect: op.Read})
	PolicyEffective    = op.New[PolicyEffectiveIn, []EffectiveRow]("policy effective", op.Spec{Summary: "show what a user may do, and what decides about it", Effect: op.Read,
		Help: "Of services, the service decides first, then the user's own settings (mpctl user set), then the policy: each of them can only take away. Of what he may send, the policy decides, what it leaves open the domain of the address that he sends from, then the system; and the system's limit on the size of a message always holds."})
)
