package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) haInvite(_ context.Context, c *Call, in *api.HAInviteIn) (api.HAInviteOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAInviteOut{}, err
	}
	if err := s.mayJoin(h); err != nil {
		return api.HAInviteOut{}, err
	}
	ttl := time.Duration(max(in.Minutes, 1)) * time.Minute
	out := api.HAInviteOut{Expires: time.Now().Add(ttl).Format(time.RFC3339), Fingerprint: transport.Fingerprint(h.Link.PublicKey()), Addresses: []string{}, Volumes: []string{}}
	for _, v := range volumes(s.data) {
		out.Volumes = append(out.Volumes, v.String())
	}
	if ifs, err := net.InterfaceAddrs(); err == nil {
		_, port, _ := net.SplitHostPort(h.Link.Addr().String())
		for _, a := range ifs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() && (h.Loopback || !p.Addr().IsLoopback()) {
				out.Addresses = append(out.Addresses, net.JoinHostPort(p.Addr().String(), port))
			}
		}
	}
	if c.DryRun {
		return out, nil
	}
	out.Token, err = h.Link.Invite(ttl)
	return out, err
}

// mayJoin refuses to be a secondary with data of its own.
func (s *Server) mayJoin(h *HA) error {
	switch {
	case h.Book.Facts().State != pair.Single:
		return op.Errorf(op.Refused, "this node is part of a pair already").With("mpctl ha show")
	case s.mail.State.Current().System.SetUp != 0:
		return op.Errorf(op.Refused, "this node is set up; a secondary must be empty, or its mail would be lost (R11.19)").With("mpctl ha create, here, to make this node the primary")
	}
	return nil
}

// joinIn is what the primary tells the new secondary.
type joinIn struct {
	Cluster string       `json:"cluster"`
	Self    pair.Member  `json:"self"` // of the secondary
	Peer    pair.Member  `json:"peer"`
	History pair.History `json:"history"`
	Epoch   uint64       `json:"epoch"`
	Turn    uint64       `json:"turn"`
	// Directory is what the accounts come from; nil: they are local. The new node must be able to log in there.
	Directory *boundDirectory `json:"binding,omitempty"`
}

// boundDirectory is a directory as a node needs it that has no state yet. The way there is encrypted and both ends
// are known; the new node gets the key of all secrets next.
type boundDirectory struct {
	model.LDAP
	CA     string `json:"ca,omitempty"`
	Secret string `json:"secret,omitempty"`
}

func (s *Server) haCreate(ctx context.Context, c *Call, in *api.HACreateIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	peer := s.peerAddr(in.Peer)
	addr, err := s.linkAddr(h, peer, in.Address)
	if err != nil {
		return api.HAShowOut{}, err
	}
	own := s.ownFacts(h, addr.Addr())
	vips, err := parseVIPs(in.VIP, own, h.Loopback)
	if err != nil {
		return api.HAShowOut{}, err
	}
	if err := worst(s.conditions(ctx, h, own, nil, vips, addr)); err != nil {
		return api.HAShowOut{}, err
	}
	if c.DryRun {
		c.Diff(op.FieldDiff{Field: "pair", New: fmt.Sprintf("%s (primary, %s) and the node at %s, address %s", s.node, addr, peer, in.VIP)})
		return s.haView(h), nil
	}
	res, err := h.Link.Pair(ctx, peer, transport.Credential{Token: string(in.Token)})
	if err != nil {
		return api.HAShowOut{}, pairError(err)
	}
	findings := s.conditions(ctx, h, own, &res, vips, addr)
	if err := worst(findings); err != nil {
		return api.HAShowOut{}, err
	}
	if in.PeerStorage != "" {
		var f nodeFacts
		json.Unmarshal(res.Hello.Extra, &f)
		if in.PeerStorage != f.Data.Path && in.PeerStorage != f.Data.Dir {
			return api.HAShowOut{}, op.Errorf(op.Refused, "the secondary keeps its data in %s on %s, not on %s", f.Data.Dir, f.Data.Path, in.PeerStorage).With("start the secondary with --data on that volume")
		}
	}
	self := pair.Member{ID: s.node, Number: 0, Addrs: []string{addr.String()}, Key: h.Link.PublicKey()}
	other := pair.Member{ID: res.ID, Number: 1, Addrs: []string{peer}, Key: res.Key}
	if host, port, err := net.SplitHostPort(peer); err == nil && netip.MustParseAddrPort("127.0.0.1:1").IsValid() {
		if _, err := netip.ParseAddr(host); err != nil && res.Remote.IsValid() { // a name was given: keep the address
			other.Addrs = []string{net.JoinHostPort(res.Remote.Addr().Unmap().String(), port)}
		}
	}
	if err := s.makePair(ctx, c, h, self, other, vips, in); err != nil {
		return api.HAShowOut{}, err
	}
	return s.haView(h), nil
}

