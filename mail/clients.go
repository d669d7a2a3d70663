package mail

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mailplusd/mail/login"
	"mailplusd/mail/tally"
)

// messages is the name under which clients' messages are counted; connections are under the listener's.
const messages = "messages"

// MessageRate counts the messages of each client (R7.68).
func (s *Server) MessageRate() *tally.Rate { return s.Clients.Rate(messages) }

// Block is a client that is refused for a while.
type Block struct {
	Network netip.Prefix
	Until   time.Time
	Why     string
}

// Blocks lists the clients that are refused, whichever node has found it.
func (s *Server) Blocks() (out []Block) {
	d := &s.State.Current().Delivery
	for name, blocks := range s.Clients.Blocks(time.Now()) {
		why, on := "connections", d.LimitRate
		if name == messages {
			why, on = messages, d.LimitMessages
		}
		if !on {
			continue
		}
		for _, b := range blocks {
			out = append(out, Block{b.Network, b.Until, why})
		}
	}
	slices.SortFunc(out, func(a, b Block) int { return a.Network.Addr().Compare(b.Network.Addr()) })
	return out
}

// Unblock lets a client in again on both nodes, and tells whether it was blocked. An error says that
// the other node can't be asked: it may still refuse the client.
func (s *Server) Unblock(ctx context.Context, ip netip.Addr) (found bool, err error) {
	found = s.UnblockHere(ip)
	if s.unblock == nil {
		return found, nil
	}
	there, err := s.unblock(ctx, ip)
	s.UnblockHere(ip) // what the other node had reported meanwhile
	return found || there, err
}

// UnblockHere does so on this node only.
func (s *Server) UnblockHere(ip netip.Addr) bool { return s.Clients.Unblock(ip, time.Now()) }

// ReportClients is what the other node is to know of clients: what is new, or with all everything.
func (s *Server) ReportClients(all bool) ([]byte, error) {
	now := time.Now()
	r := s.Clients.Report(all, now)
	if all {
		for _, l := range s.Login.Locks() {
			r.Locks = append(r.Locks, tally.Lock{Key: l.Key, Left: l.Until.Sub(now).Milliseconds()})
		}
	}
	return r.Marshal()
}

// LearnClients takes over what the other node reports.
func (s *Server) LearnClients(raw []byte) error {
	r, err := tally.ParseReport(raw)
	if err != nil {
		return err
	}
	now := time.Now()
	s.Clients.Learn(r, now)
	for _, l := range r.Locks {
		s.Login.LearnLock(login.Lock{Key: l.Key, Until: now.Add(time.Duration(l.Left) * time.Millisecond)})
	}
	return nil
}
