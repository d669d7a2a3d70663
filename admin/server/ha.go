package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/cluster/vip"
	"mailplusd/cluster/witness"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// HA is what the admin plane needs of the pair on this node.
type HA struct {
	Controller *pair.Controller
	Link       *transport.Transport
	Book       *pair.Book
	Loopback   bool // floating addresses are of 127.0.0.0/8, to try a pair on one machine
	Formats    string
}

var errNoLink = op.Errorf(op.Refused, "this node has no link to other nodes (it was started with --link none)").With("set link: ':2826' in /etc/mailplusd/mailplusd.yaml and restart the node")

func (s *Server) pairing() (*HA, error) {
	if s.ha == nil {
		return nil, errNoLink
	}
	return s.ha, nil
}

// haError makes a refusal of the controller one with a remedy.
func haError(err error) error {
	var r *pair.Refusal
	var re *transport.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return op.Errorf(op.Refused, "%s", r.Why).With(r.Remedy)
	case errors.As(err, &re):
		return op.Errorf(op.Refused, "the other node says: %s", re.Text).With("mpctl ha show")
	case errors.Is(err, transport.ErrUnreachable):
		return op.Errorf(op.Unreachable, "the other node can't be reached: %v", err).With("mpctl ha show")
	}
	return err
}

func (s *Server) haShow(context.Context, *Call, *op.None) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{Node: s.node, State: "single", CanFail: []string{}, CantFail: []string{}, Addresses: []string{}, Nodes: []api.HANode{}, History: []string{}, Copies: 1}, nil
	}
	return s.haView(h), nil
}

func (s *Server) haView(h *HA) api.HAShowOut {
	st := h.Controller.Status()
	f := st.Facts
	cs := s.cluster.Status()
	out := api.HAShowOut{
		Node: s.node, State: st.Capacity, For: st.For.Round(time.Second).String(), Cluster: f.Cluster, Epoch: f.Epoch, Turn: f.Turn,
		Addresses: []string{}, Nodes: []api.HANode{}, History: []string{}, CanFail: st.CanFail, CantFail: st.CantFail, Alarm: st.Alarm, Advice: st.Advice,
		Copies: 1, ArbiterOK: st.Arbiter == "", ArbiterNo: st.Arbiter,
	}
	if f.State == pair.Paired && st.PeerFresh {
		out.Copies = 2
	}
	if p, err := s.mail.State.Pair(); err == nil {
		for _, v := range p.VIPs {
			out.Addresses = append(out.Addresses, v.Prefix.String())
		}
		out.Arbiter, out.Sharing = string(p.Arbiter.Mode), string(p.Sharing.Mode)
	}
	if owner, ro := s.mail.State.Regime().ReadOnly(); ro {
		out.ReadOnly = fmt.Sprintf("settings can't be changed until %s is repaired or removed", owner)
	}
	for _, b := range f.History {
		out.History = append(out.History, fmt.Sprintf("%s  epoch %d  %s: %s", b.Time.Local().Format(time.DateTime), b.Epoch, b.Owner, b.Reason))
	}
	if f.State == pair.Single {
		return out
	}
	own := api.HANode{
		Node: f.Self.ID, Role: role(f, f.Self.ID), Original: original(f.Self.Number), State: string(f.State), Address: len(st.Held) > 0,
		Leads: cs.Leader == f.Self.ID, Missing: st.Missing, Version: model.Version, Links: f.Self.Addrs,
	}
	other := api.HANode{
		Node: f.Peer.ID, Role: role(f, f.Peer.ID), Original: original(f.Peer.Number), State: "silent", Links: f.Peer.Addrs, Missing: -1,
		Heard: st.PeerSilence.Round(100*time.Millisecond).String() + " ago", Leads: cs.Leader == f.Peer.ID,
	}
	if st.PeerFresh {
		other.State, other.Address, other.Missing, other.Version = string(st.Peer.State), st.Peer.Address, st.Peer.Missing, st.Peer.Version
		if st.Skew.Abs() > time.Second {
			out.Skew = fmt.Sprintf("the clocks differ by %s", st.Skew.Round(100*time.Millisecond))
		}
	} else {
		out.Fault = st.PeerFault
	}
	if f.Primary == f.Self.ID {
		other.Lag = st.Lag
	} else {
		own.Lag = st.Lag
	}
	for _, n := range []api.HANode{own, other} {
		if n.Address {
			out.Holder = n.Node
		}
	}
	if st.Lease > 0 {
		out.Lease = st.Lease.Round(100 * time.Millisecond).String()
	}
	if behind := other; f.State == pair.Solo && behind.State == string(pair.Joining) || f.State == pair.Joining {
		if f.State == pair.Joining {
			behind = own
		}
		out.Progress = fmt.Sprintf("%s is being synchronised: %d entries behind", behind.Node, behind.Lag)
		if behind.Missing >= 0 {
			out.Progress += fmt.Sprintf(", %d bodies missing", behind.Missing)
		}
	}
	out.Nodes = append(out.Nodes, own, other)
	if own.Original == "secondary" {
		slices.Reverse(out.Nodes)
	}
	return out
}

