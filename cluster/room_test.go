package cluster

import (
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLogWithoutRoom: a write that found no room is tried again when room was made, and only that one: after a
// sync that failed, or when there is no room to be had, the log is at its end.
func TestLogWithoutRoom(t *testing.T) {
	write := &fs.PathError{Op: "write", Path: "raft.db", Err: unix.ENOSPC}
	cases := map[string]struct {
		errs  []error // of one try after the other
		rooms int     // so often there is some
		tries int
		fails bool
	}{
		"room is made":      {[]error{write, nil}, 1, 2, false},
		"room again":        {[]error{write, fmt.Errorf("page: %w", write), nil}, 2, 3, false},
		"none to be had":    {[]error{write, nil}, 0, 1, true},
		"none for ever":     {[]error{write, write, write, write, nil}, 9, 3, true},
		"sync finds none":   {[]error{unix.ENOSPC, nil}, 1, 1, true},
		"sync of the file":  {[]error{&fs.PathError{Op: "sync", Path: "raft.db", Err: unix.ENOSPC}, nil}, 1, 1, true},
		"another error":     {[]error{&fs.PathError{Op: "write", Path: "raft.db", Err: unix.EIO}, nil}, 1, 1, true},
		"nobody makes room": {[]error{write, nil}, -1, 1, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var fault error
			s := &logStore{path: "raft.db", ok: func() error { return fault }, fail: func(err error) error { fault = err; return err }}
			if c.rooms >= 0 {
				s.room = func() bool { c.rooms--; return c.rooms >= 0 }
			}
			tries := 0
			err := s.write("write entries", func() error { tries++; return c.errs[tries-1] })
			if tries != c.tries || (err != nil) != c.fails || (fault != nil) != c.fails {
				t.Errorf("%d tries, %v, fault %v", tries, err, fault)
			}
		})
	}
}
