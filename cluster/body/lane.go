package body

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Dial opens a connection to a node's Server.
type Dial func(ctx context.Context, node string) (net.Conn, error)

// Defaults of a lane.
const (
	defaultStall = 5 * time.Second
	dialLimit    = 5 * time.Second
	minRedial    = 20 * time.Millisecond
	maxRedial    = time.Second
	keepAlive    = 15 * time.Second
	writeAtOnce  = 256 << 10
)

// job is something to be sent on a lane.
type job interface {
	// encode appends the job's next frames, some 64 KiB at most, for the conn-th connection;
	// more says that it has more to send now.
	encode(buf []byte, conn uint64) (out []byte, more bool)
	// finish is called with the answer, once.
	finish(err error)
}

// lane is one kept connection to a peer. What was not answered when a connection ends is
// sent again on the next one.
type lane struct {
	node  string
	dial  Dial
	stall time.Duration
	log   *slog.Logger
	lazy  bool // dial only when there is something to send
	// open, when set, is called for each connection; what it returns gets the frames that
	// are no answers, and close when the connection ends.
	open func(l *lane) receiver

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{}

	mu      sync.Mutex
	queue   []job
	pending map[uint64]job
	seq     uint64

	heard    atomic.Int64 // when something came, or was asked for after silence
	handling atomic.Bool  // the reader is at work, not waiting
	lost     atomic.Int64 // connections that ended
}

// receiver takes frames that a lane doesn't know.
type receiver interface {
	frame(f *frames, kind byte, n int) error
	close()
}

func (l *lane) start() {
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wake = make(chan struct{}, 1)
	l.pending = map[uint64]job{}
	if l.stall == 0 {
		l.stall = defaultStall
	}
	l.wg.Add(1)
	go l.run()
}

// stop ends the lane; answers that are owed come no more.
func (l *lane) stop() {
	l.cancel()
	l.wg.Wait()
}

var started = time.Now()

// now is a monotonic time.
func now() int64 { return int64(time.Since(started)) }

// number gives the next sequence number and notes the job as not answered.
func (l *lane) number(j job) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	if len(l.pending) == 0 {
		l.heard.Store(now())
	}
	l.pending[l.seq] = j
	return l.seq
}

func (l *lane) push(j job) {
	l.mu.Lock()
	l.queue = append(l.queue, j)
	l.mu.Unlock()
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take removes a job that was answered or given up.
func (l *lane) take(seq uint64) job {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.pending[seq]
	delete(l.pending, seq)
	return j
}

func (l *lane) answer(seq uint64, err error) {
	if j := l.take(seq); j != nil {
		j.finish(err)
	}
}

func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && len(l.pending) == 0
}

func (l *lane) run() {
	defer l.wg.Done()
	delay := minRedial
	for conn := uint64(1); l.ctx.Err() == nil; conn++ {
		for l.lazy && l.idle() {
			select {
			case <-l.wake:
			case <-l.ctx.Done():
				return
			}
		}
		ctx, cancel := context.WithTimeout(l.ctx, dialLimit)
		c, err := l.dial(ctx, l.node)
		cancel()
		if err == nil {
			var good bool
			if good, err = l.serve(c, conn); good {
				delay = minRedial
			}
			l.lost.Add(1)
			l.again()
		}
		if l.ctx.Err() != nil {
			return
		}
		l.log.Debug("no connection for bodies", "node", l.node, "err", err, "again in", delay)
		select {
		case <-time.After(delay):
		case <-l.ctx.Done():
		}
		delay = min(2*delay, maxRedial)
	}
}

// again queues everything that was not answered, in the old order, and behind it what was
// queued and has no number yet.
func (l *lane) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbered := make(map[job]bool, len(l.pending))
	for _, j := range l.pending {
		numbered[j] = true
	}
	var queue []job
	for _, seq := range slices.Sorted(maps.Keys(l.pending)) {
		queue = append(queue, l.pending[seq])
	}
	for _, j := range l.queue {
		if !numbered[j] {
			queue = append(queue, j)
		}
	}
	l.queue = queue
}

// serve uses a connection until it ends. good says that the other end answered.
func (l *lane) serve(c net.Conn, conn uint64) (good bool, err error) {
	defer c.Close()
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	l.heard.Store(now())
	var wg sync.WaitGroup
	wg.Add(2)
	var answered atomic.Bool
	go func() { defer wg.Done(); cancel(l.read(c, &answered)) }()
	go func() { defer wg.Done(); l.watch(ctx, cancel) }()
	err = l.write(ctx, c, conn)
	cancel(err)
	c.Close()
	wg.Wait()
	return answered.Load(), context.Cause(ctx)
}

// write sends what is queued, all that has gathered at once.
func (l *lane) write(ctx context.Context, c net.Conn, conn uint64) error {
	buf := append(make([]byte, 0, 64<<10), preface...)
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		for len(buf) < writeAtOnce {
			l.mu.Lock()
			if len(l.queue) == 0 {
				l.mu.Unlock()
				break
			}
			j := l.queue[0]
			l.queue[0] = nil
			l.queue = l.queue[1:]
			l.mu.Unlock()
			var more bool
			if buf, more = j.encode(buf, conn); more {
				l.push(j)
			}
		}
		if len(buf) > 0 {
			if _, err := c.Write(buf); err != nil {
				return err
			}
			if buf = buf[:0]; cap(buf) > 4*writeAtOnce {
				buf = make([]byte, 0, 64<<10)
			}
			continue
		}
		select {
		case <-l.wake:
		case <-t.C:
			buf = header(buf, frameAlive, 0)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch ends a connection that owes answers and says nothing: the server says at least
// that it is alive while it works.
func (l *lane) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	t := time.NewTicker(max(l.stall/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			l.mu.Lock()
			owed := len(l.pending) > 0
			l.mu.Unlock()
			if owed && !l.handling.Load() && now()-l.heard.Load() > int64(l.stall) {
				cancel(fmt.Errorf("no answer from %s for %v", l.node, l.stall))
				return
			}
		}
	}
}

func (l *lane) read(c net.Conn, answered *atomic.Bool) error {
	var rc receiver
	if l.open != nil {
		rc = l.open(l)
		defer rc.close()
	}
	f := newFrames(c)
	for {
		kind, n, err := f.next()
		if err != nil {
			return err
		}
		answered.Store(true)
		l.handling.Store(true)
		err = l.frame(rc, f, kind, n)
		l.heard.Store(now())
		l.handling.Store(false)
		if err != nil {
			return err
		}
	}
}

func (l *lane) frame(rc receiver, f *frames, kind byte, n int) error {
	switch {
	case kind == frameAcks:
		p, err := f.payload(n)
		for ; err == nil && len(p) > 0; p = p[ackSize:] {
			l.answer(binary.BigEndian.Uint64(p), code(p[8]).err())
		}
		return err
	case kind == frameAlive:
		return nil
	case rc != nil:
		return rc.frame(f, kind, n)
	}
	return fmt.Errorf("%w: kind %d is no answer", errProtocol, kind)
}
