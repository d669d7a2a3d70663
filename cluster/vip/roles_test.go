package vip

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster/lease"
)

const roleEnv = "VIP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "anchor":
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
	case "guard":
		err := RunGuard(os.Stdin, os.Stdout, GuardHooks{Farewell: func(_ context.Context, data []byte) {
			os.WriteFile(string(data), []byte("farewell"), 0o600)
		}})
		if err != nil {
			fmt.Fprintln(os.Stderr, "guard:", err)
		}
	case "node":
		nodeMain()
	case "spawner":
		os.Setenv(roleEnv, "guard")
		if err := RunSpawner("/proc/self/exe"); err != nil {
			fmt.Fprintln(os.Stderr, "spawner:", err)
		}
	case "dropped":
		droppedMain()
	case "client":
		clientMain(os.Args[len(os.Args)-1])
	case "lock":
		if err := OpenLoopback().Add(context.Background(), netip.MustParseAddr(os.Args[len(os.Args)-1]), lease.Now()+time.Minute); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
	}
}

// order is what a test tells a node; times count from when it is read.
type order struct {
	Do    string // acquire, acquire-released, release, probe
	Lease time.Duration
}

// nodeMain is the main process of a node: a guard, a holder, a service on port 7007 that says
// the node's name. It holds as if alone, for Lease at a time.
func nodeMain() {
	addr, name := netip.MustParseAddr(os.Args[len(os.Args)-1]), os.Args[len(os.Args)-2]
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	os.Setenv(roleEnv, "guard")
	g, err := StartGuard(context.Background(), KindNetlink, "eth0", "/proc/self/exe")
	if err != nil {
		say("error %v", err)
		return
	}
	var mu sync.Mutex
	term := 3 * time.Second
	h, err := NewHolder(HolderConfig{
		Addr: addr, Driver: g, Wire: g, Frame: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		OnLost:     func(err error) { say("lost %v", err) },
		OnConflict: func(mac net.HardwareAddr) { say("conflict %v", mac) },
	})
	if err == nil {
		err = h.Clean(context.Background())
	}
	if err != nil {
		say("error %v", err)
		return
	}
	l, err := net.Listen("tcp", ":7007")
	if err != nil {
		say("error %v", err)
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, name)
			c.Close()
		}
	}()
	say("ready %d", g.PID())
	until := func(now time.Duration) (time.Duration, bool) {
		mu.Lock()
		defer mu.Unlock()
		return now + term, true
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if in.Decode(&o) != nil {
			break
		}
		if o.Lease > 0 {
			mu.Lock()
			term = o.Lease
			mu.Unlock()
		}
		switch do, farewell, _ := strings.Cut(o.Do, " "); do {
		case "acquire":
			err = h.Acquire(context.Background(), until)
		case "acquire-released":
			err = h.AcquireReleased(context.Background(), until)
		case "release":
			err = h.Release(context.Background())
		case "farewell":
			err = g.Farewell(context.Background(), []byte(farewell))
		}
		if err != nil {
			say("error %v", err)
			continue
		}
		say("done")
	}
	g.Close()
}

// clientMain connects every 2 ms and says who answered.
func clientMain(addr string) {
	fmt.Println("ready")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for range time.Tick(2 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "7007"), 100*time.Millisecond)
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if name, err := io.ReadAll(c); err == nil && len(name) > 0 {
			fmt.Printf("%d %s\n", lease.Now(), name)
		}
		c.Close()
	}
}
