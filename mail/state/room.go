package state

import "mailplusd/mail/model"

// maxMailboxes is the limit, smaller in tests.
var maxMailboxes = model.MaxMailboxes

// room refuses a name when an account that has so many mailboxes can't get as many more as it needs,
// and those above it that are missing.
func (a *apply) room(account model.AccountID, have int, name string, more int) error {
	for i := range len(name) {
		if name[i] != model.Delimiter[0] {
			continue
		}
		id, err := a.byName(account, name[:i])
		if err != nil {
			return err
		}
		if id == 0 {
			more++
		}
	}
	if more > 0 && have+more > maxMailboxes {
		return refuse(ErrLimit, "an account can have %d mailboxes at most", maxMailboxes)
	}
	return nil
}
