package api

import "mailplusd/admin/op"

// SyncStatus is how the last synchronisation of a directory ended.
type SyncStatus struct {
	InForce     bool     `json:"in_force" col:"IN FORCE"`
	Synced      string   `json:"synced" col:"SYNCHRONISED"` // last good one; empty: never
	Error       string   `json:"error" col:"ERROR"`         // of the last one
	Users       int      `json:"users" col:"USERS"`
	Groups      int      `json:"groups" col:"GROUPS"`
	Disabled    int      `json:"disabled" col:"DISABLED,wide"`
	Gone        int      `json:"gone" col:"GONE,wide"`
	Unsupported int      `json:"unsupported" col:"NOT SUPPORTED,wide"`
	LeftOut     int      `json:"left_out" col:"LEFT OUT,wide"`
	Notes       []string `json:"notes" col:"NOTES,wide"`
}

// BindingSet are the flags that every kind of directory has; what is not given stays.
type BindingSet struct {
	UserFilter   *string `json:"user_filter" flag:"user-filter" help:"which entries are users (RFC 4515)"`
	GroupFilter  *string `json:"group_filter" flag:"group-filter" help:"which entries are groups"`
	DisplayAttr  *string `json:"display_attr" flag:"display-attr" help:"attribute with the shown name; empty: none"`
	NicknameAttr *string `json:"nickname_attr" flag:"nickname-attr" help:"attribute with the mail nickname, <m> of address formats, such as mailNickname; empty: none"`
	AdminGroup   *string `json:"admin_group" flag:"admin-group" help:"group of the directory whose members administer the system; empty: none"`
	SyncMinutes  *int    `json:"sync_minutes" flag:"sync-minutes" min:"1" max:"1440" unit:"minutes" help:"how often users and groups are read anew"`
	Timeout      *int    `json:"timeout" flag:"timeout" min:"1" max:"60" unit:"seconds" help:"how long one answer of the directory may take"`
	CacheMinutes *int    `json:"cache_minutes" flag:"cache-minutes" min:"0" max:"1440" unit:"minutes" help:"how long a right password is good for while the directory is down; 0: nobody can log in then"`
}

// LDAPOut is the binding to an LDAP directory, and how the last synchronisation ended.
type LDAPOut struct {
	URIs           []string `json:"uris" col:"URI"`
	TLS            string   `json:"tls" col:"TLS"`
	CA             string   `json:"ca" col:"CA,wide"` // subjects; empty: the system's
	BindDN         string   `json:"bind_dn" col:"BIND DN,wide"`
	Password       string   `json:"password" col:"PASSWORD,wide"` // set, not set, or not readable on this node
	BaseDN         string   `json:"base_dn" col:"BASE DN"`
	UserFilter     string   `json:"user_filter" col:"USER FILTER,wide"`
	GroupFilter    string   `json:"group_filter" col:"GROUP FILTER,wide"`
	DisabledFilter string   `json:"disabled_filter" col:"DISABLED FILTER,wide"`
	NameAttr       string   `json:"name_attr" col:"NAME,wide"`
	DisplayAttr    string   `json:"display_attr" col:"DISPLAY NAME,wide"`
	NicknameAttr   string   `json:"nickname_attr" col:"NICKNAME,wide"`
	GroupAttr      string   `json:"group_attr" col:"GROUP,wide"`
	MemberAttrs    []string `json:"member_attrs" col:"MEMBER,wide"`
	AdminGroup     string   `json:"admin_group" col:"ADMIN GROUP,wide"`
	SyncMinutes    int      `json:"sync_minutes" col:"SYNC EVERY,wide"`
	Timeout        int      `json:"timeout" col:"TIMEOUT,wide"`
	CacheMinutes   int      `json:"cache_minutes" col:"CACHE,wide"`
	SyncStatus
}

// LDAPBindIn is a new binding.
type LDAPBindIn struct {
	URIs           []string  `json:"uris" flag:"uri" required:"true" help:"ldap://HOST[:PORT] or ldaps://HOST[:PORT]; several are tried in this order"`
	BaseDN         string    `json:"base_dn" flag:"base-dn" required:"true" help:"where users and groups are, such as dc=example,dc=com"`
	BindDN         string    `json:"bind_dn" flag:"bind-dn" help:"account that may read users and groups; none: anonymous"`
	Password       op.Secret `json:"password" secret:"bind-password" optional:"true" help:"password of the bind DN"`
	TLS            string    `json:"tls" flag:"tls" enum:"starttls,none" default:"starttls" help:"protection of ldap://; with none passwords cross the network in clear"`
	CA             string    `json:"ca" file:"ldap-ca" optional:"true" help:"PEM file with the authority that the servers' certificates must be of; none: those of the system"`
	DisabledFilter *string   `json:"disabled_filter" flag:"disabled-filter" help:"which users are disabled; empty: none"`
	NameAttr       *string   `json:"name_attr" flag:"name-attr" help:"attribute with the login name"`
	GroupAttr      *string   `json:"group_attr" flag:"group-attr" help:"attribute with the name of a group"`
	MemberAttrs    []string  `json:"member_attrs" flag:"member-attr" help:"attribute with a group's members, as DNs or login names; may be repeated"`
	BindingSet
}

