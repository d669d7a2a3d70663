package transport

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// preferFor is how long the address that worked last is tried first.
const preferFor = time.Minute

// peer is a pinned node. Its fields are guarded by Transport.mu, except for those that never change.
type peer struct {
	id    string
	key   ed25519.PublicKey
	addrs []string
	gone  bool // no longer pinned

	conns     map[*Conn]struct{}
	open      map[Proto]int
	worked    string // address of the last successful dial
	workedAt  time.Duration
	heard     atomic.Int64 // sinceStart of the last octet; 0: never
	heardFrom netip.Addr   // last address it was connected with

	caller *caller
}

// order gives the addresses as they are to be tried.
func (p *peer) order(now time.Duration) []string {
	addrs := slices.Clone(p.addrs)
	if i := slices.Index(addrs, p.worked); i > 0 && now-p.workedAt < preferFor {
		addrs = slices.Insert(slices.Delete(addrs, i, i+1), 0, p.worked)
	}
	return addrs
}

// SetPeers replaces the set of pinned nodes. Connections of keys that are no longer in it
// are cut at once, those of nodes that stay go on. After an error the old set stands.
func (t *Transport) SetPeers(peers ...Peer) error {
	if err := t.checkPeers(peers); err != nil {
		return err
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	old := t.peers
	t.peers, t.byKey = map[string]*peer{}, map[string]*peer{}
	for _, p := range peers {
		q := old[p.ID]
		if q != nil && bytes.Equal(q.key, p.Key) {
			delete(old, p.ID)
		} else {
			q = &peer{id: p.ID, key: bytes.Clone(p.Key), conns: map[*Conn]struct{}{}, open: map[Proto]int{}}
			q.caller = newCaller(t, q)
		}
		q.addrs = slices.Clone(p.Addrs)
		t.peers[q.id], t.byKey[string(q.key)] = q, q
	}
	var cut []*Conn
	for _, p := range old {
		p.gone = true
		for c := range p.conns {
			cut = append(cut, c)
		}
	}
	t.knownHosts()
	t.mu.Unlock()
	for _, c := range cut {
		c.kill()
	}
	return nil
}

func (t *Transport) checkPeers(peers []Peer) error {
	ids, keys := map[string]bool{t.opts.ID: true}, map[string]bool{string(t.opts.Identity.PublicKey()): true}
	for _, p := range peers {
		switch {
		case !validName(p.ID):
			return fmt.Errorf("transport: peer ID %q is not valid", p.ID)
		case len(p.Key) != ed25519.PublicKeySize:
			return fmt.Errorf("transport: the key of peer %s has %d octets, not %d", p.ID, len(p.Key), ed25519.PublicKeySize)
		case ids[p.ID] || keys[string(p.Key)]:
			return fmt.Errorf("transport: peer %s has the ID or the key of another node", p.ID)
		}
		for _, a := range p.Addrs {
			if _, _, err := net.SplitHostPort(a); err != nil {
				return fmt.Errorf("transport: peer %s: address %q: %w", p.ID, a, err)
			}
		}
		ids[p.ID], keys[string(p.Key)] = true, true
	}
	return nil
}

// knownHosts computes which addresses have handshake places of their own.
func (t *Transport) knownHosts() {
	hosts := map[netip.Addr]bool{}
	for _, p := range t.peers {
		for _, a := range p.addrs {
			host, _, _ := net.SplitHostPort(a)
			host, _, _ = strings.Cut(host, "%")
			if ip, err := netip.ParseAddr(host); err == nil {
				hosts[ip.Unmap()] = true
			}
		}
		if p.heardFrom.IsValid() {
			hosts[p.heardFrom] = true
		}
	}
	t.gate.setKnown(hosts)
}

func (t *Transport) peerByKey(key ed25519.PublicKey) *peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[string(key)]
}

// PeerStatus tells how a peer is connected.
type PeerStatus struct {
	ID    string
	Conns int       // open connections, of all protocols and both directions
	Heard time.Time // when anything was last received from it; zero: never since Open or SetPeers
	Addr  string    // where it was last dialled with success; empty: not yet
}

// Peers gives the state of all pinned nodes, by ID.
func (t *Transport) Peers() []PeerStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []PeerStatus
	for _, p := range t.peers {
		s := PeerStatus{ID: p.id, Conns: len(p.conns), Addr: p.worked}
		if h := p.heard.Load(); h > 0 {
			s.Heard = started.Add(time.Duration(h))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Disconnect cuts all connections with a node, for one who knows better than TCP that it
// is dead. New ones can be made at once. It returns how many were cut.
func (t *Transport) Disconnect(node string) int {
	t.mu.Lock()
	var cut []*Conn
	if p := t.peers[node]; p != nil {
		for c := range p.conns {
			cut = append(cut, c)
		}
	}
	t.mu.Unlock()
	for _, c := range cut {
		c.kill()
	}
	return len(cut)
}

// admit counts c among its peer's connections, if it still may be.
func (t *Transport) admit(c *Conn) (status, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return 0, ErrClosed
	case c.peer.gone:
		return 0, ErrUnknownPeer
	case c.peer.open[c.proto] >= protocols[c.proto].conns:
		return tooMany, errors.New("transport: " + tooMany.String())
	}
	c.peer.conns[c] = struct{}{}
	c.peer.open[c.proto]++
	if a, ok := c.link.RemoteAddr().(*net.TCPAddr); ok {
		if ip := a.AddrPort().Addr().Unmap().WithZone(""); ip != c.peer.heardFrom {
			c.peer.heardFrom = ip
			t.knownHosts()
		}
	}
	c.link.heard.Store(&c.peer.heard)
	c.peer.heard.Store(int64(sinceStart()))
	return welcome, nil
}