func role(f pair.Facts, id string) string {
	if f.Primary == id {
		return "primary"
	}
	return "secondary"
}

func original(number uint8) string {
	if number == 0 {
		return "primary"
	}
	return "secondary"
}

// linkAddr is this node's address on its link, as the other node reaches it.
func (s *Server) linkAddr(h *HA, peer, given string) (netip.AddrPort, error) {
	port := h.Link.Addr().(*net.TCPAddr).Port
	if given != "" {
		a, err := netip.ParseAddr(given)
		if err != nil {
			return netip.AddrPort{}, op.Errorf(op.Usage, "--address %q is no IP address", given).With("mpctl net interface list")
		}
		return netip.AddrPortFrom(a, uint16(port)), nil
	}
	if own, ok := netip.AddrFromSlice(h.Link.Addr().(*net.TCPAddr).IP); ok && !own.IsUnspecified() {
		return netip.AddrPortFrom(own.Unmap(), uint16(port)), nil
	}
	c, err := net.Dial("udp", peer) // sends nothing: asks the kernel which address leads there
	if err != nil {
		return netip.AddrPort{}, op.Errorf(op.Refused, "there is no way to %s: %v", peer, err).With("mpctl net interface list")
	}
	defer c.Close()
	ap := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), uint16(port)), nil
}

// peerAddr completes an address with the link's usual port.
func (s *Server) peerAddr(peer string) string {
	if _, _, err := net.SplitHostPort(peer); err == nil {
		return peer
	}
	return net.JoinHostPort(strings.Trim(peer, "[]"), strconv.Itoa(defaultLinkPort))
}

const defaultLinkPort = 2826

// nodeFacts is what a node tells about itself when a pair is to be made.
type nodeFacts struct {
	Initialised bool     `json:"initialised"`
	State       string   `json:"state"`
	Source      string   `json:"source"` // of accounts
	Formats     string   `json:"formats"`
	Prefix      string   `json:"prefix"` // of the address on which it was reached
	Interface   string   `json:"interface"`
	Problem     string   `json:"problem,omitempty"`  // of that address: DHCP, PPPoE …
	Managers    []string `json:"managers,omitempty"` // other HA managers that run there
	Storage     []string `json:"storage,omitempty"`
}

// ownFacts looks at this node; addr is the address on which the other reaches it.
func (s *Server) ownFacts(h *HA, addr netip.Addr) nodeFacts {
	set := s.mail.State.Current()
	f := nodeFacts{
		Initialised: set.System.SetUp != 0, State: string(h.Book.Facts().State), Source: set.System.Source, Formats: h.Formats,
		Managers: vip.OtherManagers(), Storage: []string{s.data},
	}
	if !addr.IsValid() {
		return f
	}
	own, err := vip.CheckNode(addr)
	f.Interface = own.Interface
	if own.Prefix.IsValid() {
		f.Prefix = own.Prefix.String()
	}
	if err != nil && !(h.Loopback && addr.IsLoopback()) {
		f.Problem = err.Error()
	}
	return f
}

