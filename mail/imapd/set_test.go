package imapd

import (
	"slices"
	"testing"
	"time"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"

	"pgregory.net/rapid"
)

// TestSets: what is written as a set reads as the same numbers, and ranges hold what the set holds.
func TestSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nums := rapid.SliceOfNDistinct(rapid.Uint32Range(1, 60), 1, 40, rapid.ID[uint32]).Draw(t, "numbers")
		if rapid.Bool().Draw(t, "sorted") {
			slices.Sort(nums)
		}
		uids := make([]model.UID, len(nums))
		for i, n := range nums {
			uids[i] = model.UID(n)
		}
		set, err := imapparse.New(uidSet(uids), nil).Set()
		if err != nil {
			t.Fatal(err)
		}
		c := newCursor(set)
		for _, n := range nums {
			if got, ok := c.next(); !ok || got != n {
				t.Fatalf("%s: %d %v, want %d", uidSet(uids), got, ok, n)
			}
		}
		if _, ok := c.next(); ok {
			t.Fatal("more than there is")
		}
		r := newRanges(set, 60)
		for n := uint32(1); n <= 61; n++ {
			if r.has(n) != slices.Contains(nums, n) {
				t.Fatalf("%v: %d", r, n)
			}
		}
	})
	if r := newRanges(imapparse.Set{{From: 0, To: 3}, {From: 4294967295, To: 1}}, 7); len(r) != 1 || r[0] != [2]uint32{1, 4294967295} {
		t.Errorf("%v", r)
	}
}

func TestDates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unix := rapid.Int64Range(-70_000_000_000, 260_000_000_000).Draw(t, "unix")
		if got, want := string(appendDate(nil, unix)), time.Unix(unix, 0).UTC().Format("02-Jan-2006 15:04:05 -0700"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}
