package state

import (
	"fmt"
	"strings"

	"mailplusd/mail/model"
)

// Every table, by the octet in its keys. Append only; never reuse a number.
var (
	Settings = &Table[Section]{ID: 1, Name: "setting", Key: func(s *Section) string { return s.Name }}

	Users = &Table[model.User]{ID: 2, Name: "user",
		Key:     (*model.User).Key,
		Indexes: []Index[model.User]{{ID: 1, Unique: true, Values: func(u *model.User) []string { return []string{fmt.Sprint(u.ID)} }}},
	}
	Groups  = &Table[model.Group]{ID: 3, Name: "group", Key: (*model.Group).Key}
	Domains = &Table[model.Domain]{ID: 4, Name: "domain",
		Key:     func(d *model.Domain) string { return d.Name },
		Indexes: []Index[model.Domain]{{ID: 1, Unique: true, Values: func(d *model.Domain) []string { return append([]string{d.Name}, d.Additional...) }}},
	}
	DomainUsers = &Table[model.DomainUser]{ID: 5, Name: "domain user",
		Key: func(m *model.DomainUser) string { return m.Domain + "/" + m.UserKey() },
		Indexes: []Index[model.DomainUser]{
			{ID: 1, Unique: true, Values: memberAddresses},
			{ID: 2, Values: func(m *model.DomainUser) []string { return []string{m.UserKey()} }},
		},
	}
	Aliases      = &Table[model.Alias]{ID: 6, Name: "alias", Key: func(a *model.Alias) string { return a.Domain + "/" + a.Name }}
	Certificates = &Table[model.Certificate]{ID: 7, Name: "certificate", Key: func(c *model.Certificate) string { return c.Name }}
	Tokens       = &Table[model.Token]{ID: 8, Name: "token", Key: func(t *model.Token) string { return t.Name }, Class: ClassUser,
		Indexes: []Index[model.Token]{{ID: 1, Unique: true, Values: func(t *model.Token) []string { return []string{string(t.Hash)} }}}}
	Licenses  = &Table[model.License]{ID: 9, Name: "licence", Key: func(l *model.License) string { return l.Serial }}
	AdminLog  = &Table[model.AdminEvent]{ID: 10, Name: "admin log", Class: ClassUser, Key: func(e *model.AdminEvent) string { return string(be64(nil, uint64(e.Time))) + e.Actor }}
	Sequences = &Table[Sequence]{ID: 11, Name: "sequence", Class: ClassUser, Key: func(s *Sequence) string { return s.Name }}

	Pairs          = &Table[model.Pair]{ID: 12, Name: "pair", Class: ClassPair, Key: func(*model.Pair) string { return pairRow }}
	RelayRules     = &Table[model.RelayRule]{ID: 20, Name: "relay rule", Key: func(r *model.RelayRule) string { return r.Name }}
	TrustedServers = &Table[model.TrustedServer]{ID: 21, Name: "trusted server", Key: func(t *model.TrustedServer) string { return t.Name }}
	RelayDomains   = &Table[model.RelayDomain]{ID: 22, Name: "relay domain", Key: func(d *model.RelayDomain) string { return d.Name },
		Indexes: []Index[model.RelayDomain]{{ID: 1, Unique: true, Values: func(d *model.RelayDomain) []string { return []string{d.Domain} }}}}
	Subscriptions = &Table[model.Subscription]{ID: 41, Name: "subscription", Class: ClassUser, Key: (*model.Subscription).Key}
	Policies      = &Table[model.Policy]{ID: 40, Name: "policy", Key: func(p *model.Policy) string { return p.Name }}

	DKIM           = &Table[model.DKIM]{ID: 33, Name: "DKIM", Key: func(d *model.DKIM) string { return d.Domain }}
	AutoForwards   = &Table[model.AutoForward]{ID: 23, Name: "forward", Class: ClassUser, Key: func(f *model.AutoForward) string { return f.User }}
	AutoReplies    = &Table[model.AutoReply]{ID: 24, Name: "auto-reply", Class: ClassUser, Key: func(r *model.AutoReply) string { return r.User }}
	AutoBCCs       = &Table[model.AutoBCC]{ID: 25, Name: "auto-BCC rule", Key: func(b *model.AutoBCC) string { return b.Domain + "/" + b.Name }}
	ACMEAccounts   = &Table[model.ACMEAccount]{ID: 30, Name: "ACME account", Class: ClassUser, Key: func(a *model.ACMEAccount) string { return a.Directory }}
	ACMEChallenges = &Table[model.ACMEChallenge]{ID: 31, Name: "ACME challenge", Class: ClassUser, Key: func(c *model.ACMEChallenge) string { return c.Type + "/" + c.Token }}
	IssuedCerts    = &Table[model.IssuedCert]{ID: 32, Name: "issued certificate", Class: ClassUser, Key: func(c *model.IssuedCert) string { return c.Name }}

	TLSPolicies = &Table[model.TLSPolicy]{ID: 26, Name: "TLS policy", Key: func(p *model.TLSPolicy) string { return p.Domain }}
	TrustedCAs  = &Table[model.TrustedCA]{ID: 27, Name: "trusted CA", Key: func(c *model.TrustedCA) string { return c.Name }}

	STSPolicies = &Table[model.STSPolicy]{ID: 28, Name: "MTA-STS policy", Class: ClassUser, Key: func(p *model.STSPolicy) string { return p.Domain }}

	TLSReports = &Table[model.TLSReport]{ID: 29, Name: "TLS report", Class: ClassUser, // a row a node, so that a merge finds no conflict
		Key: func(r *model.TLSReport) string { return fmt.Sprintf("%s/%s/%d", r.Day, r.Domain, r.Node) }}

	HoldRules = &Table[model.HoldRule]{ID: 42, Name: "hold rule", Key: func(r *model.HoldRule) string { return r.Name }}

	Directories     = &Table[model.LDAP]{ID: 36, Name: "directory", Key: func(l *model.LDAP) string { return l.Source }}
	DirectoryStates = &Table[model.DirectoryState]{ID: 37, Name: "directory state", Class: ClassUser, Key: func(d *model.DirectoryState) string { return d.Source }}
	SecondFactors   = &Table[model.SecondFactor]{ID: 38, Name: "second factor", Class: ClassUser, Key: func(f *model.SecondFactor) string { return f.User }}

	Epochs       = &Table[Epoch]{ID: 13, Name: "epoch", Class: ClassPair, Key: func(e *Epoch) string { return string(be64(nil, e.Epoch)) }}
	MergeReports = &Table[MergeReport]{ID: 14, Name: "merge report", Class: ClassPair, Key: func(r *MergeReport) string { return r.ID }}
)