// parseVIPs reads floating addresses; without a length they get that of the node's own network.
func parseVIPs(text string, own nodeFacts, loopback bool) ([]model.VIP, error) {
	var out []model.VIP
	for _, word := range strings.Split(text, ",") {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, err := netip.ParseAddr(word)
			if err != nil {
				return nil, op.Errorf(op.Usage, "--vip %q is no address", word).With("mpctl ha create --vip 192.0.2.10 …")
			}
			bits := a.BitLen()
			if n, err := netip.ParsePrefix(own.Prefix); err == nil && n.Addr().Is4() == a.Is4() {
				bits = n.Bits()
			}
			p = netip.PrefixFrom(a, bits)
		}
		v := model.VIP{Prefix: p, Interface: own.Interface}
		if loopback {
			v.Interface = "lo"
		}
		if err := v.Validate(); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// conditions are the findings about a future pair (R11.15, R11.17–R11.28).
func (s *Server) conditions(ctx context.Context, h *HA, own nodeFacts, peer *transport.PairResult, vips []model.VIP, addr netip.AddrPort) []api.Finding {
	var out []api.Finding
	add := func(ok bool, check, subject, good, bad, remedy string) {
		if ok {
			out = append(out, api.Finding{Level: "ok", Check: check, Subject: subject, Message: good})
			return
		}
		out = append(out, api.Finding{Level: "error", Check: check, Subject: subject, Message: bad, Remedy: remedy})
	}
	add(own.Initialised, "initialised", s.node, "this node is set up and becomes the primary", "this node is not set up; a pair is made from the one that is", "mpctl setup new --domain example.com")
	add(own.State == string(pair.Single), "single", s.node, "this node is in no pair", "this node is part of a pair already", "mpctl ha show")
	add(own.Problem == "", "fixed address", s.node, fmt.Sprintf("%s on %s is configured by hand", own.Prefix, own.Interface), own.Problem, "give the interface a fixed address in the host's network settings")
	add(len(own.Managers) == 0, "other manager", s.node, "no other manager of floating addresses runs", strings.Join(own.Managers, ", ")+" runs and may move addresses, too", "stop it: systemctl disable --now keepalived pacemaker corosync")
	if peer != nil {
		var f nodeFacts
		json.Unmarshal(peer.Hello.Extra, &f)
		add(!f.Initialised && f.State == string(pair.Single), "empty", peer.ID, "the other node is empty and becomes the secondary", "the other node is set up already, or in a pair; its mail would be lost", "use a fresh node, or move its data directory away")
		add(peer.Hello.Version == model.Version && f.Formats == h.Formats, "version", peer.ID, "version "+peer.Hello.Version, fmt.Sprintf("the other node runs version %s (%s), this one %s (%s)", peer.Hello.Version, f.Formats, model.Version, h.Formats), "install the same version on both")
		add(peer.Skew.Abs() < maxSkew, "clock", peer.ID, fmt.Sprintf("the clocks differ by %s", peer.Skew.Abs().Round(time.Millisecond)), fmt.Sprintf("the clocks differ by %s", peer.Skew.Abs().Round(time.Millisecond)), "set up time synchronisation on both: systemctl enable --now chrony")
		add(f.Problem == "", "fixed address", peer.ID, fmt.Sprintf("%s on %s is configured by hand", f.Prefix, f.Interface), f.Problem, "give the interface a fixed address in the host's network settings")
		add(len(f.Managers) == 0, "other manager", peer.ID, "no other manager of floating addresses runs", strings.Join(f.Managers, ", ")+" runs there", "stop it on the other node")
		a, errA := netip.ParsePrefix(own.Prefix)
		b, errB := netip.ParsePrefix(f.Prefix)
		add(errA == nil && errB == nil && a.Masked() == b.Masked() || h.Loopback, "same LAN", peer.ID, "both nodes are in "+maskedText(a), fmt.Sprintf("this node is in %s, the other in %s", maskedText(a), maskedText(b)), "both nodes need addresses of one subnet")
	}
	out = append(out, api.Finding{Level: "ok", Check: "accounts", Subject: own.Source, Message: "the replicated local directory is the same on both nodes by itself"})
	for _, v := range vips {
		problem := ""
		if n, err := netip.ParsePrefix(own.Prefix); err == nil && !h.Loopback {
			if err := vip.CheckAddr(v.Prefix.Addr(), n); err != nil {
				problem = err.Error()
			}
		}
		if problem == "" && !h.Loopback {
			pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			if mac, err := vip.Probe(pctx, v.Interface, v.Prefix.Addr()); err != nil {
				out = append(out, api.Finding{Level: "warning", Check: "floating address", Subject: v.Prefix.Addr().String(), Message: "whether somebody has it can't be asked: " + err.Error(), Remedy: "run the daemon as root or with CAP_NET_RAW"})
			} else if mac != nil {
				problem = "it is in use by " + mac.String()
			}
			cancel()
		}
		add(problem == "", "floating address", v.Prefix.String(), "free, and in the nodes' subnet", problem, "choose a free address of the nodes' subnet")
	}
	return out
}

func maskedText(p netip.Prefix) string {
	if !p.IsValid() {
		return "no known subnet"
	}
	return p.Masked().String()
}

// maxSkew is how far the clocks of two nodes may be apart when a pair is made.
const maxSkew = 5 * time.Second

func worst(list []api.Finding) error {
	var bad []string
	remedy := ""
	for _, f := range list {
		if f.Level == "error" {
			bad = append(bad, f.Check+" ("+f.Subject+"): "+f.Message)
			if remedy == "" {
				remedy = f.Remedy
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return op.Errorf(op.Refused, "%s", strings.Join(bad, "; ")).With(remedy)
}

func (s *Server) haPrecheck(ctx context.Context, _ *Call, in *api.HAPrecheckIn) ([]api.Finding, error) {
	h, err := s.pairing()
	if err != nil {
		return nil, err
	}
	var addr netip.AddrPort
	if in.Peer != "" || in.Address != "" {
		if addr, err = s.linkAddr(h, s.peerAddr(in.Peer), in.Address); err != nil {
			return nil, err
		}
	}
	own := s.ownFacts(h, addr.Addr())
	var vips []model.VIP
	if in.VIP != "" {
		if vips, err = parseVIPs(in.VIP, own, h.Loopback); err != nil {
			return nil, err
		}
	}
	out := s.conditions(ctx, h, own, nil, vips, addr)
	if in.Peer != "" {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err := d.DialContext(ctx, "tcp", s.peerAddr(in.Peer))
		f := api.Finding{Level: "ok", Check: "link", Subject: in.Peer, Message: "the other node's link port answers; it is checked further by ha create"}
		if err != nil {
			f = api.Finding{Level: "error", Check: "link", Subject: in.Peer, Message: err.Error(), Remedy: "start mailplusd there, and open port " + strconv.Itoa(defaultLinkPort) + " (TCP and UDP) between the nodes"}
		} else {
			c.Close()
		}
		out = append(out, f)
	}
	return out, nil
}

func (s *Server) haDiscover(ctx context.Context, _ *Call, _ *op.None) ([]api.HAFoundRow, error) {
	if _, err := s.pairing(); err != nil {
		return nil, err
	}
	found, err := transport.Discover(ctx, nil)
	out := []api.HAFoundRow{}
	seen := map[string]bool{}
	for _, f := range found {
		if seen[f.Node+f.Fingerprint] || f.Node == s.node || f.Addr.Addr().IsLinkLocalUnicast() {
			continue
		}
		seen[f.Node+f.Fingerprint] = true
		out = append(out, api.HAFoundRow{Node: f.Node, Address: f.Addr.String(), Version: f.Version, Initialised: f.Initialised, Interface: f.Interface, Fingerprint: f.Fingerprint})
	}
	return out, err
}

func (s *Server) haInvite(_ context.Context, c *Call, in *api.HAInviteIn) (api.HAInviteOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAInviteOut{}, err
	}
	if err := s.mayJoin(h); err != nil {
		return api.HAInviteOut{}, err
	}
	ttl := time.Duration(max(in.Minutes, 1)) * time.Minute
	out := api.HAInviteOut{Expires: time.Now().Add(ttl).Format(time.RFC3339), Fingerprint: transport.Fingerprint(h.Link.PublicKey()), Addresses: []string{}}
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
	res, err := h.Link.Pair(ctx, peer, transport.Credential{Token: string(in.Token), User: in.PeerUser, Password: []byte(in.Password), Fingerprint: in.Fingerprint})
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
		if !slices.Contains(f.Storage, in.PeerStorage) {
			return api.HAShowOut{}, op.Errorf(op.Refused, "the secondary keeps its data in %s; it has no %s", strings.Join(f.Storage, ", "), in.PeerStorage).With("start the secondary with --data on the volume that you want")
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
		err := s.dissolve(ctx, h, true)
		return errors.Join(why, err)
	}
	if err := h.Controller.Create(p.Cluster, self, other); err != nil {
		return undo(haError(err))
	}
	f := h.Book.Facts()
	raw, err := json.Marshal(joinIn{Cluster: p.Cluster, Self: other, Peer: self, History: f.History, Epoch: f.Epoch, Turn: f.Turn})
	if err != nil {
		return undo(err)
	}
	jctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if _, err := h.Link.Call(jctx, other.ID, "ha.join", raw); err != nil {
		return undo(haError(err))
	}
	return nil
}

func pairError(err error) error {
	switch {
	case errors.Is(err, transport.ErrUnreachable):
		return op.Errorf(op.Unreachable, "the other node's link can't be reached: %v", err).With("start mailplusd there, and open port 2826 (TCP and UDP) between the nodes")
	case errors.Is(err, transport.ErrToken), errors.Is(err, transport.ErrKey):
		return op.Errorf(op.Forbidden, "%v", err).With("mpctl ha invite, on the other node")
	case errors.Is(err, transport.ErrLogin), errors.Is(err, transport.ErrPairBusy):
		return op.Errorf(op.Forbidden, "%v", err).With("mpctl ha invite, on the other node, makes a token")
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
		Login: func(ctx context.Context, user string, password []byte, remote netip.AddrPort) error {
			a, err := s.checkPassword(ctx, user, password, remote.Addr())
			if err == nil && !a.Admin {
				err = errors.New("no administrator")
			}
			return err
		},
	})
	h.Link.Handle("ha.join", func(_ context.Context, node string, req []byte) ([]byte, error) {
		var in joinIn
		if err := json.Unmarshal(req, &in); err != nil {
			return nil, err
		}
		switch {
		case node != inviter.ID || in.Peer.ID != node || string(in.Peer.Key) != string(inviter.Key):
			return nil, errors.New("this node was not paired with " + node)
		case in.Self.ID != s.node || string(in.Self.Key) != string(h.Link.PublicKey()):
			return nil, errors.New("another node is meant")
		}
		if err := s.mayJoin(h); err != nil {
			return nil, err
		}
		return nil, h.Controller.Join(in.Cluster, in.Self, in.Peer, in.History, in.Epoch, in.Turn)
	})
	h.Link.Handle("ha.removed", func(ctx context.Context, node string, _ []byte) ([]byte, error) {
		if f := h.Book.Facts(); node != f.Peer.ID || f.State == pair.Single || f.Primary != node {
			return nil, errors.New("only the primary of this pair removes this node")
		}
		return nil, h.Controller.Leave()
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

// ownLinkAddr is the address that the link listens on, if it is one; else the first that suits.
func (s *Server) ownLinkAddr(h *HA) netip.Addr {
	if own, ok := netip.AddrFromSlice(h.Link.Addr().(*net.TCPAddr).IP); ok && !own.IsUnspecified() {
		return own.Unmap()
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func (s *Server) haSwitchover(ctx context.Context, c *Call, in *api.HANodeIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	if c.DryRun {
		c.Diff(op.FieldDiff{Field: "primary", Old: h.Book.Facts().Primary, New: in.Node})
		return s.haView(h), nil
	}
	if err := h.Controller.Switchover(ctx, in.Node); err != nil {
		return api.HAShowOut{}, haError(err)
	}
	return s.haView(h), nil
}

func (s *Server) haRecover(ctx context.Context, c *Call, in *api.HARecoverIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	if in.Node != s.node {
		return api.HAShowOut{}, op.Errorf(op.Usage, "this is node %s; run the command on %s itself", s.node, in.Node).With("mpctl ha recover --force " + s.node)
	}
	if c.DryRun {
		c.Warn("mail that only %s has would not be seen until it comes back", h.Book.Facts().Peer.ID)
		return s.haView(h), nil
	}
	if err := h.Controller.Recover(ctx, in.Force); err != nil {
		return api.HAShowOut{}, haError(err)
	}
	return s.haView(h), nil
}

func (s *Server) haRemove(ctx context.Context, c *Call, in *api.HARemoveIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	f := h.Book.Facts()
	switch {
	case f.State == pair.Single:
		return api.HAShowOut{}, op.Errorf(op.Refused, "this node is in no pair; the last node can't be removed").With("mpctl ha create")
	case in.Node == s.node:
		return api.HAShowOut{}, op.Errorf(op.Refused, "%s is this node: run the command on the node to be kept", in.Node).With(fmt.Sprintf("mpctl ha remove %s, on %s", in.Node, f.Peer.ID))
	case in.Node != f.Peer.ID:
		return api.HAShowOut{}, notFound("node", in.Node, "mpctl ha show")
	case c.DryRun:
		c.Diff(op.FieldDiff{Field: "node", Old: in.Node})
		return s.haView(h), nil
	}
	st := h.Controller.Status()
	if !in.Dead && !st.PeerFresh {
		return api.HAShowOut{}, op.Errorf(op.Refused, "%s does not answer, so there can be no last synchronisation: %s", in.Node, st.PeerFault).With(fmt.Sprintf("start it, or if it is gone for good: mpctl ha remove %s --dead --confirm=%s", in.Node, in.Node))
	}
	if !in.Dead {
		if err := s.waitSync(ctx, h, 90*time.Second); err != nil {
			return api.HAShowOut{}, err
		}
		if err := s.sameDigest(ctx, h, f.Peer.ID); err != nil {
			return api.HAShowOut{}, err
		}
	}
	if err := s.dissolve(ctx, h, in.Dead); err != nil {
		return api.HAShowOut{}, haError(err)
	}
	c.Warn("the floating address is held by no node now: point firewall rules, port forwarding and DMZ to this node (R11.54)")
	c.Warn("change DNS records that name the floating address: mpctl domain dns-records, then mpctl check dns (R11.55)")
	return s.haView(h), nil
}

// sameDigest compares both nodes at one index, some times: mail keeps coming.
func (s *Server) sameDigest(ctx context.Context, h *HA, peer string) error {
	for range 20 {
		mine, err := s.mail.State.Digest(ctx)
		if err != nil {
			return err
		}
		raw, err := h.Link.Call(ctx, peer, "ha.digest", nil)
		if err != nil {
			return haError(err)
		}
		var theirs state.Digest
		if err := json.Unmarshal(raw, &theirs); err != nil {
			return err
		}
		if mine.Applied == theirs.Applied {
			if mine.Sum != theirs.Sum {
				return op.Errorf(op.Refused, "at entry %d the nodes differ; nothing was removed", mine.Applied).With("mpctl storage verify on both nodes, then report this as a fault")
			}
			return nil
		}
	}
	return nil // mail comes faster than a digest is made; the log has brought both to the same entries
}

// dissolve takes the other node out of the log and makes this one single.
func (s *Server) dissolve(ctx context.Context, h *HA, dead bool) error {
	f := h.Book.Facts()
	if f.State != pair.Single {
		if err := h.Controller.Remove(ctx, dead); err != nil {
			return err
		}
		if !dead {
			if _, err := h.Link.Call(ctx, f.Peer.ID, "ha.removed", nil); err != nil {
				s.log.Warn("the removed node was not told", "node", f.Peer.ID, "err", err)
			}
		}
		g := s.mail.State.Regime()
		if err := s.mail.State.Do(ctx, []state.Operation{state.PairSet{Epoch: g.Epoch, Phase: state.PhaseSingle, Owner: s.node, SettingsOwner: s.node}}); err != nil {
			return err
		}
	}
	if err := s.mail.State.Update(ctx, state.DropPair); err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if f.State == pair.Single {
		return nil
	}
	return h.Controller.Disband(ctx)
}

func (s *Server) waitSync(ctx context.Context, h *HA, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		ok, why := h.Controller.InSync()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return op.Errorf(op.Failed, "not in sync within %s: %s", limit, why).With("mpctl ha show")
		case <-t.C:
		}
	}
}

func (s *Server) haWait(ctx context.Context, _ *Call, in *api.HAWaitIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	limit := time.Duration(max(in.Timeout, 1)) * time.Second
	end := time.Now().Add(min(limit, callTime-time.Second))
	for {
		f := h.Book.Facts()
		ok, why := false, "this node is in state "+string(f.State)
		switch in.For {
		case "sync", "":
			ok, why = h.Controller.InSync()
			if f.Report {
				ok, why = false, "the arbiter does not know yet"
			}
		case "primary":
			ok = f.Primary == s.node && h.Controller.Status().Serving.Accept
		case "secondary":
			ok = f.State == pair.Paired && f.Primary != s.node
		case "single":
			ok = f.State == pair.Single
		}
		if ok {
			return s.haView(h), nil
		}
		if time.Now().After(end) {
			return s.haView(h), op.Errorf(op.Failed, "not %s yet: %s", in.For, why).With("mpctl ha show")
		}
		select {
		case <-ctx.Done():
			return s.haView(h), ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Server) haSet(ctx context.Context, c *Call, in *api.HASetIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	f := h.Book.Facts()
	var own nodeFacts
	if addr, err := netip.ParseAddrPort(strings.Join(f.Self.Addrs[:min(1, len(f.Self.Addrs))], "")); err == nil {
		own = s.ownFacts(h, addr.Addr())
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.ReadPair(tx)
		if errors.Is(err, state.ErrNotFound) {
			return op.Errorf(op.Refused, "this node is in no pair").With("mpctl ha create")
		}
		if err != nil {
			return err
		}
		before := *p
		if err := s.applyHASet(h, p, own, in); err != nil {
			return err
		}
		diffRows(c, before, *p)
		return state.StorePair(tx, p)
	})
	if err != nil {
		return api.HAShowOut{}, err
	}
	return s.haView(h), nil
}

func (s *Server) applyHASet(h *HA, p *model.Pair, own nodeFacts, in *api.HASetIn) error {
	if in.VIP != nil {
		vips, err := parseVIPs(*in.VIP, own, h.Loopback)
		if err != nil {
			return err
		}
		p.VIPs = vips
	}
	if in.Netmask != nil {
		bits, err := maskBits(*in.Netmask)
		if err != nil {
			return err
		}
		p.VIPs = slices.Clone(p.VIPs)
		for i, v := range p.VIPs {
			if v.Prefix.Addr().Is4() {
				p.VIPs[i].Prefix = netip.PrefixFrom(v.Prefix.Addr(), bits)
			}
		}
	}
	if (in.VIP != nil || in.Netmask != nil) && !h.Loopback {
		for _, v := range p.VIPs {
			for _, n := range p.Nodes {
				ap, err := netip.ParseAddrPort(n.Addrs[0])
				if err == nil && ap.Addr().Is4() == v.Prefix.Addr().Is4() && !v.SameSubnet(ap.Addr()) {
					return op.Errorf(op.Refused, "%s is not in the subnet of %s, whose address is %s (R11.46)", v.Prefix, n.ID, ap.Addr()).With("mpctl net interface list")
				}
			}
		}
	}
	if in.Arbiter != nil {
		if p.Arbiter.Mode = model.ArbiterMode(*in.Arbiter); p.Arbiter.Mode == model.ArbiterWitness && p.Arbiter.Witness == "" {
			return op.Errorf(op.Refused, "there is no witness").With("mpctl ha witness add HOST:PORT --invite-file FILE")
		}
	}
	if in.Targets != nil {
		p.Arbiter.Targets = *in.Targets
	}
	if in.Sharing != nil {
		p.Sharing.Mode = model.SharingMode(*in.Sharing)
	}
	if in.Weights != nil {
		p.Sharing.Weights = map[string]int{}
		for _, w := range *in.Weights {
			name, number, ok := strings.Cut(w, "=")
			n, err := strconv.Atoi(number)
			if !ok || err != nil {
				return op.Errorf(op.Usage, "--weight %q is not NODE=NUMBER", w).With("mpctl ha set --weight node1=80 --weight node2=20")
			}
			p.Sharing.Weights[name] = n
		}
	}
	return nil
}

func maskBits(text string) (int, error) {
	if n, err := strconv.Atoi(strings.TrimPrefix(text, "/")); err == nil && n > 0 && n <= 32 {
		return n, nil
	}
	if ip := net.ParseIP(text).To4(); ip != nil {
		if ones, bits := net.IPMask(ip).Size(); bits == 32 && ones > 0 {
			return ones, nil
		}
	}
	return 0, op.Errorf(op.Usage, "--netmask %q is neither a mask such as 255.255.255.0 nor a length such as 24", text)
}

func (s *Server) haWitnessAdd(ctx context.Context, c *Call, in *api.HAWitnessAddIn) (api.HAWitnessOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	f := h.Book.Facts()
	if f.State == pair.Single {
		return api.HAWitnessOut{}, op.Errorf(op.Refused, "this node is in no pair").With("mpctl ha create")
	}
	if c.DryRun {
		c.Diff(op.FieldDiff{Field: "witness", New: in.Address})
		return api.HAWitnessOut{Address: in.Address}, nil
	}
	res, err := h.Link.Pair(ctx, in.Address, transport.Credential{Token: string(in.Token)})
	if err != nil {
		return api.HAWitnessOut{}, pairError(err)
	}
	w := &pair.Member{ID: res.ID, Number: 0, Addrs: []string{in.Address}, Key: res.Key}
	if err := h.Controller.SetWitness(w); err != nil {
		return api.HAWitnessOut{}, haError(err)
	}
	enrol, err := json.Marshal(witness.Enrol{
		Cluster: f.Cluster, Epoch: f.Epoch, Turn: f.Turn, Primary: f.Primary, Solo: f.State == pair.Solo,
		Nodes: []witness.Node{{ID: f.Self.ID, Addrs: f.Self.Addrs, Key: f.Self.Key}, {ID: f.Peer.ID, Addrs: f.Peer.Addrs, Key: f.Peer.Key}},
	})
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	if _, err := h.Link.Call(ctx, res.ID, "witness.enrol", enrol); err != nil {
		h.Controller.SetWitness(f.Witness)
		return api.HAWitnessOut{}, haError(err)
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.ReadPair(tx)
		if err != nil {
			return err
		}
		p.Arbiter.Mode, p.Arbiter.Witness, p.Arbiter.WitnessKey = model.ArbiterWitness, in.Address, res.Key
		p.Arbiter.WitnessID, p.Arbiter.Fallback = res.ID, in.Fallback
		return state.StorePair(tx, p)
	})
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	return s.witnessView(ctx, h)
}

func (s *Server) haWitnessRemove(ctx context.Context, c *Call, _ *op.None) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		p, err := state.ReadPair(tx)
		if err != nil {
			return err
		}
		if p.Arbiter.Witness == "" {
			return op.Errorf(op.Refused, "there is no witness").With("mpctl ha witness add")
		}
		p.Arbiter = model.Arbiter{Mode: model.ArbiterGateway, Targets: p.Arbiter.Targets}
		return state.StorePair(tx, p)
	})
	if err != nil || c.DryRun {
		return s.haView(h), err
	}
	if f := h.Book.Facts(); f.Witness != nil {
		if _, err := h.Link.Call(ctx, f.Witness.ID, "witness.forget", nil); err != nil {
			c.Warn("the witness was not told: %v; stop it", err)
		}
	}
	return s.haView(h), haError(h.Controller.SetWitness(nil))
}

func (s *Server) haWitnessShow(ctx context.Context, _ *Call, _ *op.None) (api.HAWitnessOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAWitnessOut{}, err
	}
	return s.witnessView(ctx, h)
}

func (s *Server) witnessView(ctx context.Context, h *HA) (api.HAWitnessOut, error) {
	f := h.Book.Facts()
	if f.Witness == nil {
		return api.HAWitnessOut{}, op.Errorf(op.NotFound, "there is no witness").With("mpctl ha witness add HOST:PORT --invite-file FILE")
	}
	out := api.HAWitnessOut{Address: strings.Join(f.Witness.Addrs, ", "), InSync: []string{}}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	raw, err := h.Link.Call(ctx, f.Witness.ID, "witness.show", nil)
	if err != nil {
		return out, op.Errorf(op.Unreachable, "the witness does not answer: %v", err).With("start it: mailplusd witness")
	}
	var r witness.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return out, err
	}
	out.Reached, out.Epoch, out.Primary, out.InSync, out.Holder, out.Changed = true, r.Epoch, r.Primary, r.InSync, r.Holder, r.Changed.Local().Format(time.DateTime)
	return out, nil
}

