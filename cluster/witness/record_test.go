package witness

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/lease"
	"mailplusd/cluster/pair"

	"pgregory.net/rapid"
)

// bench is a witness of nodes a and b with a clock that the test moves.
type bench struct {
	dir  string
	now  time.Duration
	keys map[string]ed25519.PrivateKey
	w    *Witness
}

type fataler interface {
	Helper()
	Fatal(...any)
}

func newBench(t fataler, dir string) *bench {
	b := &bench{dir: dir, now: time.Hour, keys: map[string]ed25519.PrivateKey{}}
	for i, id := range []string{"a", "b"} {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i + 1)
		b.keys[id] = ed25519.NewKeyFromSeed(seed)
	}
	b.open(t)
	return b
}

func (b *bench) open(t fataler) {
	t.Helper()
	w, err := Open(Options{Dir: b.dir, Now: func() time.Duration { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	b.w = w
}

func (b *bench) enrol(epoch, turn uint64, primary string, solo bool) error {
	e := Enrol{Cluster: "c", Epoch: epoch, Turn: turn, Primary: primary, Solo: solo}
	for _, id := range []string{"a", "b"} {
		e.Nodes = append(e.Nodes, Node{ID: id, Key: b.keys[id].Public().(ed25519.PublicKey)})
	}
	return b.w.Enrol(e)
}

func (b *bench) report(epoch, turn uint64, primary string, signers ...string) error {
	r := pair.PairReport{Cluster: "c", Epoch: epoch, Turn: turn, Primary: primary, Serial: b.w.Record().Serial, Signatures: map[string][]byte{}}
	for _, s := range signers {
		r.Signatures[s] = ed25519.Sign(b.keys[s], r.Statement())
	}
	return b.w.Pair(primary, r)
}

func (b *bench) solo(node string, epoch uint64) error {
	return b.w.Solo(node, pair.SoloRequest{Cluster: "c", Node: node, Epoch: epoch})
}

// quiet lets the primary's lease and the margin pass.
func (b *bench) quiet() { s := lease.Default(); b.now += s.Term + s.Margin }

func refused(err error, words string) bool {
	return errors.Is(err, pair.ErrRefused) && strings.Contains(err.Error(), words)
}

func TestGrants(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(b *bench) error
		want string // words of the refusal; empty: granted
	}{
		{"the primary, at once", func(b *bench) error { return b.solo("a", 2) }, ""},
		{"the secondary, while the primary may have a lease", func(b *bench) error { return b.solo("b", 2) }, "was heard"},
		{"the secondary, after it", func(b *bench) error { b.quiet(); return b.solo("b", 2) }, ""},
		{"the secondary, of a primary that let go", func(b *bench) error {
			return b.w.Solo("b", pair.SoloRequest{Cluster: "c", Node: "b", Epoch: 2, Released: true})
		}, ""},
		{"contact keeps the claim", func(b *bench) error {
			b.quiet()
			b.w.Contact("a", pair.SoloRequest{Cluster: "c", Node: "a", Primary: true, Epoch: 1, Turn: 1})
			return b.solo("b", 2)
		}, "was heard"},
		{"contact of the secondary keeps nothing", func(b *bench) error {
			b.quiet()
			b.w.Contact("b", pair.SoloRequest{Cluster: "c", Node: "b", Epoch: 1, Turn: 1})
			return b.solo("b", 2)
		}, ""},
		{"a grant said again", func(b *bench) error { b.solo("a", 2); return b.solo("a", 2) }, ""},
		{"both", func(b *bench) error { b.solo("a", 2); b.quiet(); return b.solo("b", 3) }, "a serves alone"},
		{"an epoch that is past", func(b *bench) error { return b.solo("a", 1) }, "is past"},
		{"another pair", func(b *bench) error { return b.w.Solo("a", pair.SoloRequest{Cluster: "d", Node: "a", Epoch: 2}) }, "does not know"},
		{"in another's name", func(b *bench) error { return b.w.Solo("b", pair.SoloRequest{Cluster: "c", Node: "a", Epoch: 2}) }, "does not know"},
		{"one signature is too few", func(b *bench) error { b.solo("a", 2); return b.report(2, 1, "a", "a") }, "b has not signed"},
		{"after both are in sync", func(b *bench) error {
			b.solo("a", 2)
			if err := b.report(2, 1, "a", "a", "b"); err != nil {
				return err
			}
			b.quiet()
			return b.solo("b", 3)
		}, ""},
		{"a hand-over moves the claim", func(b *bench) error {
			b.quiet()
			b.w.Contact("b", pair.SoloRequest{Cluster: "c", Node: "b", Primary: true, Epoch: 1, Turn: 2})
			return b.solo("a", 2)
		}, "the primary, b, was heard"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, t.TempDir())
			if err := errors.Join(b.enrol(1, 1, "a", false), b.report(1, 1, "a", "a", "b")); err != nil {
				t.Fatal(err)
			}
			err := tc.do(b)
			if tc.want == "" && err != nil || tc.want != "" && !refused(err, tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestEmptyDisk: a witness that lost its record refuses until both nodes have signed.
func TestEmptyDisk(t *testing.T) {
	b := newBench(t, t.TempDir())
	if err := b.solo("a", 2); !refused(err, "does not know") {
		t.Errorf("no record: %v", err)
	}
	if err := b.enrol(5, 3, "a", false); err != nil {
		t.Fatal(err)
	}
	b.quiet()
	for _, node := range []string{"a", "b"} {
		if err := b.solo(node, 6); !refused(err, "not known to have everything") {
			t.Errorf("%s after enrolment: %v", node, err)
		}
	}
	if err := b.report(5, 3, "a", "a", "b"); err != nil {
		t.Fatal(err)
	}
	if err := b.solo("a", 6); err != nil {
		t.Errorf("after the report: %v", err)
	}
	// A primary that serves alone already has its grant noted, and the other none.
	c := newBench(t, t.TempDir())
	if err := c.enrol(5, 3, "a", true); err != nil {
		t.Fatal(err)
	}
	c.quiet()
	if err := c.solo("b", 9); !refused(err, "a serves alone") {
		t.Errorf("beside a primary that serves alone: %v", err)
	}
}

// TestOpen: what a restart keeps, and what is not opened at all.
func TestOpen(t *testing.T) {
	b := newBench(t, t.TempDir())
	if err := errors.Join(b.enrol(1, 1, "a", false), b.report(1, 1, "a", "a", "b"), b.solo("a", 2)); err != nil {
		t.Fatal(err)
	}
	b.open(t)
	if r := b.w.Record(); r.Holder != "a" || r.Epoch != 2 || len(r.InSync) != 1 {
		t.Errorf("after a restart: %+v", r)
	}
	b.quiet()
	if err := b.solo("b", 3); !refused(err, "a serves alone") {
		t.Errorf("a restart forgot the grant: %v", err)
	}
	if err := b.w.Enrol(Enrol{Cluster: "other", Primary: "a", Nodes: b.w.Record().Nodes}); err == nil {
		t.Error("another pair was taken in")
	}
	for name, text := range map[string]string{"damaged": "{", "format 99": `{"format":99}`, "no format": "{}"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "witness.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	// A restart gives the primary a whole lease: the witness does not know when it was heard.
	p := newBench(t, t.TempDir())
	if err := errors.Join(p.enrol(1, 1, "a", false), p.report(1, 1, "a", "a", "b")); err != nil {
		t.Fatal(err)
	}
	p.quiet()
	p.open(t)
	if err := p.solo("b", 2); !refused(err, "was heard") {
		t.Errorf("right after a restart: %v", err)
	}
}

// TestNeverTwoGrants: whatever is asked in whatever order, with restarts in between, no epoch has
// two holders, epochs only rise, and who missed a grant of the other is not granted before
// both have signed.
func TestNeverTwoGrants(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "w")
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, dir)
		if err := b.enrol(1, 1, "a", false); err != nil {
			t.Fatal(err)
		}
		holders := map[uint64]string{}
		behind := map[string]bool{"a": true, "b": true} // until both have signed
		node := rapid.SampledFrom([]string{"a", "b"})
		number := rapid.Uint64Range(1, 12)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := node.Draw(t, "node")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				r := pair.SoloRequest{Cluster: "c", Node: n, Epoch: number.Draw(t, "epoch"), Turn: number.Draw(t, "turn"), Primary: rapid.Bool().Draw(t, "p"), Released: rapid.Bool().Draw(t, "r")}
				if b.w.Solo(n, r) != nil {
					break
				}
				if h := holders[r.Epoch]; h != "" && h != n {
					t.Fatalf("epoch %d was granted to %s and %s", r.Epoch, h, n)
				}
				if behind[n] {
					t.Fatalf("%s was granted and has missed something", n)
				}
				holders[r.Epoch] = n
				behind["a"], behind["b"] = n != "a", n != "b"
			case 2:
				signers := rapid.SampledFrom([][]string{{"a", "b"}, {"a"}, {"b"}, nil}).Draw(t, "signers")
				if b.report(number.Draw(t, "epoch"), number.Draw(t, "turn"), n, signers...) == nil {
					if len(signers) != 2 {
						t.Fatalf("a report of %v was believed", signers)
					}
					behind["a"], behind["b"] = false, false
					clear(holders) // what follows is another history, whose epochs may be lower
				}
			case 3:
				b.w.Contact(n, pair.SoloRequest{Cluster: "c", Node: n, Turn: number.Draw(t, "turn"), Primary: rapid.Bool().Draw(t, "p")})
			case 4:
				b.now += time.Duration(rapid.IntRange(0, 9000).Draw(t, "ms")) * time.Millisecond
			case 5:
				b.open(t)
			}
		}
	})
}
