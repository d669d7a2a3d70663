package pair

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBookOnFullDisk: facts for which there was no room are written again when room was made; when none is to be
// had, the node must end.
func TestBookOnFullDisk(t *testing.T) {
	for _, room := range []bool{true, false} {
		dir := t.TempDir()
		tmp := filepath.Join(dir, bookName+".tmp")
		if err := os.Symlink("/dev/full", tmp); err != nil { // every write to it fails with ENOSPC
			t.Fatal(err)
		}
		b, err := OpenBook(dir)
		if err != nil {
			t.Fatal(err)
		}
		b.NoRoom = func() bool {
			if room {
				os.Remove(tmp)
			}
			return room
		}
		err = b.Update(func(f *Facts) error { f.Cluster = "c"; return nil })
		if (err == nil) != room || (b.Fault() == nil) != room {
			t.Errorf("room %v: %v, fault %v", room, err, b.Fault())
		}
		if room {
			if again, err := OpenBook(dir); err != nil || again.Facts().Cluster != "c" {
				t.Errorf("%+v %v", again, err)
			}
		}
	}
}
