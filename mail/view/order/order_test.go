package order

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBaseSubject(t *testing.T) {
	for _, c := range []struct {
		in, base string
		reply    bool
	}{
		{"hello", "hello", false}, {"  a \t b\r\n c ", "a b c", false}, {"Re: hello", "hello", true}, {"RE : FW: Fwd:hello", "hello", true},
		{"[list] Re: hello", "hello", true}, {"[list] hello", "hello", false}, {"Re[2]: hello", "hello", true}, {"Re: [list] [x] hello (fwd) (FWD)", "hello", true},
		{"[Fwd: Re: hello]", "hello", true}, {"[fwd: [fwd: hello] (fwd)]", "hello", true}, {"[only]", "[only]", false}, {"[a] [only]", "[only]", false},
		{"Re:", "", true}, {"(fwd)", "", true}, {"reply: x", "reply: x", false}, {"[a[b]: c", "[a[b]: c", false}, {"Re: [blob] ", "[blob]", true}, {"", "", false},
		{strings.Repeat("[a]", 80_000) + "x", "x", false}, {strings.Repeat("[a]", 80_000), "[a]", false}, {strings.Repeat("Re: [a]", 40_000) + "x", "x", true}, // in linear time
		{"fwd x", "fwd x", false}, {"[a] re [b]: c", "c", true},
	} {
		if base, reply := BaseSubject(c.in); base != c.base || reply != c.reply {
			t.Errorf("%q: %q %v, want %q %v", c.in, base, reply, c.base, c.reply)
		}
	}
}

func TestCollate(t *testing.T) {
	for a, b := range map[string]string{"Grüße": "GRÜßE", "abc": "ABC", "é": "E\u0301"} {
		if Collate(a) != Collate(b) {
			t.Errorf("%q and %q differ: %q %q", a, b, Collate(a), Collate(b))
		}
	}
	if Collate("a") >= Collate("B") {
		t.Error("a is not before B")
	}
}

func TestSentDate(t *testing.T) {
	for in, want := range map[string]string{
		"Mon, 1 Jan 2024 10:00:00 +0100": "2024-01-01T09:00:00Z", "1 jan 24 10:00 GMT": "2024-01-01T10:00:00Z", "Tue, 02 Feb 1999 23:59:60 EST (comment)": "1999-02-03T05:00:00Z",
		"1 Jan 2024": "2024-01-01T00:00:00Z", "1 Jan 99 1:2:3 +9999": "1999-01-01T01:02:03Z", "Mon 1 January 2024 10:00:00 -0030": "2024-01-01T10:30:00Z", "01-Mar-2024 00:00:00 UT": "2024-03-01T00:00:00Z",
		"": "", "yesterday": "", "1 Foo 2024": "", "99 Jan 2024": "", "Mon,": "", "Mon, 1": "",
	} {
		at, ok := SentDate(in)
		if ok != (want != "") || ok && at.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %v %v, want %s", in, at.UTC(), ok, want)
		}
	}
}

