package pair

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// SoloRequest asks whether a node may serve alone.
type SoloRequest struct {
	Cluster   string `json:"cluster"`
	Node      string `json:"node"`
	Epoch     uint64 `json:"epoch"`   // the epoch that the grant begins
	Turn      uint64 `json:"turn"`    // of the node: the highest wins where it is not known who is the primary
	Primary   bool   `json:"primary"` // the node is the primary, and its lease runs: nobody can have taken over
	Stale     bool   `json:"stale"`   // it knows that the other has gone on without it
	Paired    bool   `json:"paired"`  // in Contact: both nodes are in sync; if not, the node serves alone
	LastIndex uint64 `json:"last_index"`
	Revision  uint64 `json:"revision,omitempty"` // newest of the arbiter's record that the node has seen

	// Uncontacted is how long nobody of the pair has been heard since the start; 0: somebody was.
	Uncontacted time.Duration `json:"-"`
	Released    bool          `json:"released"` // the primary, or its guard, has said that it let go
	Addresses   []netip.Addr  `json:"-"`        // floating addresses
}

// PairReport tells an arbiter that both nodes are in sync; each has signed Statement.
type PairReport struct {
	Cluster    string            `json:"cluster"`
	Epoch      uint64            `json:"epoch"`
	Turn       uint64            `json:"turn"`
	Primary    string            `json:"primary"`
	Serial     uint64            `json:"serial"` // of the arbiter's record to which this is the answer
	Signatures map[string][]byte `json:"signatures"`
	Arbiter    string            `json:"arbiter,omitempty"` // whom it is for; who signs must know that it decides
}

// Statement is what the nodes sign.
func (r PairReport) Statement() []byte {
	return fmt.Appendf(nil, "mailplusd pair in sync\n%s\n%d\n%d\n%s\n%d\n", r.Cluster, r.Epoch, r.Turn, r.Primary, r.Serial)
}

// Arbiter says whether a node may serve alone. It never sees mail, settings or log.
type Arbiter interface {
	Name() string
	// RequestSolo returns nil when the grant is durable. ErrRefused says no; any other
	// error means that the arbiter could not be asked, or its answer was lost. lasting: it
	// will refuse the other node from now on.
	RequestSolo(ctx context.Context, r SoloRequest) (lasting bool, err error)
	// Serial names the arbiter's record as it is now, for a report.
	Serial(ctx context.Context) (uint64, error)
	// ReportPair tells that both are in sync again.
	ReportPair(ctx context.Context, r PairReport) error
	// Contact keeps the primary's claim fresh and tells that the arbiter is there. It gives the
	// revision of the arbiter's record, which never falls; 0: it keeps none.
	// ErrUnreported: it believes something else than that both nodes are in sync.
	Contact(ctx context.Context, r SoloRequest) (revision uint64, err error)
}

// ErrUnreported says that the arbiter must be told by ReportPair that both nodes are in sync.
var ErrUnreported = errors.New("the arbiter does not know that both nodes are in sync")

// ErrRefused is an arbiter's no.
var ErrRefused = errors.New("the arbiter says no")

// errPartition is a no because the other node lives: this one must count itself stale.
var errPartition = fmt.Errorf("%w: the other node still serves", ErrRefused)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Manual grants nothing: only the administrator does (ha recover --force).
type Manual struct{}

// Name implements Arbiter.
func (Manual) Name() string { return "manual" }

// RequestSolo implements Arbiter.
func (Manual) RequestSolo(context.Context, SoloRequest) (bool, error) {
	return false, refuse("the administrator decides here: mpctl ha recover NODE --force")
}

// Serial implements Arbiter.
func (Manual) Serial(context.Context) (uint64, error) { return 0, nil }

// ReportPair implements Arbiter.
func (Manual) ReportPair(context.Context, PairReport) error { return nil }

// Contact implements Arbiter.
func (Manual) Contact(context.Context, SoloRequest) (uint64, error) { return 0, nil }

