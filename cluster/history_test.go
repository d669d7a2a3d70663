package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster"

	"pgregory.net/rapid"
)

// drawHistory makes a possible history that follows another.
func drawHistory(t *rapid.T, after cluster.History, owner string) cluster.History {
	h := slices.Clone(after)
	for range rapid.IntRange(0, 4).Draw(t, "branches") {
		b := cluster.Branch{Epoch: h.Epoch() + rapid.Uint64Range(1, 3).Draw(t, "epoch"), Owner: owner, Term: 1}
		b.Index = rapid.Uint64Range(0, 300).Draw(t, "index")
		h = append(h, b)
	}
	return h
}

// The rules of rejoining, for histories made by two nodes from a common one.
func TestCompareRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := drawHistory(t, nil, "c")
		mine, theirs := drawHistory(t, common, "a"), drawHistory(t, common, "b")
		applied := rapid.Uint64Range(0, 400).Draw(t, "applied")
		own, their := len(mine) > len(common), len(theirs) > len(common)
		got := cluster.Compare(mine, theirs, applied)
		var want cluster.Comparison
		switch {
		case !own && !their:
			want.Relation = cluster.Equal
		case !own:
			b := theirs[len(common)]
			want = cluster.Comparison{Relation: cluster.MinePrefix, Index: b.Index, Term: b.Term}
			if applied > b.Index {
				want.Relation = cluster.Diverged
			}
		case !their:
			b := mine[len(common)]
			want = cluster.Comparison{Relation: cluster.TheirsPrefix, Index: b.Index, Term: b.Term}
		default:
			want = cluster.Comparison{Relation: cluster.Diverged, Index: min(mine[len(common)].Index, theirs[len(common)].Index), Term: 1}
		}
		if got != want {
			t.Fatalf("mine %v, theirs %v, applied %d: %+v, want %+v", mine, theirs, applied, got, want)
		}
		// An epoch of its own: never a prefix, however little was applied.
		if own && (got.Relation == cluster.Equal || got.Relation == cluster.MinePrefix) {
			t.Fatalf("%v passes for %v as %v", mine, theirs, got.Relation)
		}
		// The other side sees the same.
		back := cluster.Compare(theirs, mine, 0)
		mirror := map[cluster.Relation]cluster.Relation{
			cluster.Equal: cluster.Equal, cluster.TheirsPrefix: cluster.MinePrefix,
			cluster.MinePrefix: cluster.TheirsPrefix, cluster.Diverged: cluster.Diverged,
		}
		if applied == 0 && back.Relation != mirror[got.Relation] {
			t.Fatalf("%v here, %v there", got.Relation, back.Relation)
		}
	})
}

// Time and reason say nothing about whether two nodes mean the same decision; everything
// else does.
func TestCompareIdentity(t *testing.T) {
	b := cluster.Branch{Epoch: 2, Owner: "a", Index: 10, Term: 3, Reason: "r", Time: time.Unix(1, 0)}
	o := b
	o.Reason, o.Time = "other", time.Unix(2, 0)
	if got := cluster.Compare(cluster.History{b}, cluster.History{o}, 99); got.Relation != cluster.Equal {
		t.Errorf("same decision: %v", got.Relation)
	}
	for name, change := range map[string]func(*cluster.Branch){
		"epoch": func(b *cluster.Branch) { b.Epoch++ },
		"owner": func(b *cluster.Branch) { b.Owner = "b" },
		"index": func(b *cluster.Branch) { b.Index++ },
		"term":  func(b *cluster.Branch) { b.Term++ },
	} {
		o := b
		change(&o)
		if got := cluster.Compare(cluster.History{b}, cluster.History{o}, 0); got.Relation != cluster.Diverged || got.Index != 10 || got.Term != 3 {
			t.Errorf("other %s: %+v", name, got)
		}
	}
}

// What was written is there after a restart, at every point; what is refused changes nothing.
func TestHistoryFile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		h, err := cluster.OpenHistory(dir)
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			was, facts := h.History(), h.Facts()
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				err = h.Update(func(f *cluster.Facts) {
					f.State = rapid.SampledFrom([]string{"PAIR", "SOLO-P", ""}).Draw(rt, "state")
					f.Stale = !f.Stale
					f.VIP = append(f.VIP, "192.0.2.1/24@eth0")
					f.Extra = json.RawMessage(`{"a":1}`)
				})
			case 1:
				b := cluster.Branch{Epoch: rapid.Uint64Range(0, 20).Draw(rt, "epoch"), Owner: "a", Index: rapid.Uint64Range(0, 9).Draw(rt, "index")}
				err = h.Begin(b, func(f *cluster.Facts) { f.State = "SOLO-S"; f.Grant = &cluster.Grant{Epoch: b.Epoch, By: "w"} })
				if err != nil && !errors.Is(err, cluster.ErrHistory) {
					rt.Fatal(err)
				}
				if k := h.History(); err == nil && (k.Epoch() != b.Epoch || h.Facts().Epoch < b.Epoch || k.Owner() != "a") {
					rt.Fatalf("begun %+v: %+v", b, k)
				}
			case 2:
				err = h.Adopt(drawHistory(rt, nil, "b"), nil)
			case 3:
				if h, err = cluster.OpenHistory(dir); err == nil && (!reflect.DeepEqual(h.History(), was) && len(was)+len(h.History()) > 0 || !sameFacts(h.Facts(), facts)) {
					rt.Fatalf("before %v %+v, after a restart %v %+v", was, facts, h.History(), h.Facts())
				}
			}
			if err != nil {
				if !errors.Is(err, cluster.ErrHistory) {
					rt.Fatal(err)
				}
				if !reflect.DeepEqual(h.History(), was) || !sameFacts(h.Facts(), facts) {
					rt.Fatalf("changed in spite of %v", err)
				}
			}
		}
	})
}

func sameFacts(a, b cluster.Facts) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// Begin again after a crash, with the same branch, adds nothing.
func TestHistoryBeginAgain(t *testing.T) {
	h, err := cluster.OpenHistory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := cluster.Branch{Epoch: 1, Owner: "a", Index: 5}
	for range 2 {
		if err := h.Begin(b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.History(); len(got) != 1 || got[0].Time.IsZero() {
		t.Errorf("%+v", got)
	}
	b.Owner = "b"
	if err := h.Begin(b, nil); !errors.Is(err, cluster.ErrHistory) {
		t.Errorf("another branch of the same epoch: %v", err)
	}
}

func TestHistoryFileRefusals(t *testing.T) {
	for content, want := range map[string]string{
		`{"format":2}`: "format 2, this program",
		`{`:            "damaged",
		``:             "damaged",
		`{"format":1,"history":[{"epoch":1,"owner":"a"},{"epoch":1,"owner":"b"}]}`: "impossible history",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ha-state.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.OpenHistory(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	dir := t.TempDir()
	h, err := cluster.OpenHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := h.Update(func(f *cluster.Facts) { f.Stale = true }); !errors.Is(err, cluster.ErrFailed) || h.Facts().Stale {
		t.Errorf("write fault: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Update(func(f *cluster.Facts) {}); !errors.Is(err, cluster.ErrFailed) {
		t.Errorf("after a write fault: %v", err)
	}
}
