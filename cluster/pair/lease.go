package pair

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"mailplusd/cluster/lease"
)

var errNoLease = errors.New("no lease from the other node")

// key names the time in which one node is the primary of one epoch, as lease frames do.
func key(f Facts) uint64 { return f.Epoch<<24 | f.Turn&(1<<24-1) }

// align sets lease and promise to what the facts say. c.mu is not held.
func (c *Controller) align(f Facts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mine := f.Primary == f.Self.ID
	mode := fmt.Sprint(f.State, mine, key(f))
	if mode == c.mode {
		return
	}
	c.mode = mode
	c.unled, c.stalled = 0, false // they speak of another time as the primary
	switch {
	case f.State == Solo:
		c.lease.Solo(key(f))
	case f.State == Paired && mine:
		c.lease.Pair(key(f))
		select {
		case c.ask <- struct{}{}:
		default:
		}
	default:
		c.lease.StepDown()
	}
	if (f.State == Paired || f.State == Joining) && !mine {
		c.promise.Follow(key(f))
	} else {
		c.promise.Stop()
	}
}

// until is how long this node may hold the address without another word.
func (c *Controller) until() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lease.Until(c.now())
}

// Covered tells whether this node may hold the address, lead and acknowledge now.
func (c *Controller) Covered() bool { return c.cfg.Book.Facts().State == Single || c.covered() }

func (c *Controller) covered() bool {
	_, ok := c.until()
	return ok
}

// leaseLoop asks the other node for its promise every frame, over one kept connection.
func (c *Controller) leaseLoop(ctx context.Context) {
	var conn net.Conn
	var readers sync.WaitGroup
	defer readers.Wait()
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	wait := c.cfg.Timing.Frame
	for c.untilFrame(ctx, wait) {
		wait = c.cfg.Timing.Frame
		now := c.now()
		c.mu.Lock()
		if c.detect.Tick(now) {
			c.log.Warn("this process was not running for a while: what it knew of the other node counts no more")
		}
		c.mu.Unlock()
		f := c.cfg.Book.Facts()
		if f.Primary != f.Self.ID || f.State != Paired && f.State != Solo || f.Peer.ID == "" {
			if conn != nil { // or the first request of another time as the primary goes into a dead one
				conn.Close()
				conn = nil
			}
			continue
		}
		if conn == nil {
			dctx, cancel := context.WithTimeout(ctx, max(c.cfg.Timing.Frame, 300*time.Millisecond))
			var err error
			conn, err = c.cfg.Link.DialLease(dctx, f.Peer.ID)
			cancel()
			if err != nil {
				conn = nil
				c.missed(err, now)
				if errors.Is(err, syscall.ECONNREFUSED) {
					wait = min(wait, 300*time.Millisecond)
				}
				continue
			}
			readers.Add(1)
			go func(conn net.Conn) {
				defer readers.Done()
				c.readAcks(conn)
			}(conn)
		}
		c.mu.Lock()
		frame := c.lease.Request(c.now())
		c.mu.Unlock()
		raw, err := frame.AppendBinary(nil)
		if err == nil {
			conn.SetWriteDeadline(time.Now().Add(c.cfg.Timing.Frame))
			_, err = conn.Write(raw)
		}
		if err != nil {
			conn.Close()
			conn = nil
			c.missed(err, now)
			wait = min(wait, 50*time.Millisecond) // another path may be there
		}
	}
}

// untilFrame waits for the next frame: d, or until this node has become the primary, which without a
// promise has no address. False when ctx ends.
func (c *Controller) untilFrame(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-c.ask:
	}
	return true
}

// readAcks takes the answers until the connection ends. Without one for a term it is given up.
func (c *Controller) readAcks(conn net.Conn) {
	defer conn.Close()
	var raw [lease.FrameSize]byte
	for {
		conn.SetReadDeadline(time.Now().Add(c.cfg.Timing.Silent))
		if _, err := io.ReadFull(conn, raw[:]); err != nil {
			return // the next write finds out
		}
		frame, err := lease.ParseFrame(raw[:])
		if err != nil {
			c.log.Warn("lease", "err", err)
			return
		}
		now := c.now()
		c.mu.Lock()
		_, before := c.lease.Until(now)
		longer := c.lease.Ack(frame)
		if longer {
			c.detect.Heard(now)
			c.peer.heard = now
		}
		c.mu.Unlock()
		if longer {
			c.kickRenew()
			if !before {
				c.kick() // the address may be taken
			}
		}
	}
}

