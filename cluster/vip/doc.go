// Package vip puts the floating address of a pair on this machine and takes it away.
//
// # Who does what
//
// A Driver knows how an address is held: Netlink on an interface, with a lifetime after
// which the kernel removes it even if this process hangs; Loopback on a laptop, without
// root. A Wire knows how neighbours are asked and told (Link: ARP and neighbour discovery;
// Silent: nobody to tell). A Holder puts both together: Acquire, renew each frame,
// announce, Release.
//
// A Guard is a Driver and a Wire that live in a small child process, the only one that
// needs CAP_NET_ADMIN and CAP_NET_RAW. It does what it is told, renews nothing by itself,
// and deletes the address when its pipe closes because the main process has died. A
// Spawner, another child, starts guards when they are needed: it keeps the two capabilities, and the
// main process drops them from all its threads (DropCapabilities) before it listens anywhere.
//
// # Until when
//
// Every call carries the end of the lease, a reading of CLOCK_BOOTTIME (lease.Now), and
// not a duration: a call that was held up somewhere must not make the address live
// longer. Whole seconds are worked out and the clock is read again right beside the call
// to the kernel (lease.Renew, lease.Wrote).
//
// # Never created by a renewal
//
// Linux creates an address that a "replace" doesn't find (it ignores the absence of
// NLM_F_CREATE), so a process that wakes up after a long stop would take the address
// back. The renewal therefore carries IFA_F_MCAUTOJOIN: the kernel looks at that flag only
// when it would have to create the address, and fails then with EINVAL since the address
// is no multicast group. An existing address gets its lifetime. Since Linux 4.1.
//
// # Host prefix
//
// The address is set with /32 or /128. The nodes' own addresses give the route to the LAN,
// and no deletion of ours can take another address of the same subnet with it, as the
// kernel does with secondaries.
package vip
