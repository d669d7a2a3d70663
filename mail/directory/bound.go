package directory

import (
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Bound gives the binding to a directory; nil when there is none. There is one at a time (R5.06).
func Bound(r state.Reader) (*model.LDAP, error) {
	list, err := state.Directories.List(r, "")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}
