package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/cluster/vip"
	"mailplusd/mail/model"

	"github.com/spf13/cobra"
)

// guardCommand is the child that holds the floating address and lets go when its parent dies.
func guardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "vip-guard", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			log := slog.New(logHandler(os.Getenv(envLogFormat) == "json", slog.LevelInfo))
			return vip.RunGuard(os.Stdin, os.Stdout, vip.GuardHooks{Farewell: sayFarewell, Logger: log})
		},
	}
}

// spawnerCommand is the child that starts guards: the only one that keeps the network capabilities.
func spawnerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "vip-spawner", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			return vip.RunSpawner(exe, "vip-guard")
		},
	}
}

// lessPrivileged hands the capabilities that only guards need to a spawner and drops them. Where there
// are none, or none are needed, there is no spawner.
func lessPrivileged(cfg Config, log *slog.Logger) (*vip.Spawner, error) {
	if cfg.Link == "" || cfg.Link == "none" || cfg.VIPDriver != "netlink" || !vip.Capable() {
		return nil, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s, err := vip.StartSpawner(exe, "vip-spawner")
	if err != nil {
		return nil, err
	}
	if err := vip.DropCapabilities(); err != nil {
		log.Warn("this process keeps the network capabilities that only its guard needs", "err", err)
	}
	return s, nil
}

// lastWord is what a guard is to say, and to whom.
type lastWord struct {
	Word  []byte   `json:"word"`
	Addrs []string `json:"addrs"`
}

// sayFarewell sends the dead process's word to the other node, some times: nobody answers.
func sayFarewell(ctx context.Context, data []byte) {
	var w lastWord
	if err := json.Unmarshal(data, &w); err != nil {
		slog.Error("guard: last word", "err", err)
		return
	}
	for try := range 6 {
		for _, a := range w.Addrs {
			c, err := net.Dial("udp", a)
			if err != nil {
				continue
			}
			c.Write(w.Word)
			c.Close()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(try*try) * 20 * time.Millisecond):
		}
	}
}

// floating is the pair's floating addresses on this node, behind a guard.
type floating struct {
	kind  vip.DriverKind
	exe   string
	spawn *vip.Spawner // starts guards; nil: this process does
	frame time.Duration
	log   *slog.Logger
	vips  func() []model.VIP                // with interfaces
	moved func([]netip.Addr)                // the services follow
	leave func(context.Context, netip.Addr) // sessions end between two commands
	ports func() []syscall.RawConn          // where the services listen
	cut   func(netip.Addr)                  // sessions end at once
	clash func(netip.Addr, net.HardwareAddr)

	op     sync.Mutex // Acquire and Release
	mu     sync.Mutex
	guards map[string]*vip.Guard // by interface
	held   map[netip.Prefix]*vip.Holder
	word   []byte
}

var _ pair.Address = (*floating)(nil)

// guard gives the guard of an interface, starting one if there is none.
func (f *floating) guard(ctx context.Context, ifname string) (*vip.Guard, error) {
	f.mu.Lock()
	g := f.guards[ifname]
	word := f.word
	f.mu.Unlock()
	if g != nil {
		select {
		case <-g.Done():
		default:
			return g, nil
		}
	}
	g, err := f.start(ctx, ifname)
	if err != nil {
		return nil, err
	}
	if word != nil {
		if err := g.Farewell(ctx, word); err != nil {
			f.log.Warn("guard", "err", err)
		}
	}
	f.mu.Lock()
	f.guards[ifname] = g
	f.mu.Unlock()
	return g, nil
}

func (f *floating) start(ctx context.Context, ifname string) (*vip.Guard, error) {
	if f.spawn != nil {
		return f.spawn.Guard(ctx, f.kind, ifname)
	}
	return vip.StartGuard(ctx, f.kind, ifname, f.exe, "vip-guard")
}

// Ask tells who answers for an address on an interface; nil: nobody.
func (f *floating) Ask(ctx context.Context, ifname string, a netip.Addr) (net.HardwareAddr, error) {
	g, err := f.guard(ctx, ifname)
	if err != nil {
		return nil, err
	}
	return g.Ask(ctx, a)
}

