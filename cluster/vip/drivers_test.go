package vip

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

// ipHere runs ip in the namespace of the calling thread.
func ipHere(t *testing.T, format string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(format)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %s (%v)", format, out, err)
	}
}

// veth makes v0 and its other end v1 in the namespace of the calling thread.
func veth(t *testing.T) {
	t.Helper()
	ipHere(t, "link set lo up")
	ipHere(t, "link add v0 type veth peer name v1")
	ipHere(t, "link set v1 up")
	ipHere(t, "link set v0 up")
}

// kinds are interfaces that can have a floating address, and how each is made.
var kinds = map[string]string{
	"v0": "", "br0": "link add br0 type bridge", "v0.5": "link add link v0 name v0.5 type vlan id 5",
	"bond0": "link add bond0 type bond", "mv0": "link add link v0 name mv0 type macvlan",
}

// A renewal never puts the address back, whatever the driver believes, on any kind of interface that this
// kernel has.
// covers: I.73
func TestNetlinkRenewNeverCreates(t *testing.T) {
	for _, addr := range families {
		for ifname, command := range kinds {
			t.Run(addr+" "+ifname, func(t *testing.T) {
				skip := ""
				own(t, func() {
					veth(t)
					if command != "" {
						if exec.Command("ip", strings.Fields(command)...).Run() != nil {
							skip = "this kernel has no such interface: " + command
							return
						}
						ipHere(t, "link set "+ifname+" up")
					}
					a := netip.MustParseAddr(addr)
					n, err := OpenNetlink(ifname)
					if err != nil {
						t.Error(err)
						return
					}
					defer n.Close()
					ctx := context.Background()
					if err := n.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
						t.Errorf("renewal before it was added: %v", err)
					}
					if err := n.Add(ctx, a, lease.Now()+5*time.Second); err != nil {
						t.Error(err)
						return
					}
					if left := lifetime(t, n, a); left < 3 || left > 4 {
						t.Errorf("lifetime of %d s for a lease of 5 s", left)
					}
					if err := n.Renew(ctx, a, lease.Now()+20*time.Second); err != nil {
						t.Error(err)
					}
					if left := lifetime(t, n, a); left < 17 || left > 19 {
						t.Errorf("lifetime of %d s for a lease of 20 s", left)
					}
					if o, ok, err := Owner(a); err != nil || !ok || o != (LocalAddr{ifname, netip.PrefixFrom(a, a.BitLen()), true}) {
						t.Errorf("%+v %v %v", o, ok, err)
					}
					ipHere(t, "addr flush dev "+ifname)
					if err := n.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
						t.Errorf("renewal of an address that is gone: %v", err)
					}
					if here, err := n.Has(ctx, a); err != nil || here {
						t.Errorf("the renewal has put it back: %v", err)
					}
				})
				if skip != "" {
					t.Skip(skip)
				}
			})
		}
	}
}

// lifetime is how many seconds the kernel still gives the address.
func lifetime(t *testing.T, n *Netlink, a netip.Addr) int {
	t.Helper()
	all, err := n.list(a)
	if err != nil || len(all) != 1 {
		t.Errorf("%d addresses: %v", len(all), err)
		return -1
	}
	if all[0].PreferedLft != 0 {
		t.Errorf("preferred lifetime %d", all[0].PreferedLft)
	}
	return all[0].ValidLft
}

// The process is stopped between its look at the clock and the call to the kernel: the address gets fewer
// seconds, or is deleted when the lease has ended.
// covers: I.73
func TestNetlinkLateCall(t *testing.T) {
	own(t, func() {
		veth(t)
		n, err := OpenNetlink("v0")
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		var stops []time.Duration // before the nth look at the clock
		var at time.Duration
		n.now = func() time.Duration {
			if len(stops) > 0 {
				at += stops[0]
				stops = stops[1:]
			}
			return at
		}
		a, ctx := netip.MustParseAddr("10.99.0.50"), context.Background()
		here := func() bool { ok, _ := n.Has(ctx, a); return ok }

		stops = []time.Duration{0, 6 * time.Second}
		if err := n.Add(ctx, a, 5*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added after the end of the lease: %v", err)
		}
		at, stops = 0, []time.Duration{0, 4500 * time.Millisecond}
		if err := n.Add(ctx, a, 5*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added for its last half second: %v", err)
		}
		at, stops = 0, []time.Duration{0, 10 * time.Second}
		if err := n.Add(ctx, a, 30*time.Second); err != nil || !here() {
			t.Errorf("added with 20 s left: %v", err)
		} else if left := lifetime(t, n, a); left > 20 {
			t.Errorf("lifetime of %d s with 20 left", left)
		}
		stops = []time.Duration{0, 50 * time.Second}
		if err := n.Renew(ctx, a, 40*time.Second); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("renewed after the end of the lease: %v", err)
		}
		at, stops = 0, nil
		if err := n.Add(ctx, a, 900*time.Millisecond); !errors.Is(err, ErrExpired) || here() {
			t.Errorf("added for less than a second: %v", err)
		}
	})
}

