package main

import (
	"context"
	"errors"

	"mailplusd/cluster/pair"
)

// merge brings this node's own entries since branch to the winner.
func (n *node) merge(context.Context, string, pair.Branch) error {
	return errors.New("merge: not wired yet")
}
