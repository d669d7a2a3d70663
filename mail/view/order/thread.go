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
	top      *Thread // further up in the same tree, see linker; nil: a root
	at       int     // which message it is, from 0

	kept, gone bool    // see gather
	place      *Thread // which thread stands where this one was
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
	var roots []*Thread
	for _, t := range link(items) {
		if t.parent == nil {
			roots = append(roots, t)
		}
	}
	roots = prune(roots)
	for _, t := range roots {
		if t.Item == nil {
			sortSiblings(t.Children)
		}
	}
	sortSiblings(roots)
	roots = gather(roots)
	sortAll(roots)
	return roots
}

// link is step 1: parents and children by message IDs. A message that isn't there is a node without
// Item. A parent is given once and never taken away again, so that no order of messages, and no
// References made up to do harm, makes it slow: first every message gets the parent that it names
// itself, then what its References say about others counts for those who have not spoken: messages
// that aren't there, and earlier ones without References.
func link(items []Item) []*Thread {
	l := linker{byID: make(map[string]*Thread, len(items)), nodes: make([]*Thread, 0, len(items)), slab: make([]Thread, len(items))}
	return l.link(items)
}

func (l *linker) link(items []Item) []*Thread {
	own := make([]*Thread, len(items))
	for i := range items {
		it := &items[i]
		t := l.byID[it.ID]
		if it.ID == "" || t != nil { // none, or that of another message: one of its own
			t = l.add("")
		} else {
			t = l.add(it.ID)
		}
		t.Item, t.at, own[i] = it, i, t
	}
	for i := range items {
		if refs := items[i].References; len(refs) > 0 {
			l.attach(own[i], l.node(refs[len(refs)-1]))
		}
	}
	for i := range items {
		var last *Thread
		for _, id := range items[i].References {
			t := l.node(id)
			if last != nil && (t.Item == nil || t.at < i) {
				l.attach(t, last)
			}
			last = t
		}
	}
	return l.nodes
}

// linker makes a forest. It knows the root of every node without walking through the forest: top
// leads to a node further up, and each search makes the ways that it went shorter.
type linker struct {
	byID  map[string]*Thread
	nodes []*Thread
	slab  []Thread // one piece of memory for most of them
	steps int      // how often top was followed, for the test that bounds it
}

func (l *linker) node(id string) *Thread {
	if t := l.byID[id]; t != nil {
		return t
	}
	return l.add(id)
}

func (l *linker) add(id string) *Thread {
	if len(l.slab) == 0 {
		l.slab = make([]Thread, 64)
	}
	t := &l.slab[0]
	l.slab = l.slab[1:]
	if l.nodes = append(l.nodes, t); id != "" {
		l.byID[id] = t
	}
	return t
}

// attach makes t a child of p, unless t has a parent or p is t or below it.
func (l *linker) attach(t, p *Thread) {
	if t.parent != nil {
		return
	}
	root := l.root(p)
	if root == t {
		return
	}
	t.parent, t.top = p, root
	p.Children = append(p.Children, t)
}

// root finds the root of the tree that t is in.
func (l *linker) root(t *Thread) *Thread {
	for l.steps++; t.top != nil; l.steps++ {
		if t.top.top != nil {
			t.top = t.top.top
		}
		t = t.top
	}
	return t
}

// prune is step 3: nodes without a message go; their children take their place, at the top only
// an only child. It goes down without recursion: a thread may be as deep as there are messages.
func prune(roots []*Thread) []*Thread {
	type visit struct{ t, keeper *Thread } // keeper: the nearest node above that stays
	out := make([]*Thread, 0, len(roots))
	var stack []visit
	open := func(t, keeper *Thread) {
		for _, c := range t.Children {
			stack = append(stack, visit{c, keeper})
		}
		t.Children = t.Children[:0]
	}
	for _, root := range roots {
		open(root, root)
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if v.t.Item == nil {
				open(v.t, v.keeper)
				continue
			}
			open(v.t, v.t)
			v.keeper.Children = append(v.keeper.Children, v.t)
		}
		switch {
		case root.Item != nil || len(root.Children) > 1:
			out = append(out, root)
		default:
			out = append(out, root.Children...)
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

// sortAll is step 6: siblings by date at every level. Below the top every node is a message, so that
// the order of the levels doesn't matter; the top comes last, where a node without a message is as
// old as its first child.
func sortAll(roots []*Thread) {
	stack := slices.Clone(roots)
	for len(stack) > 0 {
		t := stack[len(stack)-1]
		stack = append(stack[:len(stack)-1], t.Children...)
		sortSiblings(t.Children)
	}
	sortSiblings(roots)
}

// gather is step 5: threads with the same subject become one.
func gather(list []*Thread) []*Thread {
	table := make(map[string]*Thread, len(list))
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
	for _, t := range table {
		t.kept = true // what the others are gathered around
	}
	for _, t := range list {
		s := t.head().Subject
		if s == "" || t.kept {
			continue
		}
		in := table[s]
		t.gone = true
		switch {
		case in.Item == nil && t.Item == nil:
			in.Children = append(in.Children, t.Children...)
		case in.Item == nil, t.Item != nil && t.Item.Reply && !in.Item.Reply:
			in.Children = append(in.Children, t)
		default:
			both := &Thread{Children: []*Thread{in, t}}
			in.place, table[s] = both, both
		}
	}
	out := make([]*Thread, 0, len(list))
	for _, t := range list {
		if t.gone {
			continue
		}
		if t.place != nil {
			t = t.place
		}
		out = append(out, t)
	}
	return out
}
