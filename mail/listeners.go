package mail

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"sync"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// Listening is the state of one listener.
type Listening struct {
	Name    string // smtp, smtps, submission, imap, imaps, pop3, pop3s
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
	Log  *slog.Logger

	mu   sync.Mutex
	open map[string]*endpoint
	errs map[string]string
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
	if ls.open == nil {
		ls.open = map[string]*endpoint{}
	}
	ls.errs = map[string]string{}
	want := map[string]int{}
	if set.System.SetUp != 0 {
		want = set.Services.Ports()
	}
	host, err := bindAddress(ls.Bind, set.System.Interface)
	if err != nil {
		for name := range want {
			ls.errs[name] = err.Error()
		}
		ls.Log.Error("listeners", "err", err)
		return
	}
	for name, e := range ls.open {
		if _, keep := want[name]; !keep {
			ls.close(name, e)
		}
	}
	for name, port := range want {
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		if err := ls.ensure(name, addr); err != nil {
			ls.errs[name] = err.Error()
			ls.Log.Error("can't listen", "listener", name, "address", addr, "err", err)
		}
	}
}

func (ls *Listeners) ensure(name, addr string) error {
	cfg := ls.Make(name)
	e := ls.open[name]
	if e != nil && e.tls != (cfg.TLS != nil) { // fixed for the life of a listener
		ls.close(name, e)
		e = nil
	}
	if e == nil {
		l, err := wire.Listen("tcp", addr, cfg)
		if err != nil {
			return err
		}
		ls.open[name] = &endpoint{l: l, stop: ls.Open(name, l), addr: addr, tls: cfg.TLS != nil}
		ls.Log.Info("listening", "listener", name, "address", l.Addr().String())
		return nil
	}
	e.l.SetLimits(cfg.Limits)
	if e.addr == addr {
		return nil
	}
	if err := e.l.Rebind(addr); err != nil {
		return err
	}
	ls.Log.Info("listener moved", "listener", name, "from", e.addr, "to", addr)
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
