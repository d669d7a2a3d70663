package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// Listening is the state of one listener.
type Listening struct {
	Name    string // smtp, smtps, submission, imap, imaps, pop3, pop3s, autoconfig, autoconfig-http
	Address string
	Conns   int
	Err     string // why it isn't listening, though it should
}

// endpoint is a listener that runs, and how to stop what it serves.
type endpoint struct {
	l    *wire.Listener
	stop func()
	addr string
	tls  bool // STARTTLS or implicit TLS is offered
}

// Listeners keeps the open ports as the settings say. Sessions go on when a port moves.
type Listeners struct {
	Open func(name string, l *wire.Listener) (stop func()) // serves a new listener
	Make func(name string) wire.Config                     // how its connections are handled
	Bind string                                            // fixed address of all; empty: as the settings say
	More func() map[string]int                             // further listeners, where no other has the port; nil: none
	Log  *slog.Logger

	mu       sync.Mutex
	open     map[string]*endpoint // by name, or by name@address for a floating address
	errs     map[string]string
	floating []netip.Addr
	paused   bool
	down     bool // for good
}

// Float names the floating addresses that this node holds. Where listeners have an address
// of their own they also listen there; connections to an address that has gone are ended.
func (ls *Listeners) Float(addrs []netip.Addr, set *model.Settings) {
	ls.mu.Lock()
	gone := slices.DeleteFunc(slices.Clone(ls.floating), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	same := len(gone) == 0 && len(addrs) == len(ls.floating)
	ls.floating = slices.Clone(addrs)
	for _, e := range ls.open {
		for _, a := range gone {
			e.l.Drop(a)
		}
	}
	ls.mu.Unlock()
	if !same {
		ls.Apply(set)
	}
}

// Leave ends the sessions at an address that is about to go to another machine: those that there
// are, between two commands, until ctx ends.
func (ls *Listeners) Leave(ctx context.Context, a netip.Addr) {
	var wg sync.WaitGroup
	for _, l := range ls.running() {
		wg.Go(func() { l.Leave(ctx, a) })
	}
	wg.Wait()
}

// Sockets gives what the listeners listen on.
func (ls *Listeners) Sockets() (out []syscall.RawConn) {
	for _, l := range ls.running() {
		if raw := l.Socket(); raw != nil {
			out = append(out, raw)
		}
	}
	return out
}

// Cut ends the sessions at an address at once, while their clients can still hear of it.
func (ls *Listeners) Cut(a netip.Addr) {
	for _, l := range ls.running() {
		l.Cut(a)
	}
}

func (ls *Listeners) running() (out []*wire.Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, e := range ls.open {
		out = append(out, e.l)
	}
	return out
}

// Pause refuses new connections with a temporary answer, or takes them again.
func (ls *Listeners) Pause(on bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.paused = on
	for _, e := range ls.open {
		e.l.Pause(on)
	}
}

// Taker gives what puts a session that the other node accepted into the listener of a name.
// ok is false when it isn't open; a nil function says that it takes none now.
func (ls *Listeners) Taker(name string) (take func(net.Conn) error, ok bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for key, e := range ls.open {
		if base, _, _ := strings.Cut(key, "@"); base != name {
			continue
		}
		if ok = true; e.l.Accepting() {
			return e.l.Inject, true
		}
	}
	return nil, ok
}

// Addresses gives the addresses to listen on for an interface setting: "" for all.
func bindAddress(bind, iface string) (string, error) {
	if bind != "" {
		return bind, nil
	}
	if iface == "" || iface == "all" {
		return "", nil
	}
	if _, err := netip.ParseAddr(iface); err == nil {
		return iface, nil
	}
	i, err := FindInterface(iface)
	if err != nil {
		return "", err
	}
	for _, a := range i.Addresses {
		if a.Addr().Is4() {
			return a.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("interface %s has no IPv4 address", iface)
}

// Apply opens, moves and closes listeners until they are as the settings say. What can't
// be opened is logged, shown by State and tried again at the next Apply.
func (ls *Listeners) Apply(set *model.Settings) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.down {
		return
	}
	if ls.open == nil {
		ls.open = map[string]*endpoint{}
	}
	ls.errs = map[string]string{}
	want := map[string]int{}
	if set.System.SetUp != 0 {
		want = ls.wanted(set)
	}
	host, err := bindAddress(ls.Bind, set.System.Interface)
	if err != nil {
		for name := range want {
			ls.errs[name] = err.Error()
		}
		ls.Log.Error("listeners", "err", err)
		return
	}
	addrs := map[string]string{}
	for name, port := range want {
		addrs[name] = net.JoinHostPort(host, strconv.Itoa(port))
		if host == "" {
			continue // all addresses, those to come too
		}
		for _, a := range ls.floating {
			if a.String() != host {
				addrs[name+"@"+a.String()] = net.JoinHostPort(a.String(), strconv.Itoa(port))
			}
		}
	}
	for key, e := range ls.open {
		if _, keep := addrs[key]; !keep {
			ls.close(key, e)
		}
	}
	for key, addr := range addrs {
		if err := ls.ensure(key, addr); err != nil {
			ls.errs[key] = err.Error()
			ls.Log.Error("can't listen", "listener", key, "address", addr, "err", err)
		}
	}
}

func (ls *Listeners) wanted(set *model.Settings) map[string]int {
	want := set.Services.Ports()
	if ls.More == nil {
		return want
	}
	taken := slices.Collect(maps.Values(want))
	for name, port := range ls.More() {
		if !slices.Contains(taken, port) {
			want[name] = port
		}
	}
	return want
}

// ensure opens or moves the listener of a key: its name, before an "@".
func (ls *Listeners) ensure(key, addr string) error {
	name, _, _ := strings.Cut(key, "@")
	cfg := ls.Make(name)
	e := ls.open[key]
	if e != nil && e.tls != (cfg.TLS != nil) { // fixed for the life of a listener
		ls.close(key, e)
		e = nil
	}
	if e == nil {
		l, err := wire.Listen("tcp", addr, cfg)
		if err != nil {
			return err
		}
		l.Pause(ls.paused)
		ls.open[key] = &endpoint{l: l, stop: ls.Open(name, l), addr: addr, tls: cfg.TLS != nil}
		ls.Log.Info("listening", "listener", key, "address", l.Addr().String())
		return nil
	}
	e.l.SetLimits(cfg.Limits)
	if e.addr == addr {
		return nil
	}
	if err := e.l.Rebind(addr); err != nil {
		return err
	}
	ls.Log.Info("listener moved", "listener", key, "from", e.addr, "to", addr)
	e.addr = addr
	return nil
}

func (ls *Listeners) close(name string, e *endpoint) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.l.Shutdown(ctx); err != nil {
		e.l.Close()
	}
	e.stop()
	delete(ls.open, name)
	ls.Log.Info("listener closed", "listener", name)
}

// State lists the listeners by name, those too that should be open and are not.
func (ls *Listeners) State() []Listening {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []Listening
	for name, e := range ls.open {
		out = append(out, Listening{Name: name, Address: e.l.Addr().String(), Conns: e.l.Len(), Err: ls.errs[name]})
	}
	for name, err := range ls.errs {
		if ls.open[name] == nil {
			out = append(out, Listening{Name: name, Err: err})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Probe tells whether a change of settings could be carried out on this node: every port
// that is not open already must be free (R6.18).
func (ls *Listeners) Probe(set *model.Settings) error {
	host, err := bindAddress(ls.Bind, set.System.Interface)
	if err != nil {
		return model.Invalid("interface", "%v", err)
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ours := map[string]bool{}
	for _, e := range ls.open {
		ours[e.addr] = true
	}
	for name, port := range set.Services.Ports() {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		if ours[addr] {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return model.Invalid("port", "%s can't listen on %s: another program does; sudo ss -ltnp 'sport = :%d' names it", name, addr, port)
		}
		if err != nil {
			return model.Invalid("port", "%s can't listen on %s: %v", name, addr, err)
		}
		l.Close()
	}
	return nil
}

// Shutdown closes every listener and says goodbye to each client between two commands.
// It returns when all are gone or the context ends.
func (ls *Listeners) Shutdown(ctx context.Context) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.down = true
	var wg sync.WaitGroup
	for _, e := range ls.open {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := e.l.Shutdown(ctx); err != nil {
				e.l.Close()
			}
			e.stop()
		}()
	}
	wg.Wait()
	clear(ls.open)
}
