package model

import (
	"net/url"
	"strings"
	"unicode"
)

// The account sources (R5.07): exactly one is in force.
const (
	SourceLocal  = "local"
	SourceLDAP   = "ldap"
	SourceDomain = "domain" // Windows Active Directory
)

// Why a user of a directory may not use mail, as the last synchronisation found it.
const (
	AwayDisabled = "disabled" // the directory says so
	AwayGone     = "gone"     // the directory does not show him any more
)

// How the connection to a directory is protected.
const (
	LDAPStartTLS = "starttls" // STARTTLS on ldap://, or the directory is not used
	LDAPNoTLS    = "none"     // passwords cross the network in clear
	LDAPS        = "ldaps"    // TLS from the first octet, of domain controllers that DNS names
)

// LDAP is the binding to an LDAP directory (RFC 4510) or to an Active Directory domain: where it
// is, and what of it counts.
type LDAP struct {
	Source         string   `cbor:"source" json:"source"` // SourceLDAP or SourceDomain: there is one row
	URIs           []string `cbor:"uris" json:"uris"`     // ldap:// or ldaps://, tried in this order; a domain without: DNS names the controllers
	TLS            string   `cbor:"tls" json:"tls"`       // of ldap://: LDAPStartTLS or LDAPNoTLS; of a domain: LDAPStartTLS or LDAPS
	CA             string   `cbor:"ca,omitempty" json:"-"`
	BindDN         string   `cbor:"dn,omitempty" json:"bind_dn"` // empty: anonymous
	Password       string   `cbor:"pw,omitempty" json:"-"`       // sealed
	BaseDN         string   `cbor:"base" json:"base_dn"`
	UserFilter     string   `cbor:"uf" json:"user_filter"`
	GroupFilter    string   `cbor:"gf" json:"group_filter"`
	DisabledFilter string   `cbor:"df,omitempty" json:"disabled_filter"` // users for which it holds are disabled
	NameAttr       string   `cbor:"na" json:"name_attr"`
	DisplayAttr    string   `cbor:"da,omitempty" json:"display_attr"`
	NicknameAttr   string   `cbor:"ma,omitempty" json:"nickname_attr"`
	GroupAttr      string   `cbor:"ga" json:"group_attr"`
	MemberAttrs    []string `cbor:"mem" json:"member_attrs"` // their values are DNs, or names of users
	AdminGroup     string   `cbor:"adm,omitempty" json:"admin_group"`
	SyncMinutes    int      `cbor:"sync" json:"sync_minutes"`
	TimeoutSec     int      `cbor:"time" json:"timeout"`
	CacheMinutes   int      `cbor:"cache,omitempty" json:"cache_minutes"` // 0: none
	Created        int64    `cbor:"created" json:"created"`
	Realm          string   `cbor:"realm,omitempty" json:"realm"` // DNS name of the Active Directory domain
	Short          string   `cbor:"short,omitempty" json:"short"` // its NetBIOS name: the DOMAIN of DOMAIN\user
}

// AD tells whether the binding is to an Active Directory domain.
func (l *LDAP) AD() bool { return l.Source == SourceDomain }

// RootDN is where an Active Directory domain starts, such as DC=ad,DC=example,DC=com.
func (l *LDAP) RootDN() string { return "DC=" + strings.ReplaceAll(l.Realm, ".", ",DC=") }

// DefaultAD fits every Active Directory domain (MS-ADTS §3.1.1.4). Users are accounts of people
// (sAMAccountType, MS-SAMR §2.2.1.9), without the one that only Kerberos uses.
func DefaultAD(realm string) LDAP {
	l := LDAP{
		Source: SourceDomain, TLS: LDAPStartTLS, Realm: FoldDomain(realm), UserFilter: "(&(sAMAccountType=805306368)(!(sAMAccountName=krbtgt)))",
		GroupFilter: "(objectCategory=group)", NameAttr: "sAMAccountName", DisplayAttr: "displayName", GroupAttr: "sAMAccountName",
		MemberAttrs: []string{"member"}, AdminGroup: Administrators, SyncMinutes: 15, TimeoutSec: 5,
	}
	l.BaseDN = l.RootDN()
	return l
}

// DefaultLDAP fits OpenLDAP with inetOrgPerson, and accounts of other servers where their marks
// of a disabled one are known (RFC 2307, RFC 2798).
func DefaultLDAP() LDAP {
	return LDAP{
		Source: SourceLDAP, TLS: LDAPStartTLS, UserFilter: "(objectClass=inetOrgPerson)",
		GroupFilter:    "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
		DisabledFilter: "(|(pwdAccountLockedTime=000001010000Z)(nsAccountLock=TRUE)(loginDisabled=TRUE))",
		NameAttr:       "uid", DisplayAttr: "displayName", GroupAttr: "cn", MemberAttrs: []string{"member", "uniqueMember", "memberUid"},
		AdminGroup: Administrators, SyncMinutes: 15, TimeoutSec: 5,
	}
}

// Limits of a binding.
const (
	MaxLDAPURIs   = 8
	maxLDAPDN     = 1024
	maxLDAPFilter = 4096
	maxLDAPCA     = 256 << 10
)

