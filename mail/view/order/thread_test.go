package order

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// sequential is step 1 as RFC 5256 tells it, one message after the other, with parents that are
// taken away again. Without loops it must make the same forest as link.
func sequential(items []Item) []*Thread {
	byID := map[string]*Thread{}
	var nodes []*Thread
	add := func(id string) *Thread {
		t := &Thread{}
		if nodes = append(nodes, t); id != "" {
			byID[id] = t
		}
		return t
	}
	attach := func(t, p *Thread) {
		for a := p; a != nil; a = a.parent {
			if a == t {
				return
			}
		}
		t.parent = p
	}
	own := make([]*Thread, len(items))
	for i := range items {
		t := byID[items[i].ID]
		if items[i].ID == "" || t != nil {
			t = add("")
		} else {
			t = add(items[i].ID)
		}
		t.Item, own[i] = &items[i], t
	}
	for i := range items {
		var last *Thread
		for _, id := range items[i].References {
			t := byID[id]
			if t == nil {
				t = add(id)
			}
			if last != nil && t.parent == nil {
				attach(t, last)
			}
			last = t
		}
		if own[i].parent = nil; last != nil {
			attach(own[i], last)
		}
	}
	return nodes
}

// TestLinkIsSequential: giving each parent once comes to the same as the RFC's way.
func TestLinkIsSequential(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 10).Draw(t, "n")
		order := rapid.Permutation(func() (out []int) {
			for i := range n {
				out = append(out, i)
			}
			return out
		}()).Draw(t, "order")
		var items []Item
		for _, i := range order { // message 7 may refer to 0 to 6: nothing runs in a circle
			var refs []string
			if i > 0 {
				refs = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("%02d", rapid.IntRange(0, i-1).Draw(t, "ref")) }), 0, min(i, 4), rapid.ID[string]).Draw(t, "refs")
				slices.Sort(refs)
			}
			id := fmt.Sprintf("%02d", i)
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				id = fmt.Sprintf("other%d", i) // those that refer to it find nothing
			}
			items = append(items, msg(i, id, "", refs...))
		}
		parents := func(nodes []*Thread) string {
			var out []string
			name := func(t *Thread) string {
				switch {
				case t == nil:
					return "-"
				case t.Item == nil:
					return "."
				}
				return fmt.Sprint(t.Item.Index)
			}
			for _, x := range nodes {
				out = append(out, name(x)+"<"+name(x.parent))
			}
			slices.Sort(out)
			return fmt.Sprint(out)
		}
		if got, want := parents(link(items)), parents(sequential(items)); got != want {
			t.Fatalf("%s\nwant %s", got, want)
		}
	})
}

// hostile are mailboxes that are made to be slow: chains in every order, circles, wide families, and
// references to crowds of messages that aren't there.
func hostile(n int) map[string][]Item {
	id := func(i int) string { return fmt.Sprint("m", i) }
	make := func(refs func(i int) []string) []Item {
		out := make([]Item, n)
		for i := range out {
			out[i] = msg(i, id(i), fmt.Sprint("s", i), refs(i)...)
		}
		return out
	}
	crowd := func(i, members int) (out []string) {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		for range 8 {
			out = append(out, fmt.Sprint("gone", r.IntN(members)))
		}
		return out
	}
	third := n / 3
	return map[string][]Item{
		"a chain":             make(func(i int) []string { return []string{id(i - 1)} }),
		"a chain, backwards":  make(func(i int) []string { return []string{id(i + 1)} }),
		"a circle":            make(func(i int) []string { return []string{id((i + 1) % n)} }),
		"a circle both ways":  make(func(i int) []string { return []string{id((i + n - 1) % n), id((i + 1) % n)} }),
		"one parent":          make(func(i int) []string { return []string{id(0)} }),
		"one parent, last":    make(func(i int) []string { return []string{id(n - 1)} }),
		"the same crowd":      make(func(i int) []string { return crowd(i, 200) }),
		"crowds of their own": make(func(i int) []string { return crowd(i, 8*n) }),
		"a crowd in one column": make(func(i int) []string {
			return []string{fmt.Sprint("gone", i), fmt.Sprint("gone", i+1), fmt.Sprint("gone", i+2)}
		}),
		"families at the end of a chain": make(func(i int) []string {
			switch {
			case i < third: // the chain
				return []string{id(i - 1)}
			case i < 2*third: // children of those that come behind
				return []string{id(i + third)}
			}
			return []string{id(third - 1)}
		}),
	}
}

// TestThreadsOfHostileReferences counts the steps towards roots: they must not grow as the square
// of the messages, whatever their References say (a square of 20,000 is 400,000,000).
func TestThreadsOfHostileReferences(t *testing.T) {
	const n = 20_000
	for name, items := range hostile(n) {
		refs := 0
		for i := range items {
			refs += len(items[i].References)
		}
		l := linker{byID: map[string]*Thread{}}
		nodes := l.link(items)
		if bound := (n + refs) * bits.Len(uint(len(nodes))); l.steps > bound {
			t.Errorf("%s: %d steps for %d messages with %d references, want at most %d", name, l.steps, n, refs, bound)
		}
		count := 0
		stack := References(items)
		for len(stack) > 0 {
			th := stack[len(stack)-1]
			stack = append(stack[:len(stack)-1], th.Children...)
			if th.Item != nil {
				count++
			}
		}
		if count != n {
			t.Errorf("%s: %d messages in threads, want %d", name, count, n)
		}
	}
}

// TestThreadsDeep: a thread as deep as a mailbox is large takes no deep stack.
func TestThreadsDeep(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(1 << 20))
	const n = 1000
	items := make([]Item, n)
	for i := range items {
		refs := make([]string, 100) // of which none is there
		for k := range refs {
			refs[k] = fmt.Sprint(i*99 + k)
		}
		items[i] = msg(i, fmt.Sprint("m", i), "", refs...)
	}
	got := References(items)
	if len(got) != 1 || len(got[0].Children) != n {
		t.Errorf("%d threads, want one without a message of its own, with %d messages", len(got), n)
	}
	deep := make([]Item, 50_000)
	for i := range deep {
		deep[i] = msg(i, fmt.Sprint(i), "", fmt.Sprint(i-1))
	}
	if got := References(deep); len(got) != 1 {
		t.Errorf("%d threads, want one", len(got))
	}
}