func (f *floating) ifname(p netip.Prefix) string {
	for _, v := range f.vips() {
		if v.Prefix == p {
			return v.Interface
		}
	}
	return ""
}

// Acquire implements pair.Address.
func (f *floating) Acquire(ctx context.Context, want []netip.Prefix, probe bool, until pair.Until) error {
	f.op.Lock()
	defer f.op.Unlock()
	defer f.hold()
	for _, p := range f.Held() {
		if !slices.Contains(want, p) {
			f.hold(p.Addr())
			if err := f.drop(ctx, p); err != nil {
				return err
			}
		}
	}
	for _, p := range want {
		if err := f.acquire(ctx, p, probe, until); err != nil {
			return err
		}
	}
	f.tell()
	return nil
}

func (f *floating) acquire(ctx context.Context, p netip.Prefix, probe bool, until pair.Until) error {
	f.mu.Lock()
	h := f.held[p]
	f.mu.Unlock()
	if h != nil && h.Held() {
		return nil
	}
	g, err := f.guard(ctx, f.ifname(p))
	if err != nil {
		return err
	}
	h, err = vip.NewHolder(vip.HolderConfig{
		Addr: p.Addr(), Driver: g, Wire: g, Frame: f.frame, Logger: f.log,
		OnLost: func(err error) {
			f.log.Warn("floating address lost", "address", p.Addr(), "reason", err)
			f.tell()
		},
		OnConflict: func(mac net.HardwareAddr) { f.clash(p.Addr(), mac) },
	})
	if err != nil {
		return err
	}
	if err := h.Clean(ctx); err != nil {
		return err
	}
	ask := func(time.Duration) (time.Duration, bool) { return until() }
	if probe {
		err = h.Acquire(ctx, ask)
	} else {
		err = h.AcquireReleased(ctx, ask)
	}
	var used *vip.InUseError
	if errors.As(err, &used) {
		return fmt.Errorf("%w: %w", pair.ErrInUse, err)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.held[p] = h
	f.mu.Unlock()
	return nil
}

// Renew implements pair.Address. The holders renew by themselves each frame.
func (f *floating) Renew(context.Context, pair.Until) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.held {
		h.Renew()
	}
	return nil
}

// hold has new connections to these addresses wait, or none. Where it can't be done they are taken
// and cut, and their clients have to come a third time.
func (f *floating) hold(addrs ...netip.Addr) {
	ctx, cancel := context.WithTimeout(context.Background(), holdOff)
	defer cancel()
	for _, port := range f.ports() {
		err := vip.HoldOff(port, addrs...)
		if errors.Is(err, os.ErrPermission) && f.spawn != nil {
			err = f.spawn.HoldOff(ctx, port, addrs...)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			f.log.Debug("new connections are not held off", "err", err)
		}
	}
}

// holdOff is how long new connections are held off while sessions end.
const holdOff = 250 * time.Millisecond

// Leave implements pair.Address. A client whose session ends here comes back at once, and would be cut
// together with the address: so new connections wait. Where a session takes its time, others are
// served meanwhile, and those of them that have not gone in the end are cut.
func (f *floating) Leave(ctx context.Context) {
	f.hold(f.addrs()...)
	if f.leaveFor(ctx, holdOff) {
		return
	}
	f.hold()
	f.leaveFor(ctx, time.Hour)
	f.hold(f.addrs()...)
	f.leaveFor(context.WithoutCancel(ctx), holdOff)
}

// leaveFor has the sessions at all addresses end, for a time; true: they have.
func (f *floating) leaveFor(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for _, a := range f.addrs() {
		f.leave(ctx, a)
	}
	return ctx.Err() == nil
}

// Stay implements pair.Address.
func (f *floating) Stay() { f.hold() }

// addrs are the addresses that are held.
func (f *floating) addrs() (out []netip.Addr) {
	for _, p := range f.Held() {
		out = append(out, p.Addr())
	}
	return out
}

