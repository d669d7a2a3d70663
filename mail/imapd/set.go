package imapd

import (
	"slices"
	"strconv"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
)

// setWriter writes numbers as a sequence set, neighbours that ascend as a range.
type setWriter struct {
	from, to uint32
	any      bool
	written  bool
}

func (w *setWriter) add(b []byte, n uint32) []byte {
	if w.any && n == w.to+1 && n != 0 {
		w.to = n
		return b
	}
	b = w.end(b)
	w.from, w.to, w.any = n, n, true
	return b
}

// end writes what is left.
func (w *setWriter) end(b []byte) []byte {
	if !w.any {
		return b
	}
	if w.written {
		b = append(b, ',')
	}
	b = strconv.AppendUint(b, uint64(w.from), 10)
	if w.to > w.from {
		b = strconv.AppendUint(append(b, ':'), uint64(w.to), 10)
	}
	w.any, w.written = false, true
	return b
}

// uidSet writes UIDs as a set, in their order.
func uidSet(uids []model.UID) string {
	var w setWriter
	var b []byte
	for _, u := range uids {
		b = w.add(b, uint32(u))
	}
	return string(w.end(b))
}

// uidRanges are from <= UID <= to, ascending, without overlap.
type uidRanges [][2]uint32

func newRanges(set imapparse.Set, largest uint32) uidRanges {
	var all uidRanges
	set.Bounds(largest, func(from, to uint32) { all = append(all, [2]uint32{from, to}) })
	slices.SortFunc(all, func(a, b [2]uint32) int { return int(int64(a[0]) - int64(b[0])) })
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && uint64(r[0]) <= uint64(out[n-1][1])+1 {
			out[n-1][1] = max(out[n-1][1], r[1])
			continue
		}
		out = append(out, r)
	}
	return out
}

func (r uidRanges) has(n uint32) bool {
	i, ok := slices.BinarySearchFunc(r, n, func(x [2]uint32, n uint32) int { return int(int64(x[0]) - int64(n)) })
	return ok || i > 0 && r[i-1][1] >= n
}

// uidFilter tells which UIDs are in a set.
func (ss *session) uidFilter(set imapparse.Set) func(model.UID) bool {
	if set.Saved() {
		return func(u model.UID) bool {
			_, ok := slices.BinarySearch(ss.saved, u)
			return ok
		}
	}
	r := newRanges(set, uint32(ss.view.Largest()))
	return func(u model.UID) bool { return r.has(uint32(u)) }
}

// messages resolves a set to indexes of the view, ascending. A sequence number that doesn't
// exist is an error; a UID that doesn't is passed over (RFC 3501 §6.4.8).
func (ss *session) messages(set imapparse.Set, uid bool) ([]int, error) {
	msgs := ss.view.Messages
	n := len(msgs)
	if set.Saved() {
		out := make([]int, 0, len(ss.saved))
		for _, u := range ss.saved {
			if i, ok := ss.view.Index(u); ok {
				out = append(out, i)
			}
		}
		return out, nil
	}
	if n == 0 {
		if uid {
			return nil, nil
		}
		return nil, bad{"the mailbox is empty"}
	}
	largest := uint32(n)
	if uid {
		largest = uint32(msgs[n-1].UID)
	}
	var out []int
	for _, r := range newRanges(set, largest) {
		lo, hi := int(r[0])-1, int(r[1])
		if uid {
			lo, _ = ss.view.Index(model.UID(r[0]))
			for hi = lo; hi < n && uint32(msgs[hi].UID) <= r[1]; hi++ {
			}
		} else if hi > n {
			return nil, bad{"there is no such message"}
		}
		out = slices.Grow(out, hi-lo)
		for i := lo; i < hi; i++ {
			out = append(out, i)
		}
	}
	return out, nil
}

// rangesOf is a set of UIDs as ranges.
func (ss *session) rangesOf(set imapparse.Set, largest model.UID) uidRanges {
	if !set.Saved() {
		return newRanges(set, uint32(largest))
	}
	var out uidRanges
	for _, u := range ss.saved {
		out = append(out, [2]uint32{uint32(u), uint32(u)})
	}
	return out
}
