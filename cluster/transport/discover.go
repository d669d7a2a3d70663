package transport

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults of Discovery. The groups reach one link only and are not assigned to anybody.
const (
	DiscoveryPort  = 7483
	discoveryTime  = 2 * time.Second
	maxDatagram    = 1200
	maxFound       = 64
	onLink         = 255 // hop limit that no router has passed on
	discoveryMagic = "mailplusd/1"
)

var (
	discovery4 = netip.MustParseAddr("224.0.0.199")
	discovery6 = netip.MustParseAddr("ff12::6d70:6473") // transient, link-local scope
)

// Discovery finds nodes in the same LAN and lets them be found. The zero value is ready.
type Discovery struct {
	Interfaces []string // names; nil: all that are up and do multicast, loopback excepted
	Port       int      // UDP; 0: DiscoveryPort
	Logger     *slog.Logger
}

// Announcement is what a node tells everybody in its LAN.
type Announcement struct {
	Node        string   `json:"node"`
	Port        int      `json:"port"`            // TCP, of its link
	Addrs       []string `json:"addrs,omitempty"` // host:port it wants to be reached at, 8 at most; empty: see Found.Addr
	Version     string   `json:"version,omitempty"`
	Initialised bool     `json:"initialised"` // in use already: it can't become somebody's secondary
	Cluster     string   `json:"cluster,omitempty"`
	Fingerprint string   `json:"fingerprint,omitempty"` // of its key; to be compared, never to be believed
}

// Found is a node that answered. Nothing of it is proved.
type Found struct {
	Announcement
	Addr      netip.AddrPort // where the answer came from, with Port; link-local for IPv6
	Interface string         // through which it was found
}

// datagram is a question (no announcement) or an answer.
type datagram struct {
	Magic string        `json:"mp"`
	Nonce string        `json:"nonce"` // of the question; 16 hexadecimal digits
	Node  *Announcement `json:"node,omitempty"`
}

func parseDatagram(b []byte) (datagram, error) {
	var d datagram
	if len(b) > maxDatagram {
		return d, errors.New("transport: datagram too long")
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return datagram{}, fmt.Errorf("transport: datagram: %w", err)
	}
	if n, err := hex.DecodeString(d.Nonce); d.Magic != discoveryMagic || err != nil || len(n) != 8 {
		return datagram{}, errors.New("transport: not a datagram of ours")
	}
	if a := d.Node; a != nil {
		if !validName(a.Node) || a.Port < 1 || a.Port > 65535 || !printable(a.Version, 64) || !printable(a.Cluster, 128) || !printable(a.Fingerprint, 64) {
			return datagram{}, errors.New("transport: announcement not valid")
		}
		for i, addr := range a.Addrs {
			if _, err := netip.ParseAddrPort(addr); err != nil || i >= 8 || !printable(addr, 64) {
				return datagram{}, errors.New("transport: announcement not valid")
			}
		}
	}
	return d, nil
}

// Discover asks the LAN for nodes through the given interfaces (nil: all), until ctx ends,
// 2 s at most. Nodes are sorted by name and address.
func Discover(ctx context.Context, interfaces []string) ([]Found, error) {
	return Discovery{Interfaces: interfaces}.Find(ctx)
}

// Find is Discover with the settings of d. A node with several addresses is found once for
// each. This node is found too if it answers.
func (d Discovery) Find(ctx context.Context) ([]Found, error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTime)
	defer cancel()
	ifs, err := d.interfaces()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("transport: discover: %w", err)
	}
	nonce := hex.EncodeToString(b)
	question, err := json.Marshal(datagram{Magic: discoveryMagic, Nonce: nonce})
	if err != nil {
		return nil, fmt.Errorf("transport: discover: %w", err)
	}
	var socks []*socket
	var errs []error
	for _, open := range []func(int) (*socket, error){openSocket4, openSocket6} {
		s, err := open(0)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		socks = append(socks, s)
	}
	if len(socks) == 0 {
		return nil, fmt.Errorf("transport: discover: %w", errors.Join(errs...))
	}
	found := findings{nonce: nonce, names: map[int]string{}, seen: map[string]Found{}}
	for _, i := range ifs {
		found.names[i.Index] = i.Name
	}
	var wg sync.WaitGroup
	for _, s := range socks {
		wg.Go(func() { found.collect(s) })
	}
	sent := d.ask(ctx, socks, ifs, question)
	<-ctx.Done()
	for _, s := range socks {
		s.conn.Close()
	}
	wg.Wait()
	if sent == 0 {
		return nil, errors.New("transport: discover: no interface takes multicast")
	}
	return found.list(), nil
}

// ask sends the question three times: multicast gets lost.
func (d Discovery) ask(ctx context.Context, socks []*socket, ifs []net.Interface, question []byte) (sent int) {
	for _, pause := range []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond} {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return sent
		}
		for _, s := range socks {
			for _, i := range ifs {
				if s.multicast(question, i, d.port()) == nil {
					sent++
				}
			}
		}
	}
	return sent
}

func (d Discovery) port() int { return cmp.Or(d.Port, DiscoveryPort) }

// interfaces gives those to be used now.
func (d Discovery) interfaces() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("transport: discover: %w", err)
	}
	var out []net.Interface
	for _, i := range all {
		if d.Interfaces == nil && i.Flags&net.FlagUp != 0 && i.Flags&net.FlagMulticast != 0 && i.Flags&net.FlagLoopback == 0 || slices.Contains(d.Interfaces, i.Name) {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("transport: discover: no such interface: %s", strings.Join(d.Interfaces, ", "))
	}
	return out, nil
}

// findings are the answers to one question.
type findings struct {
	nonce string
	names map[int]string // of interfaces
	mu    sync.Mutex
	seen  map[string]Found
}

func (f *findings) collect(s *socket) {
	buf := make([]byte, maxDatagram+1)
	for {
		in, err := s.read(buf)
		if err != nil {
			return // closed
		}
		d, err := parseDatagram(buf[:in.n])
		if err != nil || d.Node == nil || d.Nonce != f.nonce || in.hops != onLink {
			continue
		}
		n := Found{*d.Node, netip.AddrPortFrom(in.from.Addr().Unmap(), uint16(d.Node.Port)), f.names[in.ifindex]}
		f.mu.Lock()
		if key := n.Node + " " + n.Addr.String(); len(f.seen) < maxFound {
			f.seen[key] = n
		}
		f.mu.Unlock()
	}
}

func (f *findings) list() []Found {
	out := []Found{}
	for _, n := range f.seen {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Found) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), a.Addr.Compare(b.Addr))
	})
	return out
}
