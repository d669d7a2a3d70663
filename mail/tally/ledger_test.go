package tally

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tell brings a report from one node to the other, as over the link.
func tell(t rapid.TB, from, to *Ledger, all bool, now time.Time) {
	t.Helper()
	raw, err := from.Report(all, now).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	to.Learn(r, now)
}

func list(l *Ledger, now time.Time) string {
	var out []string
	for _, b := range l.Blocks(now)["smtp"] {
		out = append(out, fmt.Sprint(b.Network, b.Until.Sub(now).Round(time.Second)))
	}
	return strings.Join(out, " ")
}

var start = time.Unix(6000, 0)

// TestTwoNodesCountTogether: whatever a client does at which node, it has one limit, and both nodes
// list the same blocks; when nothing is told, each has the limit.
func TestTwoNodesCountTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []*Ledger{{}, {}}
		link := rapid.Bool().Draw(t, "link")
		for _, l := range nodes {
			l.Share(true)
		}
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		done := map[string]int{}
		now := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at := rapid.IntRange(0, 1).Draw(t, "node")
			client := netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 3).Draw(t, "client"))})
			key := client.String()
			if !link {
				key += fmt.Sprint(at)
			}
			if nodes[at].Rate("smtp").Take(client, limit, now) {
				if done[key]++; done[key] > limit {
					t.Fatalf("%s: %d within a minute, %d are allowed", key, done[key], limit)
				}
			} else if done[key] < limit {
				t.Fatalf("%s: refused after %d, %d are allowed", key, done[key], limit)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond)
			if link {
				tell(t, nodes[at], nodes[1-at], false, now)
				if a, b := list(nodes[0], now), list(nodes[1], now); a != b {
					t.Fatalf("one node blocks %q, the other one %q", a, b)
				}
			}
		}
	})
}

