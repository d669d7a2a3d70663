package main

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"
)

// TestRoom: what is said when little space is left and when there is more, how often, and that what was set aside is
// given up once and made anew.
func TestRoom(t *testing.T) {
	r := newRoom(t.TempDir(), slog.New(slog.DiscardHandler))
	if r.keep == 0 || r.Short() || !r.held {
		t.Skip("little space is left on this machine")
	}
	if info, err := os.Stat(r.file()); err != nil || info.Size() != r.keep {
		t.Fatalf("%+v %v", info, err)
	}
	told, less := 0, []bool{}
	r.full = func() { told++ }
	r.ended = func(l bool) { less = append(less, l) }
	now := time.Now()
	look := func(free int64, short bool) {
		t.Helper()
		now = now.Add(lookPause)
		if full := r.judge(free, now); full != nil {
			full()
		}
		if r.Short() != short {
			t.Errorf("%d of %d octets are free: short is %v", free, r.keep, r.Short())
		}
	}
	look(2*r.keep, false)
	look(r.keep, false)
	look(r.keep-1, true)
	look(r.keep, true) // not to and fro
	look(3*r.keep/2-1, true)
	if told != 1 {
		t.Errorf("told %d times in less than a second", told)
	}
	look(0, true)
	look(0, true)
	if told != 2 {
		t.Errorf("told %d times in more than a second", told)
	}
	if !r.Give() {
		t.Error("nothing was given up")
	}
	if _, err := os.Stat(r.file()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	if !r.Give() {
		t.Error("another one who found no room a moment later gets none of it")
	}
	r.gave = r.gave.Add(-2 * gaveTime)
	if r.Give() {
		t.Error("given up twice")
	}
	look(2*r.keep, true) // not before there is as much for the file
	look(5*r.keep/2, false)
	if info, err := os.Stat(r.file()); err != nil || info.Size() != r.keep || !r.held {
		t.Errorf("not set aside again: %+v %v", info, err)
	}
	if len(less) != 2 || !less[0] || less[1] {
		t.Errorf("%v", less)
	}
	again := newRoom(r.dir, r.log) // the file of the run before
	if !again.held || !again.Give() {
		t.Error("what lay there was not known")
	}
	if !newRoom(r.dir, r.log).held {
		t.Error("not set aside at the next start")
	}
	r.held, r.able = false, false // a file system that can't
	look(r.keep-1, true)
	look(3*r.keep/2, false)
}
