package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// UserRow is a user as lists and shows print him.
type UserRow struct {
	Name        string   `json:"name" col:"NAME"`
	DisplayName string   `json:"display_name" col:"DISPLAY NAME"`
	Enabled     bool     `json:"enabled" col:"ENABLED"`
	Admin       bool     `json:"admin" col:"ADMIN"`
	Activated   bool     `json:"activated" col:"ACTIVATED"`
	Addresses   []string `json:"addresses" col:"ADDRESSES"`
	Groups      []string `json:"groups" col:"GROUPS,wide"`
	Nickname    string   `json:"nickname" col:"NICKNAME,wide"`
	Deny        []string `json:"deny" col:"DENIED,wide"`
	FTS         bool     `json:"fts" col:"FTS,wide"`
	Policy      string   `json:"policy" col:"POLICY,wide"`
	Directory   string   `json:"directory" col:"DIRECTORY,wide"` // where the account comes from when it is not local, and why it is disabled there
	TwoFactor   bool     `json:"two_factor" col:"2FA,wide"`
	ID          uint64   `json:"id" col:"ID,wide"`
	Created     string   `json:"created" col:"CREATED,wide"`
}

// UserAddIn is a new user; its fields are also the columns of `user add --file`.
type UserAddIn struct {
	Name        string    `json:"name" arg:"1" help:"login name"`
	Password    op.Secret `json:"password" secret:"password" optional:"true" help:"password; without one the user can't log in"`
	DisplayName string    `json:"display_name" flag:"display-name" help:"shown name"`
	Nickname    string    `json:"nickname" flag:"nickname" help:"<m> of address formats"`
	Groups      []string  `json:"groups" flag:"group" complete:"group" help:"group to put the user into; may be repeated"`
	Admin       bool      `json:"admin" flag:"admin" help:"may administer the system"`
	Activate    bool      `json:"activate" flag:"activate" help:"activate the account at once; takes a seat"`
	Hash        string    `json:"hash" flag:"hash" help:"argon2id (PHC) or bcrypt hash of another system, instead of a password"`
}

// Validate checks what needs no state.
func (in *UserAddIn) Validate() error {
	u := model.User{Name: model.FoldName(in.Name), DisplayName: in.DisplayName, Nickname: model.FoldName(in.Nickname)}
	return u.Validate()
}

// UserIn names a user.
type UserIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name"`
}

// UserSetIn changes what is given.
type UserSetIn struct {
	Name        string   `json:"name" arg:"1" complete:"user" help:"login name"`
	DisplayName *string  `json:"display_name" flag:"display-name" help:"shown name"`
	Nickname    *string  `json:"nickname" flag:"nickname" help:"<m> of address formats"`
	Enabled     *bool    `json:"enabled" flag:"enable" help:"may log in"`
	Admin       *bool    `json:"admin" flag:"admin" help:"may administer the system"`
	Deny        []string `json:"deny" flag:"deny" enum:"imap,pop3,smtp,self-service,none" help:"service this user may not use; none: all allowed"`
	FTS         *bool    `json:"fts" flag:"fts" help:"index this user's mail for full-text search, when the service is on; off removes the index"`
	TwoFactor   *bool    `json:"two_factor" flag:"2fa" help:"off: forget this user's second factor, such as when he has lost it; only he can turn it on, with mpctl me 2fa enable"`
}

// UserDeleteIn removes a user.
type UserDeleteIn struct {
	Name       string `json:"name" arg:"1" complete:"user" help:"login name"`
	DeleteMail bool   `json:"delete_mail" flag:"delete-mail" help:"also delete the mailboxes; mpctl mailbox restore brings them back for storage.keep-expunged days"`
}

// UserPasswdIn is a new password.
type UserPasswdIn struct {
	Name     string    `json:"name" arg:"1" complete:"user" help:"login name"`
	Password op.Secret `json:"password" secret:"password" help:"new password"`
}

// ListIn filters a list.
type ListIn struct {
	Search string `json:"search" flag:"search" help:"only rows that contain this"`
}

// Users: local accounts (R5.02).
var (
	UserAdd = op.New[UserAddIn, UserRow]("user add", op.Spec{
		Summary: "add a local user", Effect: op.Create, Bulk: true,
		Examples: []string{"mpctl user add carol --display-name 'Carol Jones' --password-file carol.pw", "mpctl user add --file users.csv"},
	})
	UserList    = op.New[ListIn, []UserRow]("user list", op.Spec{Summary: "list local users", Effect: op.Read})
	UserShow    = op.New[UserIn, UserRow]("user show", op.Spec{Summary: "show a user", Effect: op.Read})
	UserSet     = op.New[UserSetIn, UserRow]("user set", op.Spec{Summary: "change a user", Effect: op.Update})
	UserEnable  = op.New[UserIn, UserRow]("user enable", op.Spec{Summary: "let a user log in again", Effect: op.Update})
	UserDisable = op.New[UserIn, UserRow]("user disable", op.Spec{Summary: "let a user not log in; his mail stays and his address is refused", Effect: op.Update})
	UserDelete  = op.New[UserDeleteIn, op.None]("user delete", op.Spec{Summary: "delete a user", Effect: op.Delete, Confirm: op.ConfirmYes})
	UserPasswd  = op.New[UserPasswdIn, op.None]("user passwd", op.Spec{Summary: "set a user's password", Effect: op.Update})
)