// A new process deletes what an old one has left, wherever that is, and touches nothing else.
func TestNetlinkClean(t *testing.T) {
	own(t, func() {
		veth(t)
		ctx := context.Background()
		old, err := OpenNetlink("v1")
		if err != nil {
			t.Error(err)
			return
		}
		addrs := []netip.Addr{netip.MustParseAddr("10.99.0.50"), netip.MustParseAddr("fd99::50")}
		for _, a := range addrs {
			if err := old.Add(ctx, a, lease.Now()+time.Minute); err != nil {
				t.Error(err)
			}
		}
		n, err := OpenNetlink("v0")
		if err != nil {
			t.Error(err)
			return
		}
		defer n.Close()
		if err := n.Clean(ctx, addrs...); err != nil {
			t.Error(err)
		}
		for _, a := range addrs {
			if o, ok, _ := Owner(a); ok {
				t.Errorf("left: %+v", o)
			}
		}
		ipHere(t, "addr add 10.99.0.50/24 dev v0")
		if err := n.Clean(ctx, addrs[0]); !errors.Is(err, ErrForeign) {
			t.Errorf("cleaned an address that is configured: %v", err)
		}
		if err := n.Delete(ctx, addrs[0]); err != nil {
			t.Errorf("deletion of an address we don't hold: %v", err)
		}
		if _, ok, _ := Owner(addrs[0]); !ok {
			t.Error("a configured address was deleted")
		}
		ipHere(t, "addr add 10.99.0.51/32 dev v0")
		if err := n.Add(ctx, netip.MustParseAddr("10.99.0.51"), lease.Now()+time.Minute); !errors.Is(err, ErrForeign) {
			t.Errorf("added what is configured already: %v", err)
		}
		if _, err := OpenNetlink("v9"); err == nil {
			t.Error("opened an interface that doesn't exist")
		}
	})
}

// Only one can hold a loopback address, and the end of the lease or of the process frees it.
func TestLoopback(t *testing.T) {
	ctx, a := context.Background(), netip.MustParseAddr("127.99.7.3")
	d, other := OpenLoopback(), OpenLoopback()
	defer d.Close()
	defer other.Close()
	if err := d.Add(ctx, netip.MustParseAddr("10.0.0.1"), lease.Now()+time.Minute); err == nil {
		t.Error("took an address outside of 127.0.0.0/8")
	}
	if err := d.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("renewal before it was added: %v", err)
	}
	if err := d.Add(ctx, a, lease.Now()+time.Minute); err != nil {
		t.Fatal(err)
	}
	var use *InUseError
	if err := other.Add(ctx, a, lease.Now()+time.Minute); !errors.As(err, &use) || use.Addr != a {
		t.Errorf("a second holder: %v", err)
	}
	if err := d.Renew(ctx, a, lease.Now()-1); !errors.Is(err, ErrExpired) {
		t.Errorf("renewal after the end of the lease: %v", err)
	}
	if err := other.Add(ctx, a, lease.Now()+1100*time.Millisecond); err != nil {
		t.Errorf("after the first has lost it: %v", err)
	}
	poll(t, "the lease ends", func() bool { return d.Add(ctx, a, lease.Now()+time.Minute) == nil })
	if here, _ := other.Has(ctx, a); here {
		t.Error("two have it")
	}
	if err := other.Renew(ctx, a, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("renewal after expiry: %v", err)
	}
	if err := d.Delete(ctx, a); err != nil {
		t.Error(err)
	}
	var p *process
	run(func() { p = start(t, "lock", 0, a.String()) })
	p.wait(0, "held")
	if err := d.Add(ctx, a, lease.Now()+time.Minute); !errors.As(err, &use) {
		t.Errorf("beside another process: %v", err)
	}
	p.cmd.Process.Kill()
	poll(t, "the dead process frees it", func() bool { return d.Add(ctx, a, lease.Now()+time.Minute) == nil })
}
