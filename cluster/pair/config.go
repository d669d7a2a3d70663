package pair

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/lease"
)

// Timing of the pair. Zero takes the default.
type Timing struct {
	lease.Settings
	Stable time.Duration // a returning node is up to date for so long before it counts again; 3 s
	Cold   time.Duration // after a start without any contact, before the gateway rule may decide; 2 min
	Stale  time.Duration // without the node that has newer mail, before an older state is served; 1 min
}

// Defaults fills in what is zero.
func (t *Timing) Defaults() {
	if t.Settings == (lease.Settings{}) {
		t.Settings = lease.Default()
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&t.Stable, 3 * time.Second}, {&t.Cold, 2 * time.Minute}, {&t.Stale, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
}

// Link is the way to the peer and the witness (cluster/transport).
type Link interface {
	// Call sends a request and waits for the answer. ErrUnreachable in the error means
	// that nothing happened.
	Call(ctx context.Context, node, method string, req []byte) ([]byte, error)
	// Handle answers calls of a method.
	Handle(method string, h func(ctx context.Context, node string, req []byte) ([]byte, error))
	// SetMembers replaces the pinned nodes.
	SetMembers(...Member) error
	// DialLease opens a connection for lease frames; ECONNREFUSED in the error means that
	// no process listens there.
	DialLease(ctx context.Context, node string) (net.Conn, error)
	// ListenLease takes them in; the connections implement interface{ Node() string }.
	ListenLease() net.Listener
}

// Until says until when something may be done, if it may be done at all (lease.Primary.Until).
type Until func() (end time.Duration, ok bool)

// Address is the floating address of this node: one or several of them, as one.
type Address interface {
	// Acquire probes, if asked, adds the addresses, and announces them. Who else answers
	// makes it ErrInUse. Addresses held and not wanted go.
	Acquire(ctx context.Context, want []netip.Prefix, probe bool, until Until) error
	// Renew gives the held addresses a new lifetime, never adding one that has gone. It
	// drops them when until says so.
	Renew(ctx context.Context, until Until) error
	// Leave ends the sessions at the held addresses between two commands, because they are about
	// to be released; it returns when that is done or ctx ends. From then on new connections wait,
	// until Release or Stay.
	Leave(ctx context.Context)
	// Stay takes back Leave: the addresses stay.
	Stay()
	// Release stops announcing and removes them.
	Release(ctx context.Context) error
	Held() []netip.Prefix
	// LastWord is sent to addrs by the guard when this process dies while it holds.
	LastWord(word []byte, addrs []string)
}

// ErrInUse says that somebody else answers for the floating address.
var ErrInUse = errors.New("the floating address is in use")

// Setup is the replicated part of what the controller follows.
type Setup struct {
	Known     bool           `json:"known,omitempty"` // it has been read: who is not named in it is not wanted
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Arbiter   string         `json:"arbiter"`            // "witness", "gateway" or "manual"
	Fallback  string         `json:"fallback,omitempty"` // arbiter when the witness does not answer: "" or "gateway"
	Witness   *Member        `json:"witness,omitempty"`
	Targets   []netip.Addr   `json:"targets,omitempty"`
	StaleAuto bool           `json:"stale_auto,omitempty"` // a node that was left behind may serve by itself after Timing.Stale
	TwoCopies bool           `json:"two_copies,omitempty"` // accept no mail while there is one node
}

// Hooks are what the controller needs of the rest of the node.
type Hooks interface {
	// Setup reads the replicated set-up of the pair.
	Setup() Setup
	// Epoch is the last epoch that has been started in the state.
	Epoch() uint64
	// StartEpoch proposes the first entry of an epoch.
	StartEpoch(ctx context.Context, b Branch, forced, settings bool) error
	// Together notes in the state that both nodes are in sync, if it does not say so yet.
	Together(ctx context.Context, epoch uint64) error
	// Mirror copies bodies to node before an entry names them; "" copies to nobody.
	Mirror(node string)
	// Missing counts bodies that the state names and this disk lacks, as the back-fill from
	// node goes on; it starts one if none runs. ok: a pass that began after this node had
	// applied the entry since found everything.
	Missing(node string, since uint64) (n int64, ok bool)
	// Follow opens or closes the way of the log to the peer.
	Follow(node string, open bool)
	// Serve tells in which capacity the node serves.
	Serve(Serving)
	// Merge replays this node's own entries behind branch.Index on the winner, once nothing
	// of this node is under way or can be acknowledged any more, and returns when
	// they are all durable there. It is repeated until it succeeds.
	Merge(ctx context.Context, winner string, branch Branch) error
	// Rejoin has the node stopped and started anew, soon: Facts.Aside says that its log must
	// be put aside before. It may be called again meanwhile.
	Rejoin()
	// Load is what the peer may show of this node.
	Load() []byte
}

// Serving says what the mail services may do.
type Serving struct {
	Accept  bool // new sessions from the world
	Address bool // this node holds the floating address
	Why     string
}

// Config of a Controller.
type Config struct {
	Node    *cluster.Node
	Book    *Book
	Link    Link
	Address Address
	Hooks   Hooks
	Arbiter func(Setup) Arbiter
	Timing  Timing
	Version string
	Formats string
	Sign    func([]byte) []byte // with this node's key
	Logger  *slog.Logger
	// Now is CLOCK_BOOTTIME; nil: the real one. Wall is for people.
	Now  func() time.Duration
	Wall func() time.Time
}
