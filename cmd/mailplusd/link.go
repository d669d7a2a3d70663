package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"mailplusd/cluster"
	"mailplusd/cluster/lease"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"

	"github.com/hashicorp/raft"
)

// openLink opens the port on which nodes talk to each other, and reads what this node knows
// about its peer. It comes before the state: what is known decides how the log is opened.
func (n *node) openLink(context.Context) (err error) {
	if n.book, err = pair.OpenBook(n.cfg.Data); err != nil {
		return err
	}
	if f := n.book.Facts(); f.Aside != "" {
		if err := n.putAside(f); err != nil {
			return err
		}
		if err := n.book.Update(func(f *pair.Facts) error { f.Aside = ""; return nil }); err != nil {
			return err
		}
		n.log.Info("the log was put aside, this node starts anew from the other one", "name", f.Aside)
	}
	if n.cfg.Link == "" || n.cfg.Link == "none" {
		if n.book.Facts().State != pair.Single {
			return errors.New("this node is part of a pair and needs its link: set --link to the address on which the other node knows it")
		}
		return nil
	}
	identity, err := transport.LoadIdentity(n.cfg.Data)
	if err != nil {
		return err
	}
	n.link, err = transport.Open(transport.Options{ID: n.cfg.Name, Identity: identity, Listen: n.cfg.Link, Logger: n.log})
	if err != nil {
		return err
	}
	n.later(func() { n.done("node link", n.link.Close()) })
	n.identity = identity
	return n.openWords()
}

// putAside keeps what does not belong to this node's history any more: the log, or after a
// removal from the pair all mail.
func (n *node) putAside(f pair.Facts) error {
	if f.State != pair.Single {
		return cluster.MoveAside(n.path("raft"), f.Aside)
	}
	dir := n.path(f.Aside)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, part := range []string{"raft", "state", "bodies"} {
		err := os.Rename(n.path(part), filepath.Join(dir, part))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// openWords takes in what guards of dead processes say: signed datagrams at the link's port.
func (n *node) openWords() error {
	addr, ok := n.link.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: addr.IP, Port: addr.Port, Zone: addr.Zone})
	if err != nil {
		return fmt.Errorf("node link: %w", err)
	}
	n.later(func() { c.Close() })
	go func() {
		buf := make([]byte, 1024)
		for {
			k, _, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			if p := n.pair.Load(); p != nil {
				if err := p.Farewell(buf[:k]); err != nil {
					n.log.Debug("word of a guard", "err", err)
				}
			}
		}
	}()
	return nil
}

// pairLink shows the transport to the controller.
type pairLink struct{ *transport.Transport }

func (l pairLink) Handle(method string, h func(context.Context, string, []byte) ([]byte, error)) {
	l.Transport.Handle(method, h)
}

func (l pairLink) SetMembers(members ...pair.Member) error {
	peers := make([]transport.Peer, len(members))
	for i, m := range members {
		peers[i] = transport.Peer{ID: m.ID, Addrs: m.Addrs, Key: m.Key}
	}
	return l.SetPeers(peers...)
}

func (l pairLink) DialLease(ctx context.Context, node string) (net.Conn, error) {
	return l.Dial(ctx, node, transport.Lease)
}

func (l pairLink) ListenLease() net.Listener { return l.Listen(transport.Lease) }

func init() {
	transport.RegisterError("pair.refused", pair.ErrRefused)
	transport.RegisterError("pair.removed", pair.ErrRemoved)
	transport.RegisterError("pair.unreported", pair.ErrUnreported)
}

// leaseSettings are the times of the lease by name.
func leaseSettings(name string) (lease.Settings, error) {
	switch strings.ToLower(name) {
	case "", "default":
		return lease.Default(), nil
	case "short":
		return lease.Short(), nil
	}
	return lease.Settings{}, fmt.Errorf("lease %q is unknown; use default or short", name)
}

// peerOnly hands out connections of the other node: a witness is pinned, too, and has no
// business here.
type peerOnly struct {
	net.Listener
	book *pair.Book
}

func (l peerOnly) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if n, ok := c.(interface{ Node() string }); ok && n.Node() == l.book.Facts().Peer.ID {
			return c, nil
		}
		c.Close()
	}
}

// peerStream is the raft connections with the other node.
type peerStream struct {
	raft.StreamLayer
	only peerOnly
}

func (s peerStream) Accept() (net.Conn, error) { return s.only.Accept() }

// fromPeer answers calls of the other node only.
func (n *node) fromPeer(h transport.Handler) transport.Handler {
	return func(ctx context.Context, from string, req []byte) ([]byte, error) {
		if from != n.book.Facts().Peer.ID {
			return nil, fmt.Errorf("%s is no node of this pair", from)
		}
		return h(ctx, from, req)
	}
}