// Prober looks at the network around this node (cluster/vip).
type Prober interface {
	// Carrier tells whether the service interface has a link.
	Carrier() bool
	// Answers tells whether anybody has the address on the service LAN, within about a second.
	Answers(ctx context.Context, a netip.Addr) bool
	// Gateway gives the default gateways of the service interface.
	Gateway() []netip.Addr
}

// Gateway grants by what a node sees of the network: it reaches a target, and nobody else serves.
type Gateway struct {
	Probe     Prober
	Targets   []netip.Addr // none: the default gateway
	Cold      time.Duration
	Stale     time.Duration
	StaleAuto bool
}

// Name implements Arbiter.
func (g *Gateway) Name() string { return "gateway" }

// Serial implements Arbiter.
func (g *Gateway) Serial(context.Context) (uint64, error) { return 0, nil }

// ReportPair implements Arbiter.
func (g *Gateway) ReportPair(context.Context, PairReport) error { return nil }

// Contact implements Arbiter.
func (g *Gateway) Contact(ctx context.Context, _ SoloRequest) (uint64, error) {
	return 0, g.reach(ctx)
}

func (g *Gateway) reach(ctx context.Context) error {
	if !g.Probe.Carrier() {
		return refuse("the service interface has no carrier")
	}
	targets := g.Targets
	if len(targets) == 0 {
		targets = g.Probe.Gateway()
	}
	if len(targets) == 0 {
		return refuse("there is no default gateway and no target is set (mpctl ha set --target ADDRESS)")
	}
	answers := make(chan bool, len(targets))
	for _, t := range targets {
		go func() { answers <- g.Probe.Answers(ctx, t) }()
	}
	for range targets {
		if <-answers {
			return nil
		}
	}
	return refuse("no target answers, this node may be the one that is cut off")
}

// RequestSolo implements Arbiter. It keeps nothing: what it saw counts for this moment.
func (g *Gateway) RequestSolo(ctx context.Context, r SoloRequest) (lasting bool, err error) {
	return false, g.solo(ctx, r)
}

func (g *Gateway) solo(ctx context.Context, r SoloRequest) error {
	if r.Uncontacted > 0 && r.Uncontacted < g.Cold {
		return refuse("started %s ago without a word from the other node; the gateway rule waits %s", r.Uncontacted.Round(time.Second), g.Cold)
	}
	if r.Stale {
		if !g.StaleAuto {
			return refuse("the other node has gone on without this one, and has newer mail; mpctl ha recover NODE --force serves the older state")
		}
		if r.Uncontacted > 0 && r.Uncontacted < g.Stale {
			return refuse("this node has an older state and waits %s for the other", g.Stale)
		}
	}
	if err := g.reach(ctx); err != nil {
		return err
	}
	if r.Primary {
		return nil
	}
	// The floating address tells whether the other node serves. Its own address does not: a machine
	// whose process is frozen or has ended still answers for that, and nobody would serve.
	probes := r.Addresses
	answers := make(chan bool, len(probes))
	for _, a := range probes {
		go func() { answers <- g.Probe.Answers(ctx, a) }()
	}
	for range probes {
		if <-answers {
			return errPartition
		}
	}
	return nil
}

// Fallback asks First, and Then if First can't be asked.
type Fallback struct{ First, Then Arbiter }

// Name implements Arbiter.
func (f Fallback) Name() string { return f.First.Name() + " or " + f.Then.Name() }

// RequestSolo implements Arbiter.
func (f Fallback) RequestSolo(ctx context.Context, r SoloRequest) (lasting bool, err error) {
	lasting, err = f.First.RequestSolo(ctx, r)
	if err == nil || errors.Is(err, ErrRefused) {
		return lasting, err
	}
	return f.Then.RequestSolo(ctx, r)
}

// Serial implements Arbiter.
func (f Fallback) Serial(ctx context.Context) (uint64, error) { return f.First.Serial(ctx) }

// ReportPair implements Arbiter.
func (f Fallback) ReportPair(ctx context.Context, r PairReport) error {
	return f.First.ReportPair(ctx, r)
}

// Contact implements Arbiter.
func (f Fallback) Contact(ctx context.Context, r SoloRequest) (uint64, error) {
	return f.First.Contact(ctx, r)
}
