package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/mail/model"
)

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
		Addresses: []string{}, Nodes: []api.HANode{}, History: []string{}, CanFail: append([]string{}, st.CanFail...), CantFail: append([]string{}, st.CantFail...), Alarm: st.Alarm, Advice: st.Advice,
		Copies: 1, ArbiterOK: st.Arbiter == "", ArbiterNo: st.Arbiter,
	}
	if f.State == pair.Paired && st.PeerFresh {
		out.Copies = 2
	}
	if p, err := s.mail.State.Pair(); err == nil && f.State != pair.Single {
		for _, v := range p.VIPs {
			out.Addresses = append(out.Addresses, v.Prefix.String())
		}
		out.Arbiter, out.Sharing = string(p.Arbiter.Mode), string(p.Sharing.Mode)
	}
	if owner, ro := s.mail.State.Regime().ReadOnly(); ro {
		out.ReadOnly = fmt.Sprintf("settings can't be changed here until %s is repaired or removed", owner)
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
			out.Skew = fmt.Sprintf("the clocks differ by %s", st.Skew.Abs().Round(100*time.Millisecond))
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
			if from := map[bool]time.Time{true: st.HeldFrom, false: st.Peer.From}[n.Node == f.Self.ID]; !from.IsZero() {
				out.Since = from.Format(time.RFC3339)
			}
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