// Validate checks what can be checked without the directory. Filters are read by the package
// that uses them.
func (l *LDAP) Validate() error {
	if len(l.URIs) == 0 && !l.AD() || len(l.URIs) > MaxLDAPURIs {
		return Invalid("uri", "1 to %d are needed, such as ldap://ldap.example.com", MaxLDAPURIs)
	}
	for _, u := range l.URIs {
		if err := validateLDAPURI(u); err != nil {
			return err
		}
	}
	if err := l.validateAD(); err != nil {
		return err
	}
	if l.TLS != LDAPStartTLS && l.TLS != LDAPNoTLS && !l.AD() {
		return Invalid("tls", "%q is not one of starttls, none; for TLS from the first octet write ldaps:// in --uri", l.TLS)
	}
	if len(l.CA) > maxLDAPCA {
		return Invalid("ldap-ca", "has %d octets, more than %d", len(l.CA), maxLDAPCA)
	}
	if l.BaseDN == "" {
		return Invalid("base-dn", "is empty; write it like dc=example,dc=com")
	}
	for field, dn := range map[string]string{"bind-dn": l.BindDN, "base-dn": l.BaseDN} {
		name := l.AD() && field == "bind-dn" // a domain takes other names than DNs, too
		if len(dn) > maxLDAPDN || dn != "" && !name && !strings.Contains(dn, "=") || strings.ContainsFunc(dn, unicode.IsControl) {
			return Invalid(field, "%q is no distinguished name; write it like ou=people,dc=example,dc=com", dn)
		}
	}
	if l.BindDN != "" && l.Password == "" {
		return Invalid("bind-dn", "logging in at the directory needs a password: --bind-password-file FILE")
	}
	for field, f := range map[string]string{"user-filter": l.UserFilter, "group-filter": l.GroupFilter} {
		if f == "" || len(f) > maxLDAPFilter {
			return Invalid(field, "must have 1 to %d octets, such as (objectClass=inetOrgPerson)", maxLDAPFilter)
		}
	}
	if len(l.DisabledFilter) > maxLDAPFilter {
		return Invalid("disabled-filter", "has more than %d octets", maxLDAPFilter)
	}
	if err := l.validateAttributes(); err != nil {
		return err
	}
	switch {
	case l.SyncMinutes < 1 || l.SyncMinutes > 1440:
		return Invalid("sync-minutes", "%d is outside 1 to 1440", l.SyncMinutes)
	case l.TimeoutSec < 1 || l.TimeoutSec > 60:
		return Invalid("timeout", "%d is outside 1 to 60", l.TimeoutSec)
	case l.CacheMinutes < 0 || l.CacheMinutes > 1440:
		return Invalid("cache-minutes", "%d is outside 0 to 1440", l.CacheMinutes)
	}
	return nil
}

// validateAD checks what an Active Directory domain has besides. It shows nothing without a login, and
// takes no password in clear.
func (l *LDAP) validateAD() error {
	if !l.AD() {
		return nil
	}
	if err := ValidateDomainName("domain", l.Realm); err != nil {
		return err
	}
	switch {
	case l.TLS != LDAPStartTLS && l.TLS != LDAPS:
		return Invalid("tls", "%q is not one of starttls, ldaps", l.TLS)
	case l.BindDN == "":
		return Invalid("bind-user", "is empty; write it like mail@%s", l.Realm)
	}
	return nil
}

func validateLDAPURI(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return Invalid("uri", "%q is no address of a directory; write it like ldap://ldap.example.com or ldaps://ldap.example.com:636", text)
	}
	return nil
}

func (l *LDAP) validateAttributes() error {
	if len(l.MemberAttrs) == 0 || len(l.MemberAttrs) > 8 {
		return Invalid("member-attr", "1 to 8 attributes are needed, such as member")
	}
	for _, a := range append([]string{l.NameAttr, l.GroupAttr}, l.MemberAttrs...) {
		if !attribute(a) {
			return Invalid("attribute", "%q is no name of an LDAP attribute", a)
		}
	}
	for _, a := range []string{l.DisplayAttr, l.NicknameAttr} {
		if a != "" && !attribute(a) {
			return Invalid("attribute", "%q is no name of an LDAP attribute", a)
		}
	}
	return nil
}

// attribute tells whether s is an attribute description (RFC 4512 §2.5).
func attribute(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '-' || r == ';' || r == '.')) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// DirectoryState is how the last synchronisation with a directory ended.
type DirectoryState struct {
	Source      string   `cbor:"source" json:"source"`
	Done        int64    `cbor:"done,omitempty" json:"done"`   // Unix seconds of the last good one
	Tried       int64    `cbor:"tried,omitempty" json:"tried"` // Unix seconds of the last one
	Error       string   `cbor:"err,omitempty" json:"error"`   // of the last one; empty: good
	Users       int      `cbor:"users" json:"users"`
	Groups      int      `cbor:"groups" json:"groups"`
	Disabled    int      `cbor:"dis" json:"disabled"`
	Gone        int      `cbor:"gone" json:"gone"`
	Unsupported int      `cbor:"unsup" json:"unsupported"`
	LeftOut     int      `cbor:"left" json:"left_out"`
	Notes       []string `cbor:"notes,omitempty" json:"notes"` // what an administrator should look at
}

// SourceKey gives the key under which an account or group of a source is stored. A colon can't be
// in a local name, so the sources never meet.
func SourceKey(source, name string) string {
	if source == "" || source == SourceLocal {
		return name
	}
	return source + ":" + name
}
