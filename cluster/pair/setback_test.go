package pair_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/cluster/witness"
)

// setBack gives the witness an older record; wholeDisk makes its file look as if it had been written
// there just now, as in a disk that was set back as a whole.
func (w *world) setBack(raw []byte, wholeDisk bool) {
	w.t.Helper()
	var r witness.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		w.t.Fatal(err)
	}
	r.Changed = time.Now().UTC()
	if !wholeDisk {
		r.Changed = r.Changed.Add(-time.Hour)
	}
	raw, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.witnessDir, "witness.json"), raw, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.startWitness()
}

// The witness's disk is set back to a copy from before a was granted. b, which has missed what a
// acknowledged alone, is not granted while a is down; with a back all is as if nothing had been.
func TestWitnessSetBack(t *testing.T) {
	for _, tc := range []struct {
		name        string
		wholeDisk   bool
		bSees, aRan bool // b was up and at the witness meanwhile; a was at the witness after it
	}{
		{"a copied file", false, false, false},
		{"the whole disk, b has seen the newer record", true, true, false},
		{"the whole disk, a has contacted it since", true, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "witness")
			w.pairUp()
			a, b := w.nodes[0], w.nodes[1]
			w.serves(a)
			old, err := os.ReadFile(filepath.Join(w.witnessDir, "witness.json"))
			if err != nil {
				t.Fatal(err)
			}
			if tc.bSees {
				w.Cut("a", "b")
			} else {
				b.kill(false)
			}
			w.wait("a is alone", func() bool { return a.book.Facts().State == pair.Solo && a.cluster.IsLeader() })
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if _, _, err := a.cluster.Propose(ctx, []byte("only on a")); err != nil {
				t.Fatal(err)
			}
			newest := w.witness.Record().Revision
			if tc.bSees {
				w.wait("b has seen the newer record", func() bool { return b.book.Facts().Revision >= newest })
			}
			if tc.aRan {
				w.setBack(old, tc.wholeDisk)
				w.wait("the witness knows again who serves", func() bool { return w.witness.Record().Holder == "a" })
				a.kill(false)
			} else {
				a.kill(false)
				w.setBack(old, tc.wholeDisk)
			}
			if !tc.bSees {
				b.start()
			}
			w.Heal("a", "b")
			// Longer than b would have to wait for a grant, and until it has been refused one.
			end := time.Now().Add(2 * (quick.Term + quick.Margin))
			w.wait("b is refused", func() bool {
				if b.book.Facts().State == pair.Solo {
					t.Fatal("b serves, and lacks what a has acknowledged")
				}
				return b.ctl.Status().Arbiter != "" && time.Now().After(end)
			})
			a.start()
			w.inSync()
			w.serves(a)
			w.wait("b has what a acknowledged", func() bool {
				for _, e := range b.fsm.Entries() {
					if e.Data == "only on a" {
						return true
					}
				}
				return false
			})
			// The witness is whole again: either node may be granted.
			a.kill(false)
			w.wait("b is alone", func() bool { return b.book.Facts().State == pair.Solo })
			w.serves(b)
		})
	}
}
