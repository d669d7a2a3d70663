package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
)

// States of a function (R10.43).
const (
	fnRunning  = "running"
	fnStopped  = "stopped"
	fnAbnormal = "abnormal"
	fnReady    = "getting ready"
	fnSyncing  = "syncing mail"
	fnMissing  = "not installed"
)

// functions gives the state of each function of this node.
func (s *Server) functions() map[string]string {
	out := map[string]string{}
	for _, l := range s.listeners(s.mail.State.Current()) {
		switch {
		case !l.Enabled:
			out[l.Name] = fnStopped
		case l.Error != "":
			out[l.Name] = fnAbnormal
		case l.Address == "":
			out[l.Name] = fnReady
		default:
			out[l.Name] = fnRunning
		}
	}
	out["fts"] = s.ftsFunction()
	if s.ha == nil {
		return out
	}
	st := s.ha.Controller.Status()
	syncing := st.Facts.State == pair.Joining || st.Facts.State == pair.Solo && st.PeerFresh && st.Peer.State == pair.Joining
	for name, state := range out {
		switch {
		case state == fnStopped, name == "fts":
		case !st.Serving.Accept && !syncing:
			out[name] = fnAbnormal
		case syncing:
			out[name] = fnSyncing
		}
	}
	return out
}

// nodeLoad is what the nodes tell each other for server list.
type nodeLoad struct {
	Load
	Functions map[string]string `json:"functions"`
}

// NodeLoad is this node's line of server list, for the other node.
func (s *Server) NodeLoad() []byte {
	raw, err := json.Marshal(nodeLoad{ReadLoad(), s.functions()})
	if err != nil {
		return nil
	}
	return raw
}

func serverRow(node, role, state string, l nodeLoad) api.ServerRow {
	return api.ServerRow{
		Node: node, Role: role, State: state, CPU: fmt.Sprintf("%.0f %%", l.CPU), Memory: fmt.Sprintf("%.0f %%", l.Memory),
		NetIn: octets(l.NetIn), NetOut: octets(l.NetOut), Functions: l.Functions, Uptime: (time.Duration(l.UptimeSec) * time.Second).String(),
	}
}

func octets(v float64) string {
	for _, unit := range []string{"B/s", "kB/s", "MB/s"} {
		if v < 1000 {
			return fmt.Sprintf("%.0f %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1f GB/s", v)
}

func (s *Server) serverList(context.Context, *Call, *op.None) ([]api.ServerRow, error) {
	own := nodeLoad{ReadLoad(), s.functions()}
	if s.ha == nil || s.ha.Book.Facts().State == pair.Single {
		return []api.ServerRow{serverRow(s.node, "single", "serving", own)}, nil
	}
	st := s.ha.Controller.Status()
	f := st.Facts
	out := []api.ServerRow{serverRow(f.Self.ID, role(f, f.Self.ID), st.Capacity, own)}
	other := api.ServerRow{Node: f.Peer.ID, Role: role(f, f.Peer.ID), State: "silent"}
	if st.PeerFresh {
		var l nodeLoad
		if err := json.Unmarshal(st.Peer.Load, &l); err == nil {
			other = serverRow(f.Peer.ID, role(f, f.Peer.ID), string(st.Peer.State), l)
		}
	}
	if out = append(out, other); f.Self.Number == 1 {
		out[0], out[1] = out[1], out[0]
	}
	return out, nil
}

func (s *Server) serverShow(ctx context.Context, c *Call, in *api.HANodeIn) (api.ServerRow, error) {
	list, err := s.serverList(ctx, c, nil)
	for _, r := range list {
		if r.Node == in.Node {
			return r, err
		}
	}
	return api.ServerRow{}, notFound("node", in.Node, "mpctl server list")
}

func (s *Server) bindHA() {
	bind(s, api.HAShow, s.haShow)
	bind(s, api.HAPrecheck, s.haPrecheck)
	bind(s, api.HADiscover, s.haDiscover)
	bind(s, api.HAInvite, s.haInvite)
	bind(s, api.HACreate, s.haCreate)
	bind(s, api.HASet, s.haSet)
	bind(s, api.HASwitchover, s.haSwitchover)
	bind(s, api.HARemove, s.haRemove)
	bind(s, api.HARecover, s.haRecover)
	bind(s, api.HAWait, s.haWait)
	bind(s, api.HAWitnessAdd, s.haWitnessAdd)
	bind(s, api.HAWitnessDel, s.haWitnessRemove)
	bind(s, api.HAWitnessShow, s.haWitnessShow)
	bind(s, api.HAUpgrade, s.haUpgrade)
	bind(s, api.HAMergeList, s.haMergeList)
	bind(s, api.HAMergeShow, s.haMergeShow)
	bind(s, api.ServerList, s.serverList)
	bind(s, api.ServerShow, s.serverShow)
}
