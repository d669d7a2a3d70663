package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"mailplusd/admin/op"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/transport"
	"mailplusd/mail/state"
)

// HA is what the admin plane needs of the pair on this node.
type HA struct {
	Controller *pair.Controller
	Link       *transport.Transport
	Book       *pair.Book
	Loopback   bool // floating addresses are of 127.0.0.0/8, to try a pair on one machine
	Formats    string
	// Ask tells who answers for an address on an interface; nil: nobody.
	Ask func(ctx context.Context, ifname string, a netip.Addr) (net.HardwareAddr, error)
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

// settingsOpen refuses an operation that changes settings on a secondary that serves alone
// (R11.61). The state machine refuses such an entry, too; here the reason comes before any other.
func (s *Server) settingsOpen(o op.Any) error {
	if o.Spec().Effect == op.Read || o.Spec().Alone {
		return nil
	}
	return readOnly(s.mail.State.Regime())
}

func readOnly(g *state.Regime) error {
	owner, yes := g.ReadOnly()
	if !yes {
		return nil
	}
	return op.Errorf(op.Refused, "settings can't be changed here: %s, which owns them, is away and this node serves alone", owner).
		With(fmt.Sprintf("repair %s, or if it is lost for good: mpctl ha remove %s --dead --confirm=%s", owner, owner, owner))
}
