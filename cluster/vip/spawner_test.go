package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailplusd/cluster/lease"

	"golang.org/x/sys/unix"
)

// startSpawner runs this test binary as a spawner of guards.
func startSpawner(t *testing.T) *Spawner {
	t.Helper()
	t.Setenv(roleEnv, "spawner")
	s, err := StartSpawner("/proc/self/exe", "-test.run=^$")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Guards of a spawner hold addresses, one after the other, and are gone when it has closed.
func TestSpawner(t *testing.T) {
	s := startSpawner(t)
	ctx := context.Background()
	addr := netip.MustParseAddr("127.98.76.54")
	for range 2 {
		g, err := s.Guard(ctx, KindLoopback, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Add(ctx, addr, lease.Now()+time.Minute); err != nil {
			t.Fatal(err)
		}
		if has, err := g.Has(ctx, addr); err != nil || !has {
			t.Errorf("held: %v %v", has, err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Guard(ctx, "nonsense", ""); err == nil || !strings.Contains(err.Error(), "no driver") {
		t.Errorf("a guard that can't open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Guard(ctx, KindLoopback, ""); err == nil || !strings.Contains(err.Error(), "restart the node") {
		t.Errorf("of a spawner that has ended: %v", err)
	}
}

// A process that has dropped its capabilities holds an address through its spawner's guard, can't by
// itself, and binds a low port still.
func TestDroppedCapabilities(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), roleEnv+"=dropped")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET,
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE}}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "operation not supported") {
		t.Skip("a program with cgo can't drop the capabilities of all threads")
	}
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("%v\n%s", err, out)
	}
}

// droppedMain is the process of TestDroppedCapabilities, in a network of its own with nothing but one interface.
func droppedMain() {
	fail := func(what string, err error) {
		fmt.Println(what, err)
		os.Exit(1)
	}
	for _, line := range []string{"link add mp0 type bridge", "link set lo up", "link set mp0 up", "addr add 192.0.2.1/24 dev mp0"} {
		cmd := exec.Command("ip", strings.Fields(line)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_NET_ADMIN}}
		if out, err := cmd.CombinedOutput(); err != nil {
			fail("ip "+line+": "+string(out), err)
		}
	}
	os.Setenv(roleEnv, "spawner")
	s, err := StartSpawner("/proc/self/exe", "-test.run=^$")
	if err != nil {
		fail("spawner:", err)
	}
	if !Capable() {
		fail("not capable", nil)
	}
	if err := DropCapabilities(); err != nil {
		fail("drop:", err)
	}
	for range 4 { // on whatever thread
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, err := OpenLink("mp0")
			done <- err
		}()
		if err := <-done; !errors.Is(err, os.ErrPermission) {
			fail("a raw socket without the capability:", err)
		}
	}
	if Capable() {
		fail("still capable", nil)
	}
	l, err := net.Listen("tcp", "127.0.0.1:25")
	if err != nil {
		fail("low port:", err)
	}
	l.Close()
	ctx := context.Background()
	g, err := s.Guard(ctx, KindNetlink, "mp0")
	if err != nil {
		fail("guard:", err)
	}
	addr := netip.MustParseAddr("192.0.2.9")
	if err := g.Add(ctx, addr, lease.Now()+time.Minute); err != nil {
		fail("add:", err)
	}
	if has, err := g.Has(ctx, addr); err != nil || !has {
		fail("held:", err)
	}
	if err := errors.Join(g.Close(), s.Close()); err != nil {
		fail("close:", err)
	}
	fmt.Println("ok")
}
