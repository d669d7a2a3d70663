package tally

import (
	"net/netip"
	"testing"
	"time"
)

// TestRate: over the limit a client is out for one minute, and nobody else is.
func TestRate(t *testing.T) {
	var c Rate
	now := time.Unix(1e9, 0)
	a, b, six, seven := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for i := range 3 {
		if !c.Take(a, 3, now) {
			t.Fatalf("%d is too much", i+1)
		}
	}
	if c.Blocked(a, now) || c.Take(a, 3, now) || !c.Blocked(a, now) || !c.Take(b, 3, now) {
		t.Error("the fourth passes, or another client does not")
	}
	if list := c.Blocks(now); len(list) != 1 || list[0].Network.String() != "192.0.2.1/32" || !list[0].Until.Equal(now.Add(time.Minute)) {
		t.Errorf("blocked are %v", list)
	}
	now = now.Add(59 * time.Second)
	if c.Take(a, 3, now) {
		t.Error("let in before the minute is over")
	}
	now = now.Add(time.Second)
	if !c.Take(a, 3, now) || len(c.Blocks(now)) != 0 {
		t.Error("still blocked")
	}
	c.Take(six, 1, now)
	if c.Take(seven, 1, now) || !c.Unblock(six, now) || c.Unblock(six, now) || !c.Take(seven, 1, now) {
		t.Error("addresses of one IPv6 network count apart, or a block can't be lifted")
	}
	for i := range maxClients + 10 {
		c.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 0, now)
	}
	if len(c.m) > maxClients {
		t.Errorf("%d clients are counted", len(c.m))
	}
}
