package body

import (
	"context"
	"errors"
	"iter"
	"sync"

	"golang.org/x/time/rate"
)

// Limits of a back-fill.
const (
	defaultInFlight = 64
	maxNamed        = 1000
	minBurst        = 1 << 20
)

// BackfillOptions of Backfill.
type BackfillOptions struct {
	RateMBps float64 // 10^6 octets a second; 0: as fast as it goes
	InFlight int     // bodies asked for at once; 0: 64
	// Progress is called now and then, from one goroutine at a time.
	Progress func(BackfillStats)
}

// BackfillStats is what a back-fill did.
type BackfillStats struct {
	Checked int64 // names that were compared
	Fetched int64 // bodies stored here
	Missing int64 // bodies that the peer lacks, too
	Corrupt int64 // bodies that are damaged on the peer
	// Names has the first 1,000 bodies that are missing or corrupt.
	Names []ID
}

// Backfill pulls what this node lacks of the wanted bodies, in their order, many at once.
// It goes on over broken connections until ctx ends and can be repeated at any time: what
// is here already costs a look into the index. Bodies that the peer can't give are counted
// and left out; an error is one of this node (ErrNoSpace, ErrFault), ErrNoPeer or ctx's.
func (p *Puller) Backfill(ctx context.Context, want iter.Seq[ID], o BackfillOptions) (BackfillStats, error) {
	cur, gone, err := p.current()
	if err != nil {
		return BackfillStats{}, err
	}
	if o.InFlight <= 0 {
		o.InFlight = defaultInFlight
	}
	var limit *rate.Limiter
	if o.RateMBps > 0 {
		limit = rate.NewLimiter(rate.Limit(o.RateMBps*1e6), max(minBurst, int(o.RateMBps*1e5)))
	}
	b := &backfill{p: p, o: o, window: make(chan struct{}, o.InFlight), failed: make(chan struct{})}
	b.lane = p.newLane(cur.node, limit)
	b.lane.start()
	defer b.lane.stop()
	for id := range want {
		if err := b.next(ctx, gone, id); err != nil {
			return b.result(err)
		}
	}
	for range o.InFlight { // until all have come
		if err := b.room(ctx, gone); err != nil {
			return b.result(err)
		}
	}
	return b.result(nil)
}

// backfill is one run of Backfill.
type backfill struct {
	p      *Puller
	o      BackfillOptions
	lane   *lane
	window chan struct{}
	failed chan struct{}

	mu    sync.Mutex
	stats BackfillStats
	err   error
}

const progressEvery = 256

func (b *backfill) result(err error) (BackfillStats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.stats
	st.Names = append([]ID(nil), st.Names...)
	if b.err != nil {
		err = b.err
	}
	if b.o.Progress != nil {
		b.o.Progress(st)
	}
	return st, err
}

// room waits until one more body may be asked for.
func (b *backfill) room(ctx context.Context, gone chan struct{}) error {
	select {
	case b.window <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-gone:
		return ErrNoPeer
	case <-b.failed:
		return ErrFault // the reason is in b.err
	}
}

func (b *backfill) next(ctx context.Context, gone chan struct{}, id ID) error {
	b.mu.Lock()
	b.stats.Checked++
	if b.o.Progress != nil && b.stats.Checked%progressEvery == 0 {
		b.o.Progress(b.stats)
	}
	b.mu.Unlock()
	if b.p.o.Store.Has(id, -1) {
		return ctx.Err()
	}
	if err := b.room(ctx, gone); err != nil {
		return err
	}
	b.get(id, 1)
	return nil
}

func (b *backfill) get(id ID, try int) {
	r := getRequest(id)
	r.then = func(err error) {
		if errors.Is(err, ErrCorrupt) && try < maxDamaged { // damaged on the way?
			b.get(id, try+1)
			return
		}
		b.came(id, err)
		<-b.window
	}
	r.send(b.lane)
}

func (b *backfill) came(id ID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.stats.Fetched++
		return
	case errors.Is(err, ErrNotFound):
		b.stats.Missing++
	case errors.Is(err, ErrCorrupt):
		b.stats.Corrupt++
	default:
		if b.err == nil {
			b.err = err
			close(b.failed)
		}
		return
	}
	if len(b.stats.Names) < maxNamed {
		b.stats.Names = append(b.stats.Names, id)
	}
}
