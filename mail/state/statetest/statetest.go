// Package statetest gives tests a state without a replicated log: what is proposed is
// applied at once.
package statetest

import (
	"context"
	"sync"
	"testing"

	"mailplusd/mail/state"
)

// Log applies entries at once and keeps them.
type Log struct {
	mu      sync.Mutex
	s       *state.State
	index   uint64
	Entries []state.LogEntry
	Fail    func() error // when set and not nil: the proposal fails
}

// Propose implements state.Proposer.
func (l *Log) Propose(_ context.Context, data []byte) ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Fail != nil {
		if err := l.Fail(); err != nil {
			return nil, 0, err
		}
	}
	l.index++
	e := state.LogEntry{Index: l.index, Data: data}
	l.Entries = append(l.Entries, e)
	res, err := l.s.Apply([]state.LogEntry{e})
	if err != nil {
		return nil, 0, err
	}
	return res[0], l.index, nil
}

// Open makes a fresh state in a temporary directory.
func Open(t testing.TB) (*state.State, *Log) {
	t.Helper()
	s, err := state.Open(state.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := &Log{s: s}
	s.SetProposer(l)
	return s, l
}
