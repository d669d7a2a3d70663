package state

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// TestStateOfANewerVersion is refused before anything is written, and opens again as it was.
func TestStateOfANewerVersion(t *testing.T) {
	dir := t.TempDir()
	write := func(format uint64) {
		t.Helper()
		s := &State{dir: dir, cacheSize: 1 << 20, log: slog.New(slog.DiscardHandler)}
		h, err := s.openDB(dir, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.db.Set(keyFormat, be64(nil, format), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if err := h.db.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := h.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	write(Format + 98)
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "start the newer mailplusd") {
		t.Errorf("%v", err)
	}
	write(Format)
	s, err = Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
