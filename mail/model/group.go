package model

// Group is a group of users and other groups, local or of a directory.
type Group struct {
	Name        string     `cbor:"name" json:"name"`
	Description string     `cbor:"desc,omitempty" json:"description,omitempty"`
	Users       []string   `cbor:"users,omitempty" json:"users,omitempty"`
	Groups      []string   `cbor:"groups,omitempty" json:"groups,omitempty"` // nested (I.03)
	Activation  Activation `cbor:"act,omitempty" json:"activation,omitempty"`
	Created     int64      `cbor:"created" json:"created"`
	Source      string     `cbor:"src,omitempty" json:"source,omitempty"` // empty: local
	GUID        string     `cbor:"guid,omitempty" json:"guid,omitempty"`  // objectGUID in hexadecimal: which it is, whatever its name
}

// Key is the group's key in the table.
func (g *Group) Key() string { return SourceKey(g.Source, g.Name) }

// Administrators is the group whose members administer the system; it never gets empty (I.16).
const Administrators = "administrators"

// Validate checks the group's own fields.
func (g *Group) Validate() error {
	if err := validateName("name", g.Name); err != nil {
		return err
	}
	if len(g.Description) > MaxDisplayName {
		return Invalid("description", "has %d octets, more than %d", len(g.Description), MaxDisplayName)
	}
	return nil
}
