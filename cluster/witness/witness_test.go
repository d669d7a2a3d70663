package witness_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"mailplusd/cluster/lease"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/witness"
)

type bench struct {
	t    *testing.T
	dir  string
	now  time.Duration
	w    *witness.Witness
	keys map[string]ed25519.PrivateKey
}

// enrolled gives a witness that knows a and b to be in sync, a being the primary.
func enrolled(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), now: time.Hour, keys: map[string]ed25519.PrivateKey{}}
	b.open()
	e := witness.Enrol{Cluster: "c", Epoch: 1, Turn: 1, Primary: "a"}
	for _, id := range []string{"a", "b"} {
		pub, priv, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.keys[id] = priv
		e.Nodes = append(e.Nodes, witness.Node{ID: id, Key: pub})
	}
	if err := b.w.Enrol(e); err != nil {
		t.Fatal(err)
	}
	if err := b.solo("a", 2, 1, true); !errors.Is(err, pair.ErrRefused) {
		t.Fatalf("nobody is known to be in sync, and yet: %v", err)
	}
	if err := b.report("a", b.w.Record().Serial, 1, 1); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) open() {
	var err error
	if b.w, err = witness.Open(witness.Options{Dir: b.dir, Now: func() time.Duration { return b.now }}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) solo(node string, epoch, turn uint64, primary bool) error {
	return b.w.Solo(node, pair.SoloRequest{Cluster: "c", Node: node, Epoch: epoch, Turn: turn, Primary: primary})
}

func (b *bench) contact(node string, epoch, turn uint64) error {
	return b.w.Contact(node, pair.SoloRequest{Cluster: "c", Node: node, Epoch: epoch, Turn: turn, Primary: true, Paired: true})
}

func (b *bench) report(primary string, serial, epoch, turn uint64) error {
	r := pair.PairReport{Cluster: "c", Epoch: epoch, Turn: turn, Primary: primary, Serial: serial, Signatures: map[string][]byte{}}
	for id, k := range b.keys {
		r.Signatures[id] = ed25519.Sign(k, r.Statement())
	}
	return b.w.Pair(primary, r)
}

// silence lets the primary's claim grow old.
func (b *bench) silence() { b.now += lease.Default().Term + lease.Default().Margin }

// One is granted, and then nobody else, also after a restart of the witness.
func TestOneGrant(t *testing.T) {
	b := enrolled(t)
	if err := b.contact("a", 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.solo("b", 2, 1, false); !errors.Is(err, pair.ErrRefused) {
		t.Fatalf("the primary was heard just now: %v", err)
	}
	b.silence()
	if err := b.w.Solo("b", pair.SoloRequest{Cluster: "c", Node: "b", Epoch: 2, Stale: true}); !errors.Is(err, pair.ErrRefused) {
		t.Fatalf("a node that knows that it lacks mail: %v", err)
	}
	if err := b.solo("b", 2, 1, false); err != nil {
		t.Fatal(err)
	}
	b.open()
	if err := b.solo("b", 2, 1, false); err != nil {
		t.Fatalf("asked again: %v", err)
	}
	b.silence()
	for _, epoch := range []uint64{2, 3} {
		if err := b.solo("a", epoch, 1, true); !errors.Is(err, pair.ErrRefused) {
			t.Fatalf("two hold a grant: %v", err)
		}
	}
}

// A grant whose answer was lost was not used: the pair goes on in its old epoch, finds out by
// its contact, and both say so. A report from before the grant changes nothing.
func TestUnusedGrant(t *testing.T) {
	b := enrolled(t)
	before := b.w.Record().Serial
	b.silence()
	if err := b.solo("b", 2, 1, false); err != nil {
		t.Fatal(err)
	}
	if err := b.contact("a", 1, 1); !errors.Is(err, pair.ErrUnreported) {
		t.Fatalf("the primary does not learn of it: %v", err)
	}
	if err := b.report("a", before, 1, 1); !errors.Is(err, pair.ErrRefused) {
		t.Fatalf("a report from before the grant: %v", err)
	}
	if err := b.report("a", b.w.Record().Serial, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.contact("a", 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.solo("a", 2, 1, true); err != nil {
		t.Fatalf("either may be granted again: %v", err)
	}
}

// A hand-over that the witness has not heard of yet keeps nobody waiting.
func TestNewPrimaryAsks(t *testing.T) {
	b := enrolled(t)
	if err := b.contact("a", 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.solo("b", 2, 2, true); err != nil {
		t.Fatal(err)
	}
}

// A report needs both signatures.
func TestReportSigned(t *testing.T) {
	b := enrolled(t)
	r := pair.PairReport{Cluster: "c", Epoch: 3, Turn: 1, Primary: "a", Serial: b.w.Record().Serial}
	r.Signatures = map[string][]byte{"a": ed25519.Sign(b.keys["a"], r.Statement())}
	if err := b.w.Pair("a", r); !errors.Is(err, pair.ErrRefused) || b.w.Record().Epoch != 1 {
		t.Errorf("taken without b's signature: %v, %+v", err, b.w.Record())
	}
}

// handlers keeps what a witness serves.
type handlers map[string]func(context.Context, string, []byte) ([]byte, error)

func (h handlers) Handle(method string, f func(context.Context, string, []byte) ([]byte, error)) {
	h[method] = f
}

// Who is pinned only because it has had the token, and is no node of the pair, changes nothing.
func TestOnlyMembers(t *testing.T) {
	b := enrolled(t)
	h := handlers{}
	b.w.Serve(h)
	ctx := context.Background()
	e := witness.Enrol{Cluster: "c", Primary: "evil", Nodes: []witness.Node{{ID: "a"}, {ID: "evil"}}}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for method, req := range map[string][]byte{"witness.enrol": raw, "witness.forget": nil} {
		if _, err := h[method](ctx, "evil", req); err == nil {
			t.Errorf("%s of a stranger was done", method)
		}
	}
	if r := b.w.Record(); r.Cluster != "c" || len(r.Nodes) != 2 || r.Nodes[1].ID != "b" {
		t.Fatalf("the record is now %+v", r)
	}
	if _, err := h["witness.forget"](ctx, "b", nil); err != nil || b.w.Record().Cluster != "" {
		t.Errorf("a member could not end it: %v", err)
	}
	if _, err := h["witness.enrol"](ctx, "x", raw); err == nil {
		t.Error("a pair was enrolled by a node that is not in it")
	}
	if _, err := h["witness.enrol"](ctx, "a", raw); err != nil {
		t.Errorf("a new pair: %v", err)
	}
}