// TestBlocksOfTwoNodes: a block wakes who reports it, a node that starts anew hears of it, and it is
// lifted on both for good.
func TestBlocksOfTwoNodes(t *testing.T) {
	a, b := &Ledger{}, &Ledger{}
	a.Share(true)
	b.Share(true)
	ip, now := netip.MustParseAddr("192.0.2.1"), start
	a.Rate("smtp").Take(ip, 1, now)
	select {
	case <-a.Wake():
		t.Error("awake though nobody is blocked")
	default:
	}
	a.Rate("smtp").Take(ip, 1, now)
	select {
	case <-a.Wake():
	default:
		t.Error("a block does not wake who reports it")
	}
	tell(t, a, b, false, now)
	now = now.Add(20 * time.Second)
	fresh := &Ledger{} // of b after its restart
	fresh.Share(true)
	if own := b.Run(); fresh.Run() == own || b.Run() != own {
		t.Error("a restart can't be told")
	}
	tell(t, b, a, true, now) // a knows it better
	tell(t, a, fresh, false, now)
	if got := list(fresh, now); got != "" {
		t.Errorf("what was told is told again: %s", got)
	}
	tell(t, a, fresh, true, now)
	if got := list(fresh, now); got != "192.0.2.1/32 40s" || fresh.Rate("smtp").Take(ip, 9, now) {
		t.Errorf("after its restart a node blocks %q", got)
	}
	for _, l := range []*Ledger{a, fresh} {
		if !l.Unblock(ip, now) || l.Unblock(ip, now) {
			t.Error("can't be lifted, or twice")
		}
	}
	tell(t, a, fresh, true, now)
	tell(t, fresh, a, true, now)
	if list(a, now)+list(fresh, now) != "" {
		t.Error("the block is back")
	}
	// A block that is lifted before the other node was told is not told.
	a.Rate("smtp").Take(ip, 0, now)
	a.Unblock(ip, now)
	tell(t, a, fresh, false, now)
	if got := list(fresh, now); got != "" {
		t.Error(got)
	}
	// Without another node nothing is kept for it.
	a.Share(false)
	a.Rate("smtp").Take(ip, 0, now)
	if r := a.Report(false, now); len(r.Counts)+len(r.Blocks) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestOpenOfTwoNodes: what is open at either node counts, what was handed over counts once, and a node
// that is silent has nothing open.
func TestOpenOfTwoNodes(t *testing.T) {
	a, b := &Ledger{}, &Ledger{}
	now := start
	ip, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
	enter := func(l *Ledger, ip netip.Addr, want bool) Place {
		t.Helper()
		p, ok := l.Open("imap").Enter(ip, 3, now)
		if ok != want {
			t.Fatalf("let in: %v", ok)
		}
		return p
	}
	both := func() { tell(t, a, b, false, now); tell(t, b, a, false, now) }
	first := enter(a, ip, true)
	second := enter(a, ip, true)
	taken := b.Open("imap").Take(ip) // the second one is served there
	both()
	enter(b, ip, true)
	both()
	enter(a, ip, false)
	enter(b, ip, false)
	enter(b, other, true)
	now = now.Add(silence - time.Second)
	both() // nothing is new, and counts on
	now = now.Add(silence - time.Second)
	enter(a, ip, false)
	a.Open("imap").Leave(second)
	b.Open("imap").Leave(taken)
	both()
	third := enter(b, ip, true)
	both()
	enter(a, ip, false)
	b.Open("imap").Leave(third)
	a.Open("imap").Leave(first)
	both()
	enter(b, ip, true)
	enter(b, ip, true)
	both()
	enter(a, ip, false)
	now = now.Add(silence) // the other node is dead, and its connections with it
	enter(a, ip, true)
	// One that has started anew has none either.
	tell(t, &Ledger{}, a, true, now)
	enter(a, ip, true)
	if o := a.Open("imap"); len(o.there) != 0 || len(b.Open("imap").taken) != 0 {
		t.Errorf("left over: %v %v", o.there, b.Open("imap").taken)
	}
}

// TestReportIsBounded: a flood of clients makes no report that can't be sent or read.
// A client may be blocked between the look at the clock and the report.
func TestReportOfTheMoment(t *testing.T) {
	l := &Ledger{}
	l.Share(true)
	ip := netip.MustParseAddr("192.0.2.1")
	l.Rate("smtp").Take(ip, 1, start)
	l.Rate("smtp").Take(ip, 1, start.Add(20*time.Millisecond))
	r := l.Report(false, start)
	raw, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseReport(raw); err != nil || len(r.Blocks) != 1 {
		t.Errorf("%+v: %v", r, err)
	}
}

func TestReportIsBounded(t *testing.T) {
	l := &Ledger{}
	l.Share(true)
	for i := range 2 * maxEntries {
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.Rate("smtp").Take(ip, i%2, start)
		l.Open("smtp").Enter(ip, 0, start)
	}
	raw, err := l.Report(false, start).Marshal()
	if err != nil || len(raw) > maxReport/4 {
		t.Fatalf("%d octets, %v", len(raw), err)
	}
	if _, err := ParseReport(raw); err != nil {
		t.Fatal(err)
	}
	if n := len(l.Rate("smtp").untold); n != 0 {
		t.Errorf("%d are kept for the next report", n)
	}
}

func FuzzParseReport(f *testing.F) {
	ip := netip.MustParsePrefix("192.0.2.1/32")
	for _, r := range []Report{
		{}, {All: true, Counts: []Named{{"smtp", []Count{{ip, 3}}}}, Blocks: []Blocked{{"messages", ip, 100}}, Open: []Named{{"imap", nil}}, Locks: []Lock{{"a 192.0.2.1/32", 5}}},
		{Counts: []Named{{"", []Count{{netip.MustParsePrefix("192.0.2.0/24"), -1}}}}},
	} {
		raw, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseReport(raw)
		if err != nil {
			return
		}
		l := &Ledger{}
		l.Learn(r, start)
		for _, s := range r.Counts {
			for _, c := range s.Counts {
				if !isClient(c.Network) || c.N < 1 {
					t.Fatalf("%v", c)
				}
			}
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseReport(again); err != nil {
			t.Fatal(err)
		}
	})
}
