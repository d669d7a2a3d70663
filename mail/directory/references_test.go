package directory_test

import (
	"fmt"
	"testing"

	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// TestReferencesOfNamesakes: who is deleted is taken out of all that names him, unless another source has one of his name.
func TestReferencesOfNamesakes(t *testing.T) {
	// covers: R5.12 I.07
	for _, tc := range []struct {
		name      string
		namesake  *model.User
		group     *model.Group
		kept      bool
		wantUsers string
	}{
		{"alone", nil, nil, false, "[] [staff]"},
		{"a namesake in the directory", &model.User{Name: "anna", Source: model.SourceLDAP}, nil, true, "[anna] [staff]"},
		{"somebody else there", &model.User{Name: "bob", Source: model.SourceDomain}, nil, false, "[] [staff]"},
		{"a group of that name", nil, &model.Group{Name: "anna", Source: model.SourceLDAP}, false, "[] [staff]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := bound(t)
			who := model.AliasMember{Kind: model.AliasUser, Value: "anna"}
			put(t, s, &model.User{Name: "anna"}, &model.Policy{Name: "p", Rank: 1, Users: []string{"anna"}, Groups: []string{"staff"}},
				&model.AutoBCC{Domain: "example.test", Name: "b", Kind: model.BCCAll, To: who},
				&model.Alias{Domain: "example.test", Name: "both", Members: []model.AliasMember{who, {Kind: model.AliasGroup, Value: "anna"}}})
			if tc.namesake != nil {
				put(t, s, tc.namesake)
			}
			if tc.group != nil {
				put(t, s, tc.group)
			}
			update(t, s, func(tx *state.Tx) error {
				kept, err := directory.DropReferences(tx, "", who)
				if kept != tc.kept {
					t.Errorf("kept: %v", kept)
				}
				return err
			})
			p, err := state.Policies.Get(s, "p")
			if err != nil || fmt.Sprint(p.Users, p.Groups) != tc.wantUsers {
				t.Errorf("%+v %v", p, err)
			}
			if has, _ := state.AutoBCCs.Has(s, "example.test/b"); has != tc.kept {
				t.Errorf("the rule is there: %v", has)
			}
			if has, _ := state.Aliases.Has(s, "example.test/team"); has != tc.kept {
				t.Errorf("the alias of nobody else is there: %v", has)
			}
			want := 1
			if tc.kept {
				want = 2
			}
			if a, err := state.Aliases.Get(s, "example.test/both"); err != nil || len(a.Members) != want {
				t.Errorf("%+v %v", a, err)
			}
		})
	}
}
