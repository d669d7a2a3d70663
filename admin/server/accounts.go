package server

import (
	"fmt"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// setActivation sets the tri-state of users, all or none (R5.19, R5.25).
func setActivation(tx *state.Tx, to model.Activation, names []string) (changed int, err error) {
	for _, name := range names {
		u, err := getUser(tx, name)
		if err != nil {
			return 0, err
		}
		if u.Activation == to {
			continue
		}
		u.Activation = to
		changed++
		if err := state.Users.Put(tx, u); err != nil {
			return 0, err
		}
	}
	return changed, checkSeats(tx)
}

// setGroupActivation sets the tri-state of groups, all or none (R5.27).
func setGroupActivation(tx *state.Tx, to model.Activation, names []string) (changed int, err error) {
	for _, name := range names {
		g, err := getGroup(tx, name)
		if err != nil {
			return 0, err
		}
		if g.Activation == to {
			continue
		}
		g.Activation = to
		changed++
		if err := state.Groups.Put(tx, g); err != nil {
			return 0, err
		}
	}
	return changed, checkSeats(tx)
}

func seatsRefused(used, wanted, seats int) error {
	return refused(fmt.Sprintf("%d seats are needed, but there are %d, of which %d are used: %d more needed; nothing was activated",
		wanted, seats, used, wanted-seats), "mpctl license add KEY --accept-terms")
}
