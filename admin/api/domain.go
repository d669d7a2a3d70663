package api

import "mailplusd/admin/op"

// DomainRow is a hosted domain.
type DomainRow struct {
	Name        string   `json:"name" col:"NAME"`
	Description string   `json:"description" col:"DESCRIPTION"`
	Users       int      `json:"users" col:"USERS"`
	Aliases     int      `json:"aliases" col:"ALIASES"`
	Format      string   `json:"format" col:"FORMAT"`
	AutoAdd     bool     `json:"auto_add" col:"AUTO-ADD"`
	Additional  []string `json:"additional" col:"ADDITIONAL,wide"`
	CatchAll    string   `json:"catch_all" col:"CATCH-ALL,wide"`
	Main        bool     `json:"main" col:"MAIN"`
}

// DomainAddIn is a new domain.
type DomainAddIn struct {
	Name        string   `json:"name" arg:"1" help:"domain name"`
	Description string   `json:"description" flag:"description" help:"what it is for"`
	Format      string   `json:"format" flag:"format" default:"<a>" help:"of new addresses: <a> account name, <m> nickname, <3a> first characters"`
	AutoAdd     bool     `json:"auto_add" flag:"auto-add" help:"new users get an address here"`
	Users       []string `json:"users" flag:"user" complete:"user" help:"member from the start; may be repeated"`
}

// DomainIn names a domain.
type DomainIn struct {
	Name string `json:"name" arg:"1" complete:"domain" help:"domain name"`
}

// DomainSetIn changes what is given.
type DomainSetIn struct {
	Name        string  `json:"name" arg:"1" complete:"domain" help:"domain name"`
	Rename      *string `json:"rename" flag:"rename" help:"new name; addresses and aliases move along"`
	Description *string `json:"description" flag:"description" help:"what it is for"`
	Format      *string `json:"format" flag:"format" help:"of new addresses: <a> account name, <m> nickname, <3a> first characters"`
	AutoAdd     *bool   `json:"auto_add" flag:"auto-add" help:"new users get an address here"`
}

// DNSRecordsIn names a domain and, where they can't be seen from here, the public addresses.
type DNSRecordsIn struct {
	Name    string   `json:"name" arg:"1" complete:"domain" help:"domain name"`
	Address []string `json:"address" flag:"address" help:"public address of this server; default: network.public-address, or the interface's"`
	TLSA    bool     `json:"tlsa" flag:"tlsa" help:"also those by which other servers recognize this server's certificate (DANE)"`
}

// RecordRow is one DNS record to publish.
type RecordRow struct {
	Type     string `json:"type" col:"TYPE"`
	Name     string `json:"name" col:"HOST"`
	Value    string `json:"value" col:"POINTS TO"`
	Priority int    `json:"priority" col:"PRIORITY"`
	TTL      int    `json:"ttl" col:"TTL"` // seconds
}

// DomainUserRow is a member with his addresses.
type DomainUserRow struct {
	User      string   `json:"user" col:"USER"`
	Role      string   `json:"role" col:"ROLE"`
	Addresses []string `json:"addresses" col:"ADDRESSES"`
}

// DomainUserAddIn is a new member.
type DomainUserAddIn struct {
	Domain    string   `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	User      string   `json:"user" arg:"2" complete:"user" help:"login name"`
	Addresses []string `json:"addresses" flag:"address" help:"local part or address, the first is the main one; default: by the domain's format"`
	Role      string   `json:"role" flag:"role" enum:"user,manager,group" default:"user" help:"manager: may change the domain's settings; group: as his group says"`
}

// DomainUserIn names a member.
type DomainUserIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	User   string `json:"user" arg:"2" complete:"user" help:"login name"`
}

// DomainUserSetIn changes what is given.
type DomainUserSetIn struct {
	Domain    string   `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	User      string   `json:"user" arg:"2" complete:"user" help:"login name"`
	Addresses []string `json:"addresses" flag:"address" help:"all local parts or addresses, the first is the main one"`
	Role      *string  `json:"role" flag:"role" enum:"user,manager,group" help:"what he may do with the domain's settings"`
}

// DomainListIn names a domain and filters.
type DomainListIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Search string `json:"search" flag:"search" help:"only rows that contain this"`
}

// Domains (R8.01–R8.24, R8.38–R8.46).
var (
	DomainAdd    = op.New[DomainAddIn, DomainRow]("domain add", op.Spec{Summary: "add a hosted domain", Effect: op.Create})
	DomainList   = op.New[ListIn, []DomainRow]("domain list", op.Spec{Summary: "list hosted domains", Effect: op.Read})
	DomainShow   = op.New[DomainIn, DomainRow]("domain show", op.Spec{Summary: "show a domain", Effect: op.Read})
	DomainSet    = op.New[DomainSetIn, DomainRow]("domain set", op.Spec{Summary: "change or rename a domain", Effect: op.Update})
	DomainDelete = op.New[DomainIn, op.None]("domain delete", op.Spec{Summary: "delete a domain with its addresses and aliases; mailboxes stay", Effect: op.Delete, Confirm: op.ConfirmName})

	DomainDNSRecords = op.New[DNSRecordsIn, []RecordRow]("domain dns-records", op.Spec{Summary: "print the DNS records to publish", Effect: op.Read})

	DomainUserAdd    = op.New[DomainUserAddIn, DomainUserRow]("domain user add", op.Spec{Summary: "give a user addresses in a domain", Effect: op.Create})
	DomainUserList   = op.New[DomainListIn, []DomainUserRow]("domain user list", op.Spec{Summary: "list a domain's users", Effect: op.Read})
	DomainUserShow   = op.New[DomainUserIn, DomainUserRow]("domain user show", op.Spec{Summary: "show a domain's user", Effect: op.Read})
	DomainUserSet    = op.New[DomainUserSetIn, DomainUserRow]("domain user set", op.Spec{Summary: "change a user's addresses or role in a domain", Effect: op.Update})
	DomainUserDelete = op.New[DomainUserIn, op.None]("domain user delete", op.Spec{Summary: "take a user out of a domain", Effect: op.Delete})
)
