package api

import "mailplusd/admin/op"

// UsageRow is what a user has sent today.
type UsageRow struct {
	User        string `json:"user" col:"USER"`
	Messages    int64  `json:"messages" col:"MESSAGES"`
	Count       int64  `json:"daily_count" col:"DAILY COUNT"` // 0: no limit
	Octets      int64  `json:"octets" col:"OCTETS"`
	MB          int64  `json:"daily_mb" col:"DAILY MB"` // 0: no limit
	Full        bool   `json:"full" col:"FULL"`         // one message more, of one octet, is refused
	CountBy     string `json:"daily_count_by" col:"COUNT SET BY,wide"`
	MBBy        string `json:"daily_mb_by" col:"MB SET BY,wide"`
	Day         string `json:"day" col:"DAY,wide"`
	StartsAnew  string `json:"starts_anew" col:"STARTS ANEW,wide"`
	MainAddress string `json:"main_address" col:"ADDRESS,wide"`
}

// UsageFilter chooses users; the same filters look and act.
type UsageFilter struct {
	Search string `json:"search" flag:"search" help:"only users whose name or addresses contain this"`
	Full   bool   `json:"full" flag:"full" help:"only users who may send nothing more today"`
}

// AccountUsageListIn filters the list.
type AccountUsageListIn struct {
	UsageFilter
	Used bool `json:"used" flag:"used" help:"only users who have sent something today"`
}

// AccountUsageClearIn says whose counts are forgotten.
type AccountUsageClearIn struct {
	Users []string `json:"users" arg:"1..." optional:"true" complete:"user" help:"login name"`
	UsageFilter
	All bool `json:"all" flag:"all" help:"all users"`
}

// Validate wants a choice.
func (in *AccountUsageClearIn) Validate() error {
	return chosen(in.Users, &in.UsageFilter, in.All)
}

func chosen(users []string, f *UsageFilter, all bool) error {
	switch given := len(users) > 0 || f.Search != "" || f.Full; {
	case !given && !all:
		return op.Errorf(op.Usage, "say whose count to clear: a USER, --search, --full, or --all")
	case given && all:
		return op.Errorf(op.Usage, "--all are all of them; leave it out to clear those that are named or found")
	}
	return nil
}

// DomainUsageListIn names a domain and filters.
type DomainUsageListIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	AccountUsageListIn
}

// DomainUsageClearIn says whose counts are forgotten, of the users of a domain.
type DomainUsageClearIn struct {
	Domain string   `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Users  []string `json:"users" arg:"2..." optional:"true" complete:"user" help:"login name"`
	UsageFilter
	All bool `json:"all" flag:"all" help:"all users of the domain"`
}

// Validate wants a choice.
func (in *DomainUsageClearIn) Validate() error { return chosen(in.Users, &in.UsageFilter, in.All) }

// UsageCleared lists whose counts were forgotten.
type UsageCleared struct {
	Cleared int      `json:"cleared" col:"CLEARED"`
	Users   []string `json:"users" col:"USERS"`
}

// The record of what users send (R8.88–R8.91). It is one count for each user, not one for each domain.
var (
	AccountUsageList = op.New[AccountUsageListIn, []UsageRow]("account usage list", op.Spec{Summary: "list what users have sent today, and how much they may", Effect: op.Read,
		Help: "Counted are messages that a user hands in after a login and those that are forwarded for him, each once however many get it. The limits are those of his main address."})
	AccountUsageClear = op.New[AccountUsageClearIn, UsageCleared]("account usage clear", op.Spec{Summary: "let users start anew with what they may send today", Effect: op.Delete, Confirm: op.ConfirmAll, Alone: true,
		Examples: []string{"mpctl account usage clear carol", "mpctl account usage clear --full", "mpctl account usage clear --all --yes"}})
	DomainUsageList = op.New[DomainUsageListIn, []UsageRow]("domain usage list", op.Spec{Summary: "list what users of a domain have sent today, and how much they may", Effect: op.Read,
		Help: "A user has one count, whatever domain he sends from; the limits are those of his address in this domain."})
	DomainUsageShow  = op.New[DomainUserIn, UsageRow]("domain usage show", op.Spec{Summary: "show what a user of a domain has sent today, and how much he may", Effect: op.Read})
	DomainUsageClear = op.New[DomainUsageClearIn, UsageCleared]("domain usage clear", op.Spec{Summary: "let users of a domain start anew with what they may send today", Effect: op.Delete, Confirm: op.ConfirmAll, Alone: true,
		Examples: []string{"mpctl domain usage clear example.com carol", "mpctl domain usage clear example.com --all --yes"}})
)