// Release implements pair.Address.
func (f *floating) Release(ctx context.Context) error {
	f.op.Lock()
	defer f.op.Unlock()
	var errs []error
	f.mu.Lock()
	all := make([]netip.Prefix, 0, len(f.held))
	for p := range f.held {
		all = append(all, p)
	}
	f.mu.Unlock()
	f.hold(f.addrs()...)
	defer f.hold()
	for _, p := range all {
		errs = append(errs, f.drop(ctx, p))
	}
	f.tell()
	return errors.Join(errs...)
}

func (f *floating) drop(ctx context.Context, p netip.Prefix) error {
	f.mu.Lock()
	h := f.held[p]
	f.mu.Unlock()
	if h == nil {
		return nil
	}
	if h.Held() {
		f.cut(p.Addr()) // afterwards nothing of it would reach the client
	}
	if err := h.Release(ctx); err != nil {
		return err
	}
	f.cut(p.Addr()) // what was on its way to the service when the others were cut
	f.mu.Lock()
	delete(f.held, p)
	f.mu.Unlock()
	return nil
}

// Held implements pair.Address.
func (f *floating) Held() []netip.Prefix {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []netip.Prefix
	for p, h := range f.held {
		if h.Held() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}

// tell has the services follow the addresses.
func (f *floating) tell() {
	f.moved(f.addrs())
}

// LastWord implements pair.Address.
func (f *floating) LastWord(word []byte, addrs []string) {
	raw, err := json.Marshal(lastWord{Word: word, Addrs: addrs})
	if err != nil {
		return
	}
	f.mu.Lock()
	f.word = raw
	guards := make([]*vip.Guard, 0, len(f.guards))
	for _, g := range f.guards {
		guards = append(guards, g)
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, g := range guards {
		if err := g.Farewell(ctx, raw); err != nil {
			f.log.Warn("guard", "err", err)
		}
	}
}

// Close ends the guards; what they hold goes with them.
func (f *floating) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, g := range f.guards {
		errs = append(errs, g.Close())
	}
	clear(f.guards)
	return errors.Join(errs...)
}

// prober looks at the network for the gateway rule.
type prober struct{ f *floating }

var _ pair.Prober = prober{}

func (p prober) interfaces() []string {
	var out []string
	for _, v := range p.f.vips() {
		if !slices.Contains(out, v.Interface) {
			out = append(out, v.Interface)
		}
	}
	return out
}

// Carrier implements pair.Prober.
func (p prober) Carrier() bool {
	if p.f.kind == vip.KindLoopback {
		return true
	}
	for _, i := range p.interfaces() {
		if ok, err := vip.Carrier(i); err != nil || !ok {
			return false
		}
	}
	return true
}

// Answers implements pair.Prober. On loopback everybody reaches everybody, and an address is
// held if it can't be had.
func (p prober) Answers(ctx context.Context, a netip.Addr) bool {
	if p.f.kind == vip.KindLoopback {
		for _, v := range p.f.vips() {
			if v.Prefix.Addr() == a {
				return loopbackHeld(ctx, a)
			}
		}
		return a.IsLoopback() && a == loopbackGateway
	}
	for _, i := range p.interfaces() {
		mac, err := p.f.Ask(ctx, i, a)
		if err != nil {
			p.f.log.Warn("guard", "err", err)
		}
		if err == nil && mac != nil {
			return true
		}
	}
	return false
}

var loopbackGateway = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Gateway implements pair.Prober.
func (p prober) Gateway() []netip.Addr {
	if p.f.kind == vip.KindLoopback {
		return []netip.Addr{loopbackGateway}
	}
	var out []netip.Addr
	for _, v := range p.f.vips() {
		if gw, ok, err := vip.DefaultGateway(v.Interface, v.Prefix.Addr().Is6()); err == nil && ok {
			out = append(out, gw)
		}
	}
	return out
}

// loopbackHeld asks the process that holds the address on this machine, if there is one.
func loopbackHeld(ctx context.Context, a netip.Addr) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", vip.LoopbackName(a))
	if err != nil {
		return false
	}
	c.Close()
	return true
}