// TestPlainDates: the quick way of reading a date never differs from the other.
func TestPlainDates(t *testing.T) {
	for _, s := range []string{"Mon, 1 Jan 2024 10:00:00 +0100", "02 Feb 1999 23:59:59 -0330 (a comment)"} {
		if _, ok := plainDate(s); !ok {
			t.Errorf("%q is not read the quick way", s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		day := rapid.SampledFrom([]string{"", "Mon, ", "Tue, ", "Mon,", "mon, ", "(x, ", "1on, "}).Draw(t, "day")
		s := fmt.Sprintf("%s%d %s %d %02d:%02d:%02d %s%s", day, rapid.IntRange(0, 33).Draw(t, "d"), rapid.SampledFrom([]string{"Jan", "Feb", "Mar", "Jun", "Nov", "Dec", "dec", "anF", "May"}).Draw(t, "m"), rapid.SampledFrom([]int{24, 124, 1900, 1969, 2000, 2024, 9999, 12024}).Draw(t, "y"),
			rapid.IntRange(0, 25).Draw(t, "hh"), rapid.IntRange(0, 61).Draw(t, "mm"), rapid.IntRange(0, 61).Draw(t, "ss"), rapid.SampledFrom([]string{"+0000", "+0200", "-0330", "+2460", "-2400", "EST", "+00x0", "+000"}).Draw(t, "zone"), rapid.SampledFrom([]string{"", " ", " (CET)", " x", "(x)"}).Draw(t, "end"))
		if i := rapid.IntRange(-100, len(s)-1).Draw(t, "spoil"); i >= 0 {
			s = s[:i] + rapid.SampledFrom([]string{"", "x", "0", " ", "(", ",", "-"}).Draw(t, "with") + s[i+1:]
		}
		sec, ok := SentUnix(s)
		at, want := SentDate(s)
		if ok != want || ok && sec != at.Unix() {
			t.Fatalf("%q: %d %v, want %d %v", s, sec, ok, at.Unix(), want)
		}
	})
}

func TestSort(t *testing.T) {
	items := []Item{{Index: 0, Size: 3, From: "B", Subject: "X"}, {Index: 1, Size: 1, From: "A", Subject: "X"}, {Index: 2, Size: 3, From: "A", Subject: "W"}, {Index: 3, Size: 1, From: "A", Subject: "X"}}
	for want, keys := range map[string][]Key{
		"[1 3 0 2]": {{By: BySize}}, "[0 2 1 3]": {{By: BySize, Reverse: true}}, "[2 1 3 0]": {{By: BySubject}, {By: ByFrom}}, "[0 1 3 2]": {{By: BySubject, Reverse: true}, {By: ByFrom, Reverse: true}},
	} {
		list := append([]Item(nil), items...)
		Sort(list, keys)
		var got []int
		for _, it := range list {
			got = append(got, it.Index)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%v: %v, want %s", keys, got, want)
		}
	}
}

// text writes threads as IMAP does, with indexes.
func text(list []*Thread) string {
	var b strings.Builder
	var put func(*Thread)
	put = func(t *Thread) {
		name := "."
		if t.Item != nil {
			name = fmt.Sprint(t.Item.Index)
		}
		b.WriteString(name)
		if len(t.Children) > 0 {
			b.WriteByte('[')
			for i, c := range t.Children {
				if i > 0 {
					b.WriteByte(' ')
				}
				put(c)
			}
			b.WriteByte(']')
		}
	}
	for i, t := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		put(t)
	}
	return b.String()
}

// msg is index, ID, subject, references; the index is the date, too.
func msg(i int, id, subject string, refs ...string) Item {
	base, reply := BaseSubject(subject)
	return Item{Index: i, Sent: int64(i), ID: id, Subject: Collate(base), Reply: reply, References: refs}
}