func (s *Server) haMergeList(context.Context, *Call, *op.None) ([]api.HAMergeRow, error) {
	list, err := s.mail.State.MergeReportList()
	out := []api.HAMergeRow{}
	for i, r := range list {
		out = append(out, mergeRow(uint64(i+1), r))
	}
	return out, err
}

func mergeRow(id uint64, r *state.MergeReport) api.HAMergeRow {
	row := api.HAMergeRow{ID: id, Time: stamp(r.Started), From: r.Loser, State: "under way",
		Summary: fmt.Sprintf("%d messages added, %d the same, %d flags, %d expunged, %d recovered, %d conflicts", r.Counts.Added, r.Counts.Same, r.Counts.Flags, r.Counts.Expunged, r.Counts.Recovered, r.Counts.Conflicts)}
	if r.Done != 0 {
		row.State = "done"
	}
	return row
}

func (s *Server) haMergeShow(_ context.Context, _ *Call, in *api.HAMergeIn) (api.HAMergeOut, error) {
	list, err := s.mail.State.MergeReportList()
	if err != nil {
		return api.HAMergeOut{}, err
	}
	if in.ID < 1 || in.ID > uint64(len(list)) {
		return api.HAMergeOut{}, notFound("merge", strconv.FormatUint(in.ID, 10), "mpctl ha merge list")
	}
	r := list[in.ID-1]
	out := api.HAMergeOut{HAMergeRow: mergeRow(in.ID, r), Counts: map[string]int64{}, Lines: append([]string{}, r.Lines...)}
	raw, err := json.Marshal(r.Counts)
	if err == nil {
		err = json.Unmarshal(raw, &out.Counts)
	}
	return out, err
}