// LDAPSetIn changes what is given.
type LDAPSetIn struct {
	URIs           []string  `json:"uris" flag:"uri" help:"ldap://HOST[:PORT] or ldaps://HOST[:PORT]; replaces all"`
	BaseDN         *string   `json:"base_dn" flag:"base-dn" help:"where users and groups are, such as dc=example,dc=com"`
	BindDN         *string   `json:"bind_dn" flag:"bind-dn" help:"account that may read users and groups; empty: anonymous"`
	Password       op.Secret `json:"password" secret:"bind-password" optional:"true" help:"password of the bind DN"`
	TLS            *string   `json:"tls" flag:"tls" enum:"starttls,none" help:"protection of ldap://; with none passwords cross the network in clear"`
	CA             string    `json:"ca" file:"ldap-ca" optional:"true" help:"PEM file with the authority that the servers' certificates must be of"`
	SystemCA       bool      `json:"system_ca" flag:"system-ca" help:"trust the authorities of the system again"`
	DisabledFilter *string   `json:"disabled_filter" flag:"disabled-filter" help:"which users are disabled; empty: none"`
	NameAttr       *string   `json:"name_attr" flag:"name-attr" help:"attribute with the login name"`
	GroupAttr      *string   `json:"group_attr" flag:"group-attr" help:"attribute with the name of a group"`
	MemberAttrs    []string  `json:"member_attrs" flag:"member-attr" help:"attribute with a group's members, as DNs or login names; replaces all"`
	BindingSet
}

// LDAPTestIn says what to try.
type LDAPTestIn struct {
	User     string    `json:"user" flag:"user" help:"also try to log in as this user, with --password-file"`
	Password op.Secret `json:"password" secret:"password" optional:"true" help:"password of that user"`
}

// LDAPSyncIn says how.
type LDAPSyncIn struct {
	Force bool `json:"force" flag:"force" help:"even when most users are not in the directory any more: they are disabled"`
}

// LDAPSyncOut is what a synchronisation did.
type LDAPSyncOut struct {
	Users       int      `json:"users" col:"USERS"`
	Groups      int      `json:"groups" col:"GROUPS"`
	Added       int      `json:"added" col:"ADDED"`
	Changed     int      `json:"changed" col:"CHANGED"`
	Disabled    int      `json:"disabled" col:"DISABLED"`
	Gone        int      `json:"gone" col:"GONE"`
	Unsupported int      `json:"unsupported" col:"NOT SUPPORTED"`
	LeftOut     int      `json:"left_out" col:"LEFT OUT"`
	Notes       []string `json:"notes" col:"NOTES,wide"`
}

// The bound directory: accounts of an LDAP server (R5.04–R5.15).
var (
	LDAPBind = op.New[LDAPBindIn, LDAPOut]("directory ldap bind", op.Spec{Summary: "bind this mail system to an LDAP directory", Early: true, Effect: op.Create,
		Help: "The directory is asked before the binding is stored. Its users become the accounts with mpctl account source set ldap.\n" +
			"What fits OpenLDAP with inetOrgPerson is set; mpctl directory ldap show tells it.",
		Examples: []string{"mpctl directory ldap bind --uri ldap://ldap.example.com --ldap-ca ca.pem --base-dn dc=example,dc=com --bind-dn cn=mail,dc=example,dc=com --bind-password-file ldap.pw"}})
	LDAPShow   = op.New[op.None, LDAPOut]("directory ldap show", op.Spec{Summary: "show the binding and the last synchronisation", Early: true, Effect: op.Read})
	LDAPSet    = op.New[LDAPSetIn, LDAPOut]("directory ldap set", op.Spec{Summary: "change the binding; the directory is asked before", Early: true, Effect: op.Update})
	LDAPUnbind = op.New[op.None, op.None]("directory ldap unbind", op.Spec{Summary: "leave the directory; its users' mail stays and is theirs again when it is bound again", Early: true, Effect: op.Delete, Confirm: op.ConfirmYes})
	LDAPTest   = op.New[LDAPTestIn, []Finding]("directory ldap test", op.Spec{Summary: "check that this node reaches the directory and can log in there", Early: true, Effect: op.Read, Local: true,
		Help: "In a pair run it on both nodes: each asks the directory by itself."})
	LDAPSync = op.New[LDAPSyncIn, LDAPSyncOut]("directory ldap sync", op.Spec{Summary: "read users and groups of the directory now", Effect: op.Run})
)
