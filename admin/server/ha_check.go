package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/cluster/vip"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
)

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
	Source      string   `json:"source"`               // of accounts
	TwoFactor   int      `json:"two_factor,omitempty"` // accounts with two-factor login
	Directory   string   `json:"directory,omitempty"`  // why the bound directory can't be asked
	Formats     string   `json:"formats"`
	Prefix      string   `json:"prefix"` // of the address on which it was reached
	Interface   string   `json:"interface"`
	Problem     string   `json:"problem,omitempty"`  // of that address: DHCP, PPPoE …
	Managers    []string `json:"managers,omitempty"` // other HA managers that run there
	Data        volume   `json:"data"`               // where its mail is, or would be
	Mail        int64    `json:"mail,omitempty"`     // octets of mail and state that it has
}

// ownFacts looks at this node; addr is the address on which the other reaches it.
func (s *Server) ownFacts(h *HA, addr netip.Addr) nodeFacts {
	set := s.mail.State.Current()
	f := nodeFacts{
		Initialised: set.System.SetUp != 0, State: string(h.Book.Facts().State), Source: set.System.Source, Formats: h.Formats,
		Managers: vip.OtherManagers(), Data: volumeOf(s.data), Mail: s.mailSize(),
	}
	s.accountFacts(&f)
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
	out = append(out, api.Finding{Level: "ok", Check: "storage", Subject: s.node, Message: fmt.Sprintf("%s of mail on %s", sizeText(own.Mail), own.Data)})
	if peer != nil {
		var f nodeFacts
		json.Unmarshal(peer.Hello.Extra, &f)
		if f.Data.Total == 0 {
			out = append(out, api.Finding{Level: "warning", Check: "storage", Subject: peer.ID, Message: "the other node does not know how large its volume is", Remedy: "df, there"})
		} else {
			add(f.Data.Free >= room(own.Mail), "storage", peer.ID, "the mail of this node has room on "+f.Data.String(),
				fmt.Sprintf("%s of mail need %s free, and there is %s", sizeText(own.Mail), sizeText(room(own.Mail)), f.Data), "start the secondary with --data on a larger volume; mpctl ha invite lists them there")
		}
		add(!f.Initialised && f.State == string(pair.Single), "empty", peer.ID, "the other node is empty and becomes the secondary", "the other node is set up already, or in a pair; its mail would be lost", "use a fresh node, or move its data directory away")
		add(f.Formats == h.Formats, "version", peer.ID, "version "+peer.Hello.Version, fmt.Sprintf("the other node runs version %s (%s), this one %s (%s)", peer.Hello.Version, f.Formats, model.Version, h.Formats), "install the same version on both")
		add(peer.Skew.Abs() < maxSkew, "clock", peer.ID, fmt.Sprintf("the clocks differ by %s", peer.Skew.Abs().Round(time.Millisecond)), fmt.Sprintf("the clocks differ by %s", peer.Skew.Abs().Round(time.Millisecond)), "set up time synchronisation on both: systemctl enable --now chrony")
		add(f.TwoFactor == 0, "two-factor login", peer.ID, "no login of the other node needs a second factor", fmt.Sprintf("two-factor login is on for %d accounts of the other node; it must be off on the secondary", f.TwoFactor), "there, for each account that mpctl user list -o wide shows with 2FA: mpctl user set NAME --2fa off")
		add(f.Problem == "", "fixed address", peer.ID, fmt.Sprintf("%s on %s is configured by hand", f.Prefix, f.Interface), f.Problem, "give the interface a fixed address in the host's network settings")
		add(len(f.Managers) == 0, "other manager", peer.ID, "no other manager of floating addresses runs", strings.Join(f.Managers, ", ")+" runs there", "stop it on the other node")
		a, errA := netip.ParsePrefix(own.Prefix)
		b, errB := netip.ParsePrefix(f.Prefix)
		add(errA == nil && errB == nil && a.Masked() == b.Masked() || h.Loopback, "same LAN", peer.ID, "both nodes are in "+maskedText(a), fmt.Sprintf("this node is in %s, the other in %s", maskedText(a), maskedText(b)), "both nodes need addresses of one subnet")
	}
	if own.Source != model.SourceLocal {
		add(own.Directory == "", "accounts", own.Source, "this node can log in to the directory of the accounts; the other one tries when it joins, and both use this binding", "this node can't log in to the directory of the accounts: "+own.Directory, directoryCommand(own.Source)+" test")
	} else {
		out = append(out, api.Finding{Level: "ok", Check: "accounts", Subject: own.Source, Message: "the local directory is allowed: it is replicated, so it is the same on both nodes by itself; LDAP is not needed"})
	}
	for _, v := range vips {
		problem := ""
		if n, err := netip.ParsePrefix(own.Prefix); err == nil && !h.Loopback {
			if err := vip.CheckAddr(v.Prefix.Addr(), n); err != nil {
				problem = err.Error()
			}
		}
		if problem == "" && !h.Loopback {
			pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			if mac, err := h.Ask(pctx, v.Interface, v.Prefix.Addr()); err != nil {
				out = append(out, api.Finding{Level: "warning", Check: "floating address", Subject: v.Prefix.Addr().String(), Message: "whether somebody has it can't be asked: " + err.Error(), Remedy: "run the daemon as root or with CAP_NET_ADMIN and CAP_NET_RAW"})
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

// accountFacts tells what of the accounts matters to a pair (R11.25, R11.26).
func (s *Server) accountFacts(f *nodeFacts) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return
	}
	for _, a := range pic.Users {
		if a.TwoFactor {
			f.TwoFactor++
		}
	}
	if f.Source == model.SourceLocal {
		return
	}
	conf, client, err := s.mail.Bound()
	switch {
	case err != nil:
		f.Directory = err.Error()
		return
	case conf == nil:
		f.Directory = "none is bound"
		return
	}
	ctx, cancel := context.WithTimeout(s.life, directoryTime)
	defer cancel()
	var bad []string
	for _, p := range client.Probe(ctx) {
		if p.Err == nil {
			return
		}
		bad = append(bad, p.URI+": "+p.Err.Error())
	}
	f.Directory = strings.Join(bad, "; ")
}

// directoryTime bounds how long a node looks for the directory when a pair is made.
const directoryTime = 8 * time.Second

// logsIn tells why this node, which does not have the binding yet, can log in to none of the directory's
// servers and read there.
func logsIn(ctx context.Context, b *boundDirectory) error {
	if b == nil {
		return nil
	}
	l := b.LDAP
	l.CA, l.Password = b.CA, b.Secret // for Validate, which knows a sealed one
	if err := ldap.Validate(&l); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, directoryTime)
	defer cancel()
	var bad []string
	for _, uri := range l.URIs { // one that is silent must not take the time of the others
		one := l
		one.URIs = []string{uri}
		try, done := context.WithTimeout(ctx, directoryTime/4)
		for _, p := range ldap.New(one, b.Secret).Probe(try) {
			if p.Err == nil {
				done()
				return nil
			}
			bad = append(bad, p.URI+": "+p.Err.Error())
		}
		done()
	}
	return fmt.Errorf("this node can't log in to the directory that the accounts come from, and both must: %s", strings.Join(bad, "; "))
}
