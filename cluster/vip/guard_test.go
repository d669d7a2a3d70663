package vip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

// guardPair runs a guard in this process over a fake network. The client's end of the pipe
// and what RunGuard returns are given too.
func guardPair(t *testing.T, f *fakeNet, farewell func([]byte)) (g *Guard, in io.Closer, ended chan error) {
	t.Helper()
	stdin, in2 := io.Pipe()
	out2, stdout := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- RunGuard(stdin, stdout, GuardHooks{
			Farewell: func(_ context.Context, data []byte) { farewell(data) },
			Logger:   slog.New(slog.DiscardHandler),
			open:     func(DriverKind, string) (Driver, Wire, error) { return f, f, nil },
		})
		stdin.Close()
		stdout.Close()
	}()
	g = newGuard(in2, out2, nil)
	t.Cleanup(func() { g.Close() })
	return g, in2, ended
}

// fakeNow makes the fake network use the guard's clock.
func guardNet() *fakeNet {
	f := newFakeNet()
	f.begin = time.Now().Add(-lease.Now())
	return f
}

func names(f *fakeNet) (out []string) {
	for _, e := range f.events() {
		_, what, _ := cut(e)
		out = append(out, what)
	}
	return out
}

// The guard does what it is told, errors keep their meaning, and the end of the pipe
// deletes first and says farewell then.
// covers: I.73
func TestGuard(t *testing.T) {
	f := guardNet()
	var g *Guard
	farewells := make(chan []string, 1)
	g, in, ended := guardPair(t, f, func(data []byte) { farewells <- append(names(f), string(data)) })
	ctx := t.Context()
	if err := g.Add(ctx, testAddr, lease.Now()+time.Minute); err == nil || !strings.Contains(err.Error(), "not open") {
		t.Errorf("before it was opened: %v", err)
	}
	if _, err := g.call(ctx, guardRequest{Op: opOpen, Driver: KindNetlink}); err != nil {
		t.Fatal(err)
	}
	if err := g.Announce(ctx, testAddr); !errors.Is(err, ErrExpired) {
		t.Errorf("announced what isn't held: %v", err)
	}
	if err := g.Renew(ctx, testAddr, lease.Now()+time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("renewed what isn't held: %v", err)
	}
	f.mu.Lock()
	f.fail["add"] = &InUseError{testAddr, net.HardwareAddr{2, 0, 0, 0, 0, 7}}
	f.mu.Unlock()
	var use *InUseError
	if err := g.Add(ctx, testAddr, lease.Now()+time.Minute); !errors.As(err, &use) || use.MAC.String() != "02:00:00:00:00:07" || use.Addr != testAddr {
		t.Errorf("in use: %v", err)
	}
	f.mu.Lock()
	clear(f.fail)
	f.log = nil
	f.holder = net.HardwareAddr{2, 0, 0, 0, 0, 8}
	f.mu.Unlock()
	if err := g.Add(ctx, testAddr, lease.Now()+time.Minute); err != nil {
		t.Fatal(err)
	}
	if mac, err := g.Probe(ctx, testAddr); err != nil || mac.String() != "02:00:00:00:00:08" {
		t.Errorf("probe %v %v", mac, err)
	}
	if here, err := g.Has(ctx, testAddr); err != nil || !here {
		t.Errorf("has %v %v", here, err)
	}
	conflicts := make(chan net.HardwareAddr, 1)
	stop, err := g.Watch(testAddr, func(m net.HardwareAddr) { conflicts <- m })
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	conflict := f.conflict
	f.mu.Unlock()
	conflict(f.holder)
	if mac := <-conflicts; mac.String() != "02:00:00:00:00:08" {
		t.Errorf("conflict with %v", mac)
	}
	stop()
	if err := errors.Join(g.Announce(ctx, testAddr), g.Farewell(ctx, []byte("bye"))); err != nil {
		t.Error(err)
	}
	in.Close() // the main process has died
	if got := <-farewells; !slices.Equal(got, []string{"add", "probe", "announce", "delete", "bye"}) {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-g.Done()
	if err := g.Delete(ctx, testAddr); !errors.Is(err, ErrGuard) {
		t.Errorf("after its end: %v", err)
	}
}

// Close deletes and says no farewell; a deletion that fails is no reason for one either.
func TestGuardNoFarewell(t *testing.T) {
	for name, end := range map[string]func(*fakeNet, *Guard, io.Closer){
		"closed": func(_ *fakeNet, g *Guard, _ io.Closer) { g.Close() },
		"deletion fails": func(f *fakeNet, _ *Guard, in io.Closer) {
			f.mu.Lock()
			f.fail["delete"] = errors.New("no")
			f.mu.Unlock()
			in.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := guardNet()
			g, in, ended := guardPair(t, f, func([]byte) { t.Error("a farewell") })
			if _, err := g.call(t.Context(), guardRequest{Op: opOpen}); err != nil {
				t.Fatal(err)
			}
			err := errors.Join(g.Farewell(t.Context(), []byte("bye")), g.Add(t.Context(), testAddr, lease.Now()+time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			end(f, g, in)
			<-ended
			if got := names(f); !slices.Equal(got, []string{"add", "delete"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// Whatever comes by the pipe: no panic, and at the end nothing is held.
func FuzzGuard(f *testing.F) {
	open := `{"id":1,"op":"open"}` + "\n"
	f.Add([]byte(open + `{"id":2,"op":"add","addrs":["10.0.0.1"],"end":9000000000000000}` + "\n" + `{"id":3,"op":"announce","addrs":["10.0.0.1"]}` + "\n"))
	f.Add([]byte(open + `{"id":2,"op":"add","addrs":[]}` + "\n" + `{"id":2,"op":"probe","addrs":["::1"]}` + "\n"))
	f.Add([]byte(open + `{"id":2,"op":"watch","addrs":["fd00::1"]}` + "\n" + `{"op":"close"}` + "\n{"))
	f.Add([]byte(open + fmt.Sprintf(`{"op":"farewell","data":"%s"}`, strings.Repeat("A", maxGuardLine))))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := guardNet()
		var out bytes.Buffer
		RunGuard(bytes.NewReader(b), &out, GuardHooks{
			Logger: slog.New(slog.DiscardHandler),
			open:   func(DriverKind, string) (Driver, Wire, error) { return n, n, nil },
		})
		if n.here {
			t.Errorf("held after the end: %q", n.log)
		}
	})
}

func FuzzParseARP(f *testing.F) {
	f.Add(arpPacket(arpReply, net.HardwareAddr{2, 0, 0, 0, 0, 1}, testAddr, testAddr))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := parseARP(b); ok && (!c.addr.Is4() || c.addr.IsUnspecified() || len(c.mac) != 6) {
			t.Errorf("%x claims %+v", b, c)
		}
	})
}

func FuzzParseND(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, addr := range []string{"fd99::50", "fe80::1"} {
		na, err := advertisement(mac, mustAddr(addr))
		ns, err2 := solicitation(mac, mustAddr(addr))
		if err := errors.Join(err, err2); err != nil {
			f.Fatal(err)
		}
		if c, ok := parseND(na); !ok || c.addr != mustAddr(addr) || c.mac.String() != mac.String() {
			f.Errorf("own advertisement read as %+v %v", c, ok)
		}
		if _, ok := parseND(ns); ok {
			f.Error("a solicitation claims something")
		}
		f.Add(na)
		f.Add(ns)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := parseND(b); ok && (!c.addr.Is6() || len(c.mac) != 6) {
			t.Errorf("%x claims %+v", b, c)
		}
	})
}

// A probe claims nothing; announcements and answers do.
func TestARP(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if c, ok := parseARP(arpPacket(arpRequest, mac, mustAddr("0.0.0.0"), testAddr)); ok {
		t.Errorf("a probe claims %+v", c)
	}
	for _, op := range []uint16{arpRequest, arpReply} {
		b := arpPacket(op, mac, testAddr, testAddr)
		if c, ok := parseARP(b); !ok || c.addr != testAddr || c.mac.String() != mac.String() {
			t.Errorf("%+v %v", c, ok)
		}
		if _, ok := parseARP(b[:len(b)-1]); ok {
			t.Error("a short packet was read")
		}
	}
}

// The address goes only when the kernel has closed what the main process had open: before that the
// kernel could not tell the clients. The pipe of a process that is killed ends a little earlier.
func TestGuardAwaitsMain(t *testing.T) {
	main := exec.Command("sleep", "60")
	if err := main.Start(); err != nil {
		t.Fatal(err)
	}
	f := guardNet()
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- RunGuard(stdin, stdout, GuardHooks{
			Logger: slog.New(slog.DiscardHandler), gone: time.Hour,
			open: func(DriverKind, string) (Driver, Wire, error) { return f, f, nil },
		})
		stdout.Close()
	}()
	g := newGuard(in, out, nil)
	if _, err := g.call(t.Context(), guardRequest{Op: opOpen, Driver: KindNetlink, PID: main.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(t.Context(), testAddr, lease.Now()+time.Minute); err != nil {
		t.Fatal(err)
	}
	in.Close()
	select {
	case <-ended:
		t.Fatal("the guard has not waited")
	case <-time.After(50 * time.Millisecond):
	}
	if slices.ContainsFunc(names(f), func(what string) bool { return strings.Contains(what, "delete") }) {
		t.Errorf("deleted while the main process was there: %v", names(f))
	}
	main.Process.Kill()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	main.Wait()
	if got := names(f); !slices.ContainsFunc(got, func(what string) bool { return strings.Contains(what, "delete") }) {
		t.Errorf("not deleted: %v", got)
	}
}