// makePair stores the facts, makes this node the primary and has the other join. If that fails all is
// undone: this node is single again.
func (s *Server) makePair(ctx context.Context, c *Call, h *HA, self, other pair.Member, vips []model.VIP, in *api.HACreateIn) error {
	p := &model.Pair{
		Cluster: fmt.Sprintf("%s-%x", s.node, time.Now().UnixNano()), VIPs: vips, LeaseMS: model.DefaultLeaseMS,
		Arbiter: model.Arbiter{Mode: model.ArbiterMode(in.Arbiter), Targets: in.Targets}, Sharing: model.Sharing{Mode: model.SharingBalanced},
		Nodes: []model.PairNode{
			{ID: self.ID, Number: 0, Addrs: self.Addrs, Key: self.Key, Role: model.RolePrimary},
			{ID: other.ID, Number: 1, Addrs: other.Addrs, Key: other.Key, Role: model.RoleSecondary},
		},
	}
	if in.Arbiter == "" {
		p.Arbiter.Mode = model.ArbiterGateway
	}
	if err := s.change(ctx, c, func(tx *state.Tx) error { return state.StorePair(tx, p) }); err != nil {
		return err
	}
	undo := func(why error) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		_, err := s.dissolve(ctx, h, true)
		return errors.Join(why, err)
	}
	if err := h.Controller.Create(p.Cluster, self, other); err != nil {
		return undo(haError(err))
	}
	if err := s.askToJoin(ctx, h); err != nil {
		return undo(haError(err))
	}
	return h.Controller.Made()
}

