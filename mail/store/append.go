package store

import (
	"context"
	"sync"

	"mailplusd/mail/state"
)

// maxCommits bounds the bodies of one Append that are on their way to the disk together.
const maxCommits = 16

// items makes messages durable, several at a time so that they share a write to the disk. All
// spools are used up when it returns.
func (s *Store) items(ctx context.Context, msgs []NewMessage) ([]state.AppendItem, error) {
	out := make([]state.AppendItem, len(msgs))
	errs := make([]error, len(msgs))
	slots := make(chan struct{}, maxCommits)
	var wg sync.WaitGroup
	for i, m := range msgs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer m.Spool.Abort() // of what was not stored; else it does nothing
			out[i], errs[i] = s.item(ctx, m)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
