package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// GroupRow is a group as lists and shows print it.
type GroupRow struct {
	Name        string   `json:"name" col:"NAME"`
	Description string   `json:"description" col:"DESCRIPTION"`
	Users       []string `json:"users" col:"USERS,wide"`
	Groups      []string `json:"groups" col:"GROUPS,wide"`
	Members     int      `json:"members" col:"MEMBERS"`
	Activation  string   `json:"activation" col:"ACTIVATION"`
}

// GroupAddIn is a new group.
type GroupAddIn struct {
	Name        string   `json:"name" arg:"1" help:"name of the group"`
	Description string   `json:"description" flag:"description" help:"what it is for"`
	Users       []string `json:"users" flag:"user" complete:"user" help:"member; may be repeated"`
}

// Validate checks what needs no state.
func (in *GroupAddIn) Validate() error {
	g := model.Group{Name: model.FoldName(in.Name), Description: in.Description}
	return g.Validate()
}

// GroupIn names a group.
type GroupIn struct {
	Name string `json:"name" arg:"1" complete:"group" help:"name of the group"`
}

// GroupSetIn changes what is given.
type GroupSetIn struct {
	Name        string  `json:"name" arg:"1" complete:"group" help:"name of the group"`
	Description *string `json:"description" flag:"description" help:"what it is for"`
	Rename      *string `json:"rename" flag:"rename" help:"new name"`
}

// GroupMemberIn names members.
type GroupMemberIn struct {
	Group  string   `json:"group" arg:"1" complete:"group" help:"name of the group"`
	Users  []string `json:"users" arg:"2..." optional:"true" complete:"user" help:"user"`
	Groups []string `json:"groups" flag:"group" complete:"group" help:"group as a member; may be repeated"`
}

// MemberRow is one member of a group.
type MemberRow struct {
	User string `json:"user" col:"USER"`
	Via  string `json:"via" col:"THROUGH"`
}

// Groups: local groups (R5.03).
var (
	GroupAdd    = op.New[GroupAddIn, GroupRow]("group add", op.Spec{Summary: "add a group", Effect: op.Create})
	GroupList   = op.New[ListIn, []GroupRow]("group list", op.Spec{Summary: "list groups", Effect: op.Read})
	GroupShow   = op.New[GroupIn, GroupRow]("group show", op.Spec{Summary: "show a group", Effect: op.Read})
	GroupSet    = op.New[GroupSetIn, GroupRow]("group set", op.Spec{Summary: "change a group", Effect: op.Update})
	GroupDelete = op.New[GroupIn, op.None]("group delete", op.Spec{Summary: "delete a group; its users stay", Effect: op.Delete, Confirm: op.ConfirmYes})

	GroupMemberAdd = op.New[GroupMemberIn, GroupRow]("group member add", op.Spec{
		Summary: "put users or groups into a group", Effect: op.Update, Examples: []string{"mpctl group member add staff carol dave --group interns"}})
	GroupMemberDelete = op.New[GroupMemberIn, GroupRow]("group member delete", op.Spec{Summary: "take users or groups out of a group", Effect: op.Update})
	GroupMemberList   = op.New[GroupIn, []MemberRow]("group member list", op.Spec{Summary: "list a group's users, those of nested groups too", Effect: op.Read})
)