// pairRow is the only row of Pairs.
const pairRow = "pair"

// tables lists them for code that finds a table by its number.
var tables = []anyTable{
	Settings,
	Users,
	Groups,
	Domains,
	DomainUsers,
	Aliases,
	Certificates,
	Tokens,
	Licenses,
	AdminLog,
	Sequences,
	Pairs,
	Epochs,
	MergeReports,
	RelayRules,
	TrustedServers,
	RelayDomains,
	DKIM,
	AutoForwards,
	AutoReplies,
	AutoBCCs,
	ACMEAccounts,
	ACMEChallenges,
	IssuedCerts,
	TLSPolicies,
	TrustedCAs,
	STSPolicies,
	TLSReports,
	Subscriptions,
	Policies,
	Directories,
	DirectoryStates,
	SecondFactors,
	HoldRules,
}

// anyTable is a table whatever its rows.
type anyTable interface {
	id() byte
	name() string
	class() RowClass
	// replace stores the encoded row value under key (nil: deletes it) and its index keys.
	replace(a *apply, key string, value []byte) error
}

func tableByID(id byte) anyTable {
	for _, t := range tables {
		if t.id() == id {
			return t
		}
	}
	return nil
}

func (t *Table[T]) id() byte        { return t.ID }
func (t *Table[T]) name() string    { return t.Name }
func (t *Table[T]) class() RowClass { return t.Class }

// Indexes of tables that have more than one.
const (
	IndexUserID       = 1 // Users: account ID in decimal
	IndexDomainName   = 1 // Domains: name and additional names
	IndexAddress      = 1 // DomainUsers: local@domain as SourceKey has it
	IndexMemberByUser = 2 // DomainUsers: key of the user
	IndexTokenHash    = 1 // Tokens: SHA-256
)

func memberAddresses(m *model.DomainUser) []string {
	out := make([]string, len(m.Locals))
	for i, l := range m.Locals {
		out[i] = model.SourceKey(m.Source, strings.ToLower(l)+"@"+m.Domain)
	}
	return out
}

// Section is one section of model.Settings as it is stored: only what was set.
type Section struct {
	Name   string            `cbor:"name"`
	Values map[string]string `cbor:"values"`
}

// Sequence is a number that only rises, such as the last account ID.
type Sequence struct {
	Name string `cbor:"name"`
	Last uint64 `cbor:"last"`
}

// Next raises a sequence inside a transaction.
func (tx *Tx) Next(name string) (uint64, error) {
	row, err := Sequences.Get(tx, name)
	if err != nil && err != ErrNotFound {
		return 0, err
	}
	if row == nil {
		row = &Sequence{Name: name}
	}
	if g := tx.s.Regime(); g.Forced != 0 && g.Forced == g.Epoch {
		row.Last = max(row.Last, g.Block<<idBlock) // as the numbers of mailboxes: never one that the other side gives
	}
	row.Last++
	return row.Last, Sequences.Put(tx, row)
}

// TableVersion is the index of the entry that last changed a table; 0: never. Caches compare
// it, and Generation.
func (s *State) TableVersion(id byte) uint64 {
	h := s.acquire()
	defer h.release()
	v, err := getCopy(h, []byte{spaceTableV, id})
	if err != nil {
		return 0
	}
	return number(v)
}

// RowsVersion rises whenever any table may have changed, also by Restore. It is cheap to
// read, and means nothing on another node or after a restart.
func (s *State) RowsVersion() uint64 { return s.rows.Load() }
