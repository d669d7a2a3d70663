package server

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// nouns are the stored things that an administrator makes, with the first words of their commands.
var nouns = []struct {
	row   any
	words string
	// excused are fields that no verb sets, and why.
	excused map[string]string
	// named are fields that a verb sets under another name.
	named map[string]string
}{
	{row: model.User{}, words: "user|account|me", excused: map[string]string{"ID": "given by the state", "Created": "a fact", "Source": "follows from the account source", "DN": "the directory's", "Away": "the directory's", "GUID": "the directory's", "UPN": "the directory's"},
		named: map[string]string{"Hash": "password", "Disabled": "enabled", "Activation": "activate", "NoFTS": "fts"}},
	{row: model.Group{}, words: "group|account group", excused: map[string]string{"Created": "a fact", "Source": "follows from the account source", "GUID": "the directory's"},
		named: map[string]string{"Activation": "account group activate", "Users": "users", "Groups": "groups"}},
	{row: model.Policy{}, words: "policy", excused: map[string]string{"Created": "a fact"}, named: map[string]string{"Rank": "policy move"}},
	{row: model.Domain{}, words: "domain", excused: map[string]string{"Created": "a fact",
		"Additional": "read by the directory; the noun `domain additional` is to come", "CatchAll": "read by route; the noun `domain catchall` is to come"},
		named: map[string]string{"STS": "domain mta-sts set", "Limits": "domain limit set"}},
	{row: model.DomainSTS{}, words: "domain mta-sts"},
	{row: model.DomainLimits{}, words: "domain limit"},
	{row: model.DomainUser{}, words: "domain user", excused: map[string]string{"Source": "follows from the account source"}, named: map[string]string{"Locals": "addresses"}},
	{row: model.DKIM{}, words: "domain dkim", named: map[string]string{"Enabled": "domain dkim enable", "Keys": "key"}},
	{row: model.DKIMKey{}, words: "domain dkim", excused: map[string]string{"Created": "a fact", "Retired": "a fact"}, named: map[string]string{"Public": "key", "Private": "key"}},
	{row: model.Alias{}, words: "domain alias", excused: map[string]string{"Created": "a fact"}},
	{row: model.AutoForward{}, words: "me forward|user forward", excused: map[string]string{"Changed": "a fact"}, named: map[string]string{"User": "name", "Keep": "keepcopy"}},
	{row: model.AutoReply{}, words: "me autoreply|user autoreply", excused: map[string]string{"Since": "a fact"}, named: map[string]string{"User": "name"}},
	{row: model.AutoBCC{}, words: "domain autobcc", excused: map[string]string{"Created": "a fact"}},
	{row: model.HoldRule{}, words: "queue hold-rule", excused: map[string]string{"Created": "a fact"}, named: map[string]string{"Larger": "larger_than", "Smaller": "smaller_than"}},
	{row: model.Certificate{}, words: "cert", excused: map[string]string{"Created": "a fact", "Source": "follows from the verb: import, order or renew"}},
	{row: model.RelayRule{}, words: "relay rule", excused: map[string]string{"Created": "a fact"}},
	{row: model.TrustedServer{}, words: "relay trusted", excused: map[string]string{"Created": "a fact"}},
	{row: model.RelayDomain{}, words: "relay domain", excused: map[string]string{"Created": "a fact"}},
	{row: model.TLSPolicy{}, words: "delivery tls", excused: map[string]string{"Created": "a fact"}},
	{row: model.TrustedCA{}, words: "delivery tls ca", excused: map[string]string{"Created": "a fact"}},
	{row: model.LDAP{}, words: "directory ldap|directory ad", excused: map[string]string{"Created": "a fact", "Source": "which table row it is", "Short": "the domain is asked"}, named: map[string]string{"TimeoutSec": "timeout", "Realm": "domain"}},
	{row: model.Token{}, words: "token|login session", excused: map[string]string{"Created": "a fact", "Hash": "of the token, which is made up", "Source": "of its user", "Session": "which verb has made it"}, named: map[string]string{"Expires": "days"}},
	{row: model.License{}, words: "license", excused: map[string]string{"Serial": "made up", "Activated": "a fact"},
		named: map[string]string{"Key": "keys", "Expires": "days"}},
}

// TestEveryFieldIsSettable: what is stored can be set by a command, or is excused here by name.
func TestEveryFieldIsSettable(t *testing.T) {
	for _, n := range nouns {
		typ := reflect.TypeOf(n.row)
		inputs, verbs := settable(n.words)
		for _, f := range reflect.VisibleFields(typ) {
			if !f.IsExported() || f.Anonymous || n.excused[f.Name] != "" {
				continue
			}
			want := strings.ToLower(f.Name)
			if other := n.named[f.Name]; other != "" {
				want = other
			}
			if !slices.Contains(inputs, fold(want)) && !slices.Contains(verbs, want) {
				t.Errorf("%s.%s is set by no command of %q (%v); declare a flag or excuse it here with the reason", typ.Name(), f.Name, n.words, inputs)
			}
		}
		for name := range n.excused {
			if _, ok := typ.FieldByName(name); !ok {
				t.Errorf("%s.%s is excused but not there", typ.Name(), name)
			}
		}
	}
}

func fold(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }

// settable gives the input fields of the changing operations of nouns, and their names and verbs.
func settable(words string) (inputs, verbs []string) {
	for _, o := range api.All {
		if o.Spec().Effect == op.Read {
			continue
		}
		for _, w := range strings.Split(words, "|") {
			if strings.HasPrefix(o.Name(), w+" ") {
				verbs = append(verbs, o.Name(), op.Verb(o))
				for _, f := range op.Fields(o.In()) {
					inputs = append(inputs, fold(f.Name))
				}
			}
		}
	}
	return inputs, verbs
}
