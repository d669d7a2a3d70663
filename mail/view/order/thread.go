package order

import (
	"cmp"
	"slices"
)

// Thread is a message and those that follow it. Item is nil for the parent that siblings have in
// common, but that isn't among the messages.
type Thread struct {
	Item     *Item
	Children []*Thread
	parent   *Thread
}

// OrderedSubject threads by base subject alone (RFC 5256 §3, ORDEREDSUBJECT): the oldest message
// of a subject is the parent of the others.
func OrderedSubject(items []Item) []*Thread {
	bySent(items)
	var out []*Thread
	bySubject := map[string]*Thread{}
	for i := range items {
		it := &items[i]
		t := &Thread{Item: it}
		if root := bySubject[it.Subject]; root != nil {
			root.Children = append(root.Children, t)
			continue
		}
		bySubject[it.Subject] = t
		out = append(out, t)
	}
	return out
}

func bySent(items []Item) {
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(cmp.Compare(a.Sent, b.Sent), cmp.Compare(a.Index, b.Index)) })
}

// References threads by who answers whom (RFC 5256 §3, REFERENCES).
func References(items []Item) []*Thread {
	root := &Thread{}
	nodes := link(items)
	for _, t := range nodes {
		if t.parent == nil {
			t.parent = root
			root.Children = append(root.Children, t)
		}
	}
	root.Children = prune(root.Children, true)
	for _, t := range root.Children {
		t.parent = root
		if t.Item == nil {
			sortSiblings(t.Children)
		}
	}
	sortSiblings(root.Children)
	root.Children = gather(root.Children)
	sortAll(root)
	return root.Children
}

// link is step 1: parents and children by message IDs. A message that isn't there is a node without Item.
func link(items []Item) []*Thread {
	byID := make(map[string]*Thread, len(items))
	nodes := make([]*Thread, 0, len(items))
	slab := make([]Thread, len(items)) // one piece of memory for most of them
	add := func(id string) *Thread {
		if len(slab) == 0 {
			slab = make([]Thread, 64)
		}
		t := &slab[0]
		slab = slab[1:]
		if nodes = append(nodes, t); id != "" {
			byID[id] = t
		}
		return t
	}
	own := make([]*Thread, len(items))
	for i := range items {
		it := &items[i]
		t := byID[it.ID]
		if it.ID == "" || t != nil { // none, or that of another message: one of its own
			t = add("")
		} else {
			t = add(it.ID)
		}
		t.Item, own[i] = it, t
	}
	for i := range items {
		var last *Thread
		for _, id := range items[i].References {
			t := byID[id]
			if t == nil {
				t = add(id)
			}
			if last != nil && t.parent == nil {
				t.attach(last)
			}
			last = t
		}
		own[i].parent.detach(own[i])
		if last != nil {
			own[i].attach(last)
		}
	}
	return nodes
}

// attach makes t a child of p, unless p is t or below it.
func (t *Thread) attach(p *Thread) {
	if p == t {
		return
	}
	if len(t.Children) > 0 {
		for a := p.parent; a != nil; a = a.parent {
			if a == t {
				return
			}
		}
	}
	t.parent = p
	p.Children = append(p.Children, t)
}

// detach takes a child away from t, which may be nil.
func (t *Thread) detach(child *Thread) {
	if t == nil {
		return
	}
	child.parent = nil
	// its last children are the newest: what is detached was mostly put there lately
	for i := len(t.Children) - 1; i >= 0; i-- {
		if t.Children[i] == child {
			t.Children = slices.Delete(t.Children, i, i+1)
			return
		}
	}
}

// prune is step 3: nodes without a message go; their children take their place, at the top only
// an only child.
func prune(list []*Thread, top bool) []*Thread {
	out := make([]*Thread, 0, len(list))
	for _, t := range list {
		t.Children = prune(t.Children, false)
		switch {
		case t.Item != nil, top && len(t.Children) > 1:
			out = append(out, t)
		default:
			out = append(out, t.Children...)
		}
	}
	return out
}

// head is the message that stands for a thread: its own, or its first child's.
func (t *Thread) head() *Item {
	if t.Item == nil && len(t.Children) > 0 {
		return t.Children[0].Item
	}
	return t.Item
}

func sortSiblings(list []*Thread) {
	slices.SortStableFunc(list, func(a, b *Thread) int {
		x, y := a.head(), b.head()
		return cmp.Or(cmp.Compare(x.Sent, y.Sent), cmp.Compare(x.Index, y.Index))
	})
}

// sortAll is step 6: siblings by date at every level, from the bottom up.
func sortAll(t *Thread) {
	for _, c := range t.Children {
		sortAll(c)
	}
	sortSiblings(t.Children)
}

// gather is step 5: threads with the same subject become one.
func gather(list []*Thread) []*Thread {
	table := map[string]*Thread{}
	for _, t := range list {
		s := t.head().Subject
		if s == "" {
			continue
		}
		old := table[s]
		if old == nil || old.Item != nil && (t.Item == nil || old.Item.Reply && !t.Item.Reply) {
			table[s] = t
		}
	}
	kept := make(map[*Thread]bool, len(table)) // what the others are gathered around
	for _, t := range table {
		kept[t] = true
	}
	gone := map[*Thread]bool{}
	place := map[*Thread]*Thread{} // which thread stands where another was
	for _, t := range list {
		s := t.head().Subject
		if s == "" || kept[t] {
			continue
		}
		in := table[s]
		gone[t] = true
		switch {
		case in.Item == nil && t.Item == nil:
			in.Children = append(in.Children, t.Children...)
		case in.Item == nil, t.Item != nil && t.Item.Reply && !in.Item.Reply:
			in.Children = append(in.Children, t)
		default:
			both := &Thread{Children: []*Thread{in, t}}
			place[in], table[s] = both, both
		}
	}
	out := make([]*Thread, 0, len(list))
	for _, t := range list {
		if gone[t] {
			continue
		}
		if p := place[t]; p != nil {
			t = p
		}
		out = append(out, t)
	}
	return out
}