// promiseLoop takes in lease connections of the primary.
func (c *Controller) promiseLoop(ctx context.Context) {
	l := c.cfg.Link.ListenLease()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conns.Add(1)
		go func() {
			defer conns.Done()
			end := context.AfterFunc(ctx, func() { conn.Close() })
			defer end()
			defer conn.Close()
			c.answerFrames(conn)
		}()
	}
}

func (c *Controller) answerFrames(conn net.Conn) {
	n, ok := conn.(interface{ Node() string })
	var raw [lease.FrameSize]byte
	for {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(conn, raw[:]); err != nil {
			return
		}
		frame, err := lease.ParseFrame(raw[:])
		if err != nil || !ok || n.Node() != c.cfg.Book.Facts().Peer.ID {
			return
		}
		ack, promised := c.answer(frame)
		if !promised {
			continue
		}
		out, err := ack.AppendBinary(nil)
		if err == nil {
			conn.SetWriteDeadline(time.Now().Add(c.cfg.Timing.Frame))
			_, err = conn.Write(out)
		}
		if err != nil {
			return
		}
	}
}

func (c *Controller) answer(frame lease.Frame) (ack lease.Frame, ok bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame.Kind == lease.Released {
		if c.promise.Released(frame) {
			c.released = true
			c.kick()
		}
		return ack, false
	}
	ack, ok = c.promise.Request(frame, now)
	if ok {
		c.detect.Heard(now)
		c.peer.heard = now
		c.released = false
	}
	return ack, ok
}

// renewLoop keeps the address as long as it may be kept, and no longer.
func (c *Controller) renewLoop(ctx context.Context) {
	t := time.NewTicker(max(c.cfg.Timing.Frame/2, 50*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.renew:
		}
		if len(c.cfg.Address.Held()) == 0 {
			continue
		}
		if err := c.cfg.Address.Renew(ctx, c.until); err != nil && c.every("renew log", 5*time.Second) {
			c.log.Error("the floating address can't be kept", "err", err)
		}
		if len(c.cfg.Address.Held()) == 0 {
			c.mu.Lock()
			c.holds = false
			c.mu.Unlock()
			c.log.Warn("the floating address was given up: the lease is over")
			c.kick()
		}
	}
}

func (c *Controller) kickRenew() {
	select {
	case c.renew <- struct{}{}:
	default:
	}
}

// farewell is what the guard says for this process when it has died: a signed release.
func (c *Controller) farewell(f Facts) []byte {
	c.mu.Lock()
	frame := c.lease.Farewell()
	c.mu.Unlock()
	raw, err := frame.AppendBinary(nil)
	if err != nil {
		return nil
	}
	return append(raw, c.cfg.Sign(farewellStatement(f.Cluster, raw))...)
}

func farewellStatement(cluster string, frame []byte) []byte {
	return append([]byte("mailplusd farewell\n"+cluster+"\n"), frame...)
}

// Farewell takes a word that the guard of the peer's dead process has sent, by a way that
// proves nothing: the signature does.
func (c *Controller) Farewell(word []byte) error {
	if len(word) != lease.FrameSize+ed25519.SignatureSize {
		return errors.New("pair: a farewell of another length")
	}
	f := c.cfg.Book.Facts()
	raw, sig := word[:lease.FrameSize], word[lease.FrameSize:]
	if len(f.Peer.Key) != ed25519.PublicKeySize || !ed25519.Verify(f.Peer.Key, farewellStatement(f.Cluster, raw), sig) {
		return errors.New("pair: a farewell that the peer has not signed")
	}
	frame, err := lease.ParseFrame(raw)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame.Kind == lease.Released && c.promise.Released(frame) {
		c.released = true
		c.log.Warn("the primary's process has died, its guard has released the address")
		c.kick()
	}
	return nil
}