func TestThreads(t *testing.T) {
	for _, c := range []struct {
		name  string
		items []Item
		refs  string
		subj  string
	}{
		{"a chain and a fork", []Item{msg(1, "a", "x"), msg(2, "b", "Re: x", "a"), msg(3, "c", "Re: x", "a", "b"), msg(4, "d", "Re: x", "a")}, "1[2[3] 4]", "1[2 3 4]"},
		{"children before their parent", []Item{msg(1, "c", "q", "a", "b"), msg(2, "b", "r", "a"), msg(3, "a", "s")}, "3[2[1]]", "1 2 3"},
		{"a parent that isn't there holds two together", []Item{msg(1, "b", "s", "gone"), msg(2, "c", "t", "gone"), msg(3, "d", "u", "other")}, ".[1 2] 3", "1 2 3"},
		{"missing in between", []Item{msg(1, "a", "s"), msg(2, "c", "t", "a", "gone")}, "1[2]", "1 2"},
		{"loops", []Item{msg(1, "a", "s", "b"), msg(2, "b", "t", "a"), msg(3, "c", "u", "c")}, "2[1] 3", "1 2 3"},
		{"the same ID twice", []Item{msg(1, "a", "s"), msg(2, "a", "t"), msg(3, "c", "u", "a")}, "1[3] 2", "1 2 3"},
		{"subjects: the reply goes below", []Item{msg(1, "a", "x"), msg(2, "b", "Re: x")}, "1[2]", "1[2]"},
		{"subjects: two of the same rank stand side by side", []Item{msg(1, "a", "x"), msg(2, "b", "x"), msg(3, "c", "x")}, ".[1 2 3]", "1[2 3]"},
		{"subjects: the original comes later", []Item{msg(1, "a", "Re: x"), msg(2, "b", "x")}, "2[1]", "1[2]"},
		{"subjects: a parent that isn't there gathers", []Item{msg(1, "a", "x", "g"), msg(2, "b", "x", "g"), msg(3, "c", "x", "h"), msg(4, "d", "x", "h"), msg(5, "e", "Re: x")}, ".[1 2 3 4 5]", "1[2 3 4 5]"},
		{"no subject gathers nothing", []Item{msg(1, "a", ""), msg(2, "b", "Re:")}, "1 2", "1[2]"},
		{"a message without references leaves the parent that another gave it", []Item{msg(1, "a", "p"), msg(2, "c", "q", "a", "b"), msg(3, "b", "r")}, "1 3[2]", "1 2 3"},
		{"no items", nil, "", ""},
	} {
		if got := text(References(append([]Item(nil), c.items...))); got != c.refs {
			t.Errorf("%s: REFERENCES %s, want %s", c.name, got, c.refs)
		}
		if got := text(OrderedSubject(append([]Item(nil), c.items...))); got != c.subj {
			t.Errorf("%s: ORDEREDSUBJECT %s, want %s", c.name, got, c.subj)
		}
	}
}

// TestThreadsKeepEveryMessage: whatever the references say, each message stands in the answer once.
func TestThreadsKeepEveryMessage(t *testing.T) {
	id := rapid.StringMatching(`[a-f]?`)
	rapid.Check(t, func(t *rapid.T) {
		var items []Item
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			it := msg(i, id.Draw(t, "id"), rapid.SampledFrom([]string{"", "x", "Re: x", "y"}).Draw(t, "subject"), rapid.SliceOfN(rapid.StringMatching(`[a-h]`), 0, 4).Draw(t, "refs")...)
			it.Sent = rapid.Int64Range(0, 3).Draw(t, "sent")
			items = append(items, it)
		}
		for _, threads := range []func([]Item) []*Thread{References, OrderedSubject} {
			seen := map[int]int{}
			var walk func(*Thread, int)
			walk = func(th *Thread, depth int) {
				if depth > 20 {
					t.Fatal("a loop")
				}
				if th.Item != nil {
					seen[th.Item.Index]++
				} else if depth > 0 || len(th.Children) < 2 {
					t.Fatalf("a place without a message at depth %d with %d children", depth, len(th.Children))
				}
				for _, c := range th.Children {
					walk(c, depth+1)
				}
			}
			for _, th := range threads(append([]Item(nil), items...)) {
				walk(th, 0)
			}
			for i := range items {
				if seen[i] != 1 {
					t.Fatalf("message %d stands there %d times", i, seen[i])
				}
			}
		}
	})
}

func FuzzSubjectAndDate(f *testing.F) {
	f.Add("[a] Re[2]: [fwd: x (fwd)]")
	f.Add("Mon, 1 Jan 2024 10:00:00 +0100")
	f.Fuzz(func(t *testing.T, s string) {
		base, _ := BaseSubject(s)
		if again, _ := BaseSubject(base); again != base {
			t.Fatalf("%q: base %q has the base %q", s, base, again)
		}
		Collate(s)
		SentDate(s)
	})
}

func BenchmarkThreadReferences(b *testing.B) {
	items := make([]Item, 20_000)
	for i := range items {
		items[i] = msg(i, fmt.Sprint(i), fmt.Sprint("s", i%5000))
		for k := i % 7; k > 0; k-- {
			items[i].References = append(items[i].References, fmt.Sprint(i-k))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		References(append([]Item(nil), items...))
	}
}

func BenchmarkSentDate(b *testing.B) {
	const s = "Fri, 21 Nov 1997 09:55:06 -0600"
	b.Run("quick", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			SentUnix(s)
		}
	})
	b.Run("any", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			SentDate(s)
		}
	})
}
