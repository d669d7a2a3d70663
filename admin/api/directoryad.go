package api

import "mailplusd/admin/op"

// ADOut is the binding to an Active Directory domain, and how the last synchronisation ended.
type ADOut struct {
	Domain       string   `json:"domain" col:"DOMAIN"`
	Short        string   `json:"short" col:"NETBIOS"`                // the DOMAIN of DOMAIN\user; empty: not known
	Servers      []string `json:"servers" col:"DOMAIN CONTROLLERS"`   // as they are tried from this node
	FromDNS      bool     `json:"from_dns" col:"FROM DNS,wide"`       // DNS has named them; no: they are set
	TLS          string   `json:"tls" col:"TLS,wide"`                 //
	CA           string   `json:"ca" col:"CA,wide"`                   // subjects; empty: the system's
	BindUser     string   `json:"bind_user" col:"BIND USER"`          //
	Password     string   `json:"password" col:"PASSWORD,wide"`       // set, or not readable on this node
	BaseDN       string   `json:"base_dn" col:"BASE DN,wide"`         //
	UserFilter   string   `json:"user_filter" col:"USER FILTER,wide"` //
	GroupFilter  string   `json:"group_filter" col:"GROUP FILTER,wide"`
	DisplayAttr  string   `json:"display_attr" col:"DISPLAY NAME,wide"`
	NicknameAttr string   `json:"nickname_attr" col:"NICKNAME,wide"`
	AdminGroup   string   `json:"admin_group" col:"ADMIN GROUP,wide"`
	SyncMinutes  int      `json:"sync_minutes" col:"SYNC EVERY,wide"`
	Timeout      int      `json:"timeout" col:"TIMEOUT,wide"`
	CacheMinutes int      `json:"cache_minutes" col:"CACHE,wide"`
	SyncStatus
}

// ADBindIn is a new binding.
type ADBindIn struct {
	Domain   string    `json:"domain" flag:"domain" required:"true" help:"DNS name of the Active Directory domain, such as ad.example.com"`
	User     string    `json:"user" flag:"bind-user" required:"true" help:"account that reads users and groups: mail@ad.example.com, EXAMPLE\\mail or a DN; it needs no special right"`
	Password op.Secret `json:"password" secret:"bind-password" help:"password of the bind user"`
	URIs     []string  `json:"uris" flag:"uri" help:"domain controller as ldap://HOST[:PORT] or ldaps://HOST[:PORT], tried in this order; none: DNS names them"`
	TLS      string    `json:"tls" flag:"tls" enum:"starttls,ldaps" default:"starttls" help:"protection of controllers that DNS names; a password never crosses the network in clear"`
	CA       string    `json:"ca" file:"ldap-ca" optional:"true" help:"PEM file with the authority that the controllers' certificates must be of; none: those of the system"`
	BaseDN   *string   `json:"base_dn" flag:"base-dn" help:"where users are, such as OU=People,DC=ad,DC=example,DC=com; none: the whole domain"`
	BindingSet
}

// ADSetIn changes what is given.
type ADSetIn struct {
	User     *string   `json:"user" flag:"bind-user" help:"account that reads users and groups"`
	Password op.Secret `json:"password" secret:"bind-password" optional:"true" help:"password of the bind user"`
	URIs     []string  `json:"uris" flag:"uri" help:"domain controller as ldap://HOST[:PORT] or ldaps://HOST[:PORT]; replaces all"`
	FromDNS  bool      `json:"from_dns" flag:"from-dns" help:"ask DNS for the domain controllers again"`
	TLS      *string   `json:"tls" flag:"tls" enum:"starttls,ldaps" help:"protection of controllers that DNS names"`
	CA       string    `json:"ca" file:"ldap-ca" optional:"true" help:"PEM file with the authority that the controllers' certificates must be of"`
	SystemCA bool      `json:"system_ca" flag:"system-ca" help:"trust the authorities of the system again"`
	BaseDN   *string   `json:"base_dn" flag:"base-dn" help:"where users are; empty: the whole domain"`
	BindingSet
}

// The bound Active Directory domain (R5.05).
var (
	ADBind = op.New[ADBindIn, ADOut]("directory ad bind", op.Spec{Summary: "bind this mail system to a Windows Active Directory domain", Effect: op.Create, Early: true,
		Help: "The domain is asked before the binding is stored. Its users become the accounts with mpctl account source set domain.\n" +
			"This server does not join the domain as a computer: it reads users and groups over LDAP as the bind user, and checks passwords by a bind.",
		Examples: []string{"mpctl directory ad bind --domain ad.example.com --ldap-ca ca.pem --bind-user mail@ad.example.com --bind-password-file ad.pw"}})
	ADShow   = op.New[op.None, ADOut]("directory ad show", op.Spec{Summary: "show the binding and the last synchronisation", Effect: op.Read, Early: true})
	ADSet    = op.New[ADSetIn, ADOut]("directory ad set", op.Spec{Summary: "change the binding; the domain is asked before", Effect: op.Update, Early: true})
	ADUnbind = op.New[op.None, op.None]("directory ad unbind", op.Spec{Summary: "leave the domain; its users' mail stays and is theirs again when it is bound again", Effect: op.Delete, Confirm: op.ConfirmYes, Early: true})
	ADTest   = op.New[LDAPTestIn, []Finding]("directory ad test", op.Spec{Summary: "check that this node reaches the domain controllers and can log in there", Effect: op.Read, Local: true, Early: true,
		Help: "With --user it also tells what keeps that user from logging in: disabled, expired, locked, or a password that must be changed.\n" +
			"In a pair run it on both nodes: each asks the domain by itself."})
	ADSync = op.New[LDAPSyncIn, LDAPSyncOut]("directory ad sync", op.Spec{Summary: "read users and groups of the domain now", Effect: op.Run})
)
