package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

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
		return api.HAShowOut{}, op.Errorf(op.Usage, "this is node %s; run the command on %s itself", s.node, in.Node).With("mpctl ha recover " + in.Node + " --force --confirm=" + in.Node + ", there")
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

func (s *Server) haSet(ctx context.Context, c *Call, in *api.HASetIn) (api.HAShowOut, error) {
	h, err := s.pairing()
	if err != nil {
		return api.HAShowOut{}, err
	}
	f := h.Book.Facts()
	if f.State == pair.Single { // a creation that broke off early leaves the row, which the next one replaces
		return api.HAShowOut{}, op.Errorf(op.Refused, "this node is in no pair").With("mpctl ha create")
	}
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
