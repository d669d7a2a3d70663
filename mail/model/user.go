package model

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Activation is the tri-state setting of a user or group (R5.19, R5.27).
type Activation string

// The values of Activation.
const (
	ActivationInherit    Activation = ""           // the next step decides: group, then default
	ActivationActivate   Activation = "activate"   //
	ActivationDeactivate Activation = "deactivate" //
)

// MailService is a service that an account may be denied (R2.44).
type MailService string

// The services of an account.
const (
	ServiceIMAP  MailService = "imap"
	ServicePOP3  MailService = "pop3"
	ServiceSMTP  MailService = "smtp"
	ServiceAdmin MailService = "self-service"
)

// User is an account, local or of a directory: who may log in, and whose mailboxes are whose.
type User struct {
	ID          AccountID     `cbor:"id" json:"id"`
	Name        string        `cbor:"name" json:"name"`                                // login name, lower case
	DisplayName string        `cbor:"display,omitempty" json:"display_name,omitempty"` //
	Nickname    string        `cbor:"nick,omitempty" json:"nickname,omitempty"`        // <m> of address formats
	Hash        string        `cbor:"hash,omitempty" json:"-"`                         // argon2id in PHC form
	Disabled    bool          `cbor:"disabled,omitempty" json:"disabled,omitempty"`
	Admin       bool          `cbor:"admin,omitempty" json:"admin,omitempty"`
	Activation  Activation    `cbor:"act,omitempty" json:"activation,omitempty"`
	Deny        []MailService `cbor:"deny,omitempty" json:"deny,omitempty"`
	Created     int64         `cbor:"created" json:"created"`                  // Unix seconds
	NoFTS       bool          `cbor:"nofts,omitempty" json:"no_fts,omitempty"` // his mail is not indexed for full-text search
	Source      string        `cbor:"src,omitempty" json:"source,omitempty"`   // empty: local
	DN          string        `cbor:"dn,omitempty" json:"dn,omitempty"`        // in the directory
	Away        string        `cbor:"away,omitempty" json:"away,omitempty"`    // AwayDisabled or AwayGone, by the directory
	GUID        string        `cbor:"guid,omitempty" json:"guid,omitempty"`    // objectGUID in hexadecimal: who he is, whatever his name
	UPN         string        `cbor:"upn,omitempty" json:"upn,omitempty"`      // userPrincipalName, folded: another name to log in with
}

// Key is the user's key in the table.
func (u *User) Key() string { return SourceKey(u.Source, u.Name) }

// Off tells whether the user is disabled, here or in the directory.
func (u *User) Off() bool { return u.Disabled || u.Away != "" }

// UserStatus is the status column of the account list (R5.23).
type UserStatus string

// The three values of UserStatus.
const (
	UserNormal      UserStatus = "normal"
	UserDisabled    UserStatus = "disabled"
	UserUnsupported UserStatus = "username not supported"
)

// Status of the user as it stands in the directory.
func (u *User) Status() UserStatus {
	switch {
	case ValidateUserName(u.Name) != nil:
		return UserUnsupported
	case u.Off():
		return UserDisabled
	}
	return UserNormal
}

// Limits of users and groups.
const (
	MaxUserName    = 64 // octets: it must fit a local part (RFC 5321 §4.5.3.1.1)
	MaxDisplayName = 256
)

// ValidateUserName says why a name can't be an account's (I.04).
func ValidateUserName(name string) error { return validateName("name", name) }

// ValidateGroupName says why a name can't be a group's of a directory: as that of a user, but with spaces
// inside, such as "domain users".
func ValidateGroupName(name string) error {
	if name == "" || name != strings.TrimSpace(name) {
		return Invalid("name", "%q is empty, or has a space at an end", name)
	}
	return validateName("name", strings.ReplaceAll(name, " ", ""))
}

func validateName(field, name string) error {
	switch {
	case name == "":
		return Invalid(field, "is empty")
	case len(name) > MaxUserName:
		return Invalid(field, "%q has %d octets, more than %d", name, len(name), MaxUserName)
	case !utf8.ValidString(name):
		return Invalid(field, "is not valid UTF-8")
	case strings.Contains(name, ".."), strings.HasPrefix(name, "."), strings.HasSuffix(name, "."):
		return Invalid(field, "%q has a dot at an end or two dots in a row", name)
	case strings.HasPrefix(name, "-"):
		return Invalid(field, "%q starts with a hyphen", name)
	}
	for _, r := range name {
		if unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`@/\"<>()[]:;,`, r) {
			return Invalid(field, "%q contains %q, which is not allowed", name, r)
		}
	}
	return nil
}

// FoldName gives the form in which names are compared and stored.
func FoldName(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// Validate checks the user's own fields.
func (u *User) Validate() error {
	if err := ValidateUserName(u.Name); err != nil {
		return err
	}
	if len(u.DisplayName) > MaxDisplayName {
		return Invalid("display-name", "has %d octets, more than %d", len(u.DisplayName), MaxDisplayName)
	}
	for _, r := range u.DisplayName {
		if unicode.IsControl(r) {
			return Invalid("display-name", "contains a control character")
		}
	}
	if u.Nickname != "" {
		if err := validateName("nickname", u.Nickname); err != nil {
			return err
		}
	}
	switch u.Activation {
	case ActivationInherit, ActivationActivate, ActivationDeactivate:
	default:
		return Invalid("activation", "%q is not one of activate, deactivate", u.Activation)
	}
	for _, d := range u.Deny {
		switch d {
		case ServiceIMAP, ServicePOP3, ServiceSMTP, ServiceAdmin:
		default:
			return Invalid("deny", "%q is not one of imap, pop3, smtp, self-service", d)
		}
	}
	return nil
}