// askToJoin has the other node join the pair that this node's facts describe. Said again it changes nothing.
func (s *Server) askToJoin(ctx context.Context, h *HA) error {
	f := h.Book.Facts()
	directory, err := s.boundDirectory(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(joinIn{Cluster: f.Cluster, Self: f.Peer, Peer: f.Self, History: f.History, Epoch: f.Epoch, Turn: f.Turn, Directory: directory})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	_, err = h.Link.Call(ctx, f.Peer.ID, "ha.join", raw)
	return err
}

// boundDirectory is the directory that accounts come from; nil when they are local.
func (s *Server) boundDirectory(ctx context.Context) (*boundDirectory, error) {
	source := s.mail.State.Current().System.Source
	if source == model.SourceLocal {
		return nil, nil
	}
	l, err := binding(s.mail.State, source)
	if err != nil {
		return nil, err
	}
	secret, err := s.mail.Vault.Unseal(mail.DirectorySecret, l.Password)
	if err != nil {
		return nil, err
	}
	out := &boundDirectory{LDAP: *l, CA: l.CA, Secret: secret}
	if len(out.URIs) == 0 { // which the other node perhaps asks other DNS servers for, until it has joined
		ctx, cancel := context.WithTimeout(ctx, directoryTime)
		defer cancel()
		out.URIs, err = s.mail.DirectoryClient(l, secret).Servers(ctx)
		out.URIs = out.URIs[:min(len(out.URIs), model.MaxLDAPURIs)]
	}
	return out, err
}

// joinTime is how long the other node has to say that it has joined.
const joinTime = 15 * time.Second

// resumeCreate ends a creation that was broken off by the end of this process: the other node
// is asked once more, and if it does not join all is undone. If it had joined it learns from
// its first hello that it is not in the pair any more, and is empty again.
func (s *Server) resumeCreate(h *HA) {
	ctx, cancel := context.WithTimeout(s.life, joinTime)
	defer cancel()
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for h.Book.Facts().Making {
		err := s.askToJoin(ctx, h)
		if err == nil {
			if err = h.Controller.Made(); err == nil {
				s.log.Info("the pair that was being made is made")
				return
			}
		}
		if s.life.Err() != nil {
			return
		}
		if errors.As(err, new(*transport.RemoteError)) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	for h.Book.Facts().Making && s.life.Err() == nil {
		uctx, cancel := context.WithTimeout(s.life, joinTime)
		_, err := s.dissolve(uctx, h, true)
		cancel()
		if err == nil {
			s.log.Warn("the other node did not join; the pair that was being made is undone", "remedy", "mpctl ha create")
			return
		}
		s.log.Info("the pair that was being made can't be undone yet", "err", err)
		select {
		case <-s.life.Done():
		case <-t.C:
		}
	}
}

func pairError(err error) error {
	switch {
	case errors.Is(err, transport.ErrToken), errors.Is(err, transport.ErrKey): // a wrong key is unreachable, too
		return op.Errorf(op.Forbidden, "%v", err).With("mpctl ha invite, on the other node")
	case strings.Contains(err.Error(), "wrong, expired or used"):
		return op.Errorf(op.Refused, "%v", err).With("mpctl ha invite, on the other node, makes another one")
	case strings.Contains(err.Error(), "pairing is not open"): // there is no token that is still good, and no login
		return op.Errorf(op.Forbidden, "%v: the token has expired or was used", err).With("mpctl ha invite, on the other node; a witness prints a new token when it starts")
	case errors.Is(err, transport.ErrUnreachable):
		return op.Errorf(op.Unreachable, "the other node's link can't be reached: %v", err).With("start mailplusd there, and open port 2826 (TCP and UDP) between the nodes")
	}
	return op.Errorf(op.Refused, "%v", err).With("mpctl ha precheck")
}

// servePairing answers what a future primary asks of this node.
func (s *Server) servePairing(h *HA) {
	var inviter transport.PairResult
	h.Link.AcceptPairing(transport.Pairing{
		Hello: func() transport.Hello {
			extra, _ := json.Marshal(s.ownFacts(h, s.ownLinkAddr(h)))
			return transport.Hello{Cluster: h.Book.Facts().Cluster, Node: s.node, Number: -1, Version: model.Version, Extra: extra}
		},
		Check: func(_ context.Context, r transport.PairResult) error {
			if r.ID == s.node {
				return fmt.Errorf("both nodes are called %q; start one with another --name", r.ID)
			}
			return nil
		},
		Paired: func(_ context.Context, r transport.PairResult) error {
			if err := s.mayJoin(h); err != nil {
				return err
			}
			inviter = r
			return h.Link.SetPeers(transport.Peer{ID: r.ID, Key: r.Key})
		},
	})
	h.Link.Handle("ha.join", func(ctx context.Context, node string, req []byte) ([]byte, error) {
		var in joinIn
		if err := json.Unmarshal(req, &in); err != nil {
			return nil, err
		}
		f := h.Book.Facts()
		switch {
		case f.Cluster == in.Cluster && f.Peer.ID == node && f.State != pair.Single:
			return nil, nil // said again
		case node != inviter.ID || in.Peer.ID != node || string(in.Peer.Key) != string(inviter.Key):
			return nil, errors.New("this node was not paired with " + node)
		case in.Self.ID != s.node || string(in.Self.Key) != string(h.Link.PublicKey()):
			return nil, errors.New("another node is meant")
		}
		if err := s.mayJoin(h); err != nil {
			return nil, err
		}
		if err := logsIn(ctx, in.Directory); err != nil {
			return nil, err
		}
		return nil, h.Controller.Join(in.Cluster, in.Self, in.Peer, in.History, in.Epoch, in.Turn)
	})
	h.Link.Handle("ha.digest", func(ctx context.Context, node string, _ []byte) ([]byte, error) {
		if node != h.Book.Facts().Peer.ID {
			return nil, errors.New("no node of this pair")
		}
		d, err := s.mail.State.Digest(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(d)
	})
}
