package cluster_test

import (
	"slices"
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
