package witness_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/cluster/witness"
)

// copy reads the record's file; back puts it there again and starts the witness anew. A file put back
// by a program is younger than what it says; in a disk that was set back as a whole it is not.
func (b *bench) copy() []byte {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, "witness.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	return raw
}

func (b *bench) back(raw []byte, wholeDisk bool) {
	b.t.Helper()
	var r witness.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		b.t.Fatal(err)
	}
	r.Changed = time.Now().UTC()
	if !wholeDisk {
		r.Changed = r.Changed.Add(-time.Hour)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "witness.json"), raw, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// says is the contact of a node.
func (b *bench) says(node string, r pair.SoloRequest) error {
	r.Cluster, r.Node = "c", node
	return b.w.Contact(node, r)
}

func (b *bench) refuses(node string, r pair.SoloRequest) {
	b.t.Helper()
	r.Cluster, r.Node = "c", node
	if err := b.w.Solo(node, r); !errors.Is(err, pair.ErrRefused) {
		b.t.Fatalf("%s, which missed something, was granted: %v, %+v", node, err, b.w.Record())
	}
}

// A record that is set back to an older copy forgets that a was granted, and that b has missed
// something since. b is not granted, and when the nodes have spoken all is as before.
func TestOldCopy(t *testing.T) {
	for _, tc := range []struct {
		name  string
		whole bool // the whole disk was set back: the file looks right
		knows func(b *bench) pair.SoloRequest
	}{
		{"the file was put back", false, func(b *bench) pair.SoloRequest { return pair.SoloRequest{Epoch: 2, Turn: 1} }},
		{"b has seen a newer one", true, func(b *bench) pair.SoloRequest {
			return pair.SoloRequest{Epoch: 2, Turn: 1, Revision: b.w.Record().Revision}
		}},
		{"a serves alone and says so", true, func(b *bench) pair.SoloRequest { return pair.SoloRequest{Epoch: 2, Turn: 1} }},
		{"b knows a newer epoch", true, func(b *bench) pair.SoloRequest { return pair.SoloRequest{Epoch: 3, Turn: 1} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := enrolled(t)
			old := b.copy()
			if err := b.solo("a", 2, 1, true); err != nil {
				t.Fatal(err)
			}
			ask := tc.knows(b)
			b.back(old, tc.whole)
			if strings.HasPrefix(tc.name, "a serves") {
				if err := b.says("a", pair.SoloRequest{Epoch: 2, Turn: 1, Primary: true}); err != nil {
					t.Fatal(err)
				}
				if r := b.w.Record(); r.Holder != "a" || r.Epoch != 2 || len(r.InSync) != 1 {
					t.Errorf("what a holds was not learnt: %+v", r)
				}
			}
			b.silence()
			b.refuses("b", ask)
			b.open() // and a restart changes nothing
			b.silence()
			b.refuses("b", ask)
			if err := b.contact("a", 2, 1); !errors.Is(err, pair.ErrUnreported) {
				t.Fatalf("a is not asked for a report: %v", err)
			}
			if err := b.report("a", b.w.Record().Serial, 2, 1); err != nil {
				t.Fatal(err)
			}
			if err := b.contact("a", 2, 1); err != nil {
				t.Fatal(err)
			}
			b.silence()
			if err := b.solo("b", 3, 1, false); err != nil {
				t.Fatalf("both are in sync again: %v", err)
			}
		})
	}
}

// The copy is of a time when b served alone; now a does.
func TestOldCopyOfAnotherHolder(t *testing.T) {
	b := enrolled(t)
	b.silence()
	if err := b.solo("b", 2, 1, false); err != nil {
		t.Fatal(err)
	}
	old := b.copy()
	if err := errors.Join(b.report("a", b.w.Record().Serial, 2, 2), b.solo("a", 3, 2, true)); err != nil {
		t.Fatal(err)
	}
	b.back(old, true)
	if err := b.says("a", pair.SoloRequest{Epoch: 3, Turn: 2, Primary: true}); err != nil {
		t.Fatal(err)
	}
	b.silence()
	b.refuses("b", pair.SoloRequest{Epoch: 3, Turn: 2})
}

// The revision never falls, so that nodes can hold it against what they have seen.
func TestRevision(t *testing.T) {
	b := enrolled(t)
	last := b.w.Record().Revision
	rises := func(what string) {
		t.Helper()
		if r := b.w.Record().Revision; r <= last {
			t.Errorf("%s: revision %d after %d", what, r, last)
		} else {
			last = r
		}
	}
	if err := b.solo("a", 2, 1, true); err != nil {
		t.Fatal(err)
	}
	rises("a grant")
	if err := b.report("a", b.w.Record().Serial, 2, 1); err != nil {
		t.Fatal(err)
	}
	rises("a report")
	b.open()
	if r := b.w.Record().Revision; r != last {
		t.Errorf("a restart made it %d, it was %d", r, last)
	}
	if err := b.w.Forget(); err != nil {
		t.Fatal(err)
	}
	rises("another pair to come")
}
