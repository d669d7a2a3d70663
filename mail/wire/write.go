package wire

import (
	"net"
	"sync"
	"time"
)

// writeLimit is how much output is collected before it leaves.
const writeLimit = 32 << 10

// outPool holds output buffers; those that grew beyond writeLimit are dropped.
var outPool = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Write collects p. It leaves when the reader is about to block, at 32 KiB, at
// Flush, or at once while the reader is blocked.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.prepare(); err != nil {
		return 0, err
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil {
		return 0, c.werr
	}
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if c.log != discard {
		c.traceWrite(p)
	}
	if len(p) >= writeLimit {
		if err := c.flushLocked(0); err != nil {
			return 0, err
		}
		return c.sendLocked(p, 0)
	}
	c.appendLocked(p)
	if c.blocked || len(*c.out) >= writeLimit {
		if err := c.flushLocked(0); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// WriteString is Write for a string.
func (c *Conn) WriteString(s string) (int, error) { return c.Write([]byte(s)) }

// Flush sends what Write has collected.
func (c *Conn) Flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.flushLocked(0)
}

func (c *Conn) appendLocked(p []byte) {
	if c.out == nil {
		c.out = outPool.Get().(*[]byte)
	}
	*c.out = append(*c.out, p...)
}

// flushLocked sends the collected output and gives the buffer back. limit
// replaces Timeouts.Write when it is not zero.
func (c *Conn) flushLocked(limit time.Duration) error {
	if c.out == nil {
		return c.werr
	}
	b := c.out
	c.out = nil
	var err error
	if len(*b) > 0 {
		_, err = c.sendLocked(*b, limit)
	}
	if cap(*b) <= 2*writeLimit {
		*b = (*b)[:0]
		outPool.Put(b)
	}
	return err
}

// sendLocked writes to the network, each 32 KiB with a deadline of its own.
func (c *Conn) sendLocked(p []byte, limit time.Duration) (int, error) {
	if c.werr != nil {
		return 0, c.werr
	}
	if limit == 0 {
		limit = c.cfg.Timeouts.orDefault().Write
	}
	total := 0
	for len(p) > 0 {
		part := p[:min(len(p), writeLimit)]
		if !c.closed.Load() {
			_ = c.raw.SetWriteDeadline(time.Now().Add(limit))
		}
		n, err := c.io.Write(part)
		total += n
		c.sent.Add(int64(n))
		if err != nil {
			c.werr = err
			c.setReason(ReasonWrite)
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

// beforeRead flushes and, when the protocol is between two commands, delivers
// a pending goodbye. From here until afterRead writes leave at once.
func (c *Conn) beforeRead(idle bool) error {
	c.wmu.Lock()
	if c.closed.Load() {
		c.wmu.Unlock()
		return net.ErrClosed
	}
	if idle && c.bye != nil {
		c.appendLocked(c.bye)
		c.wmu.Unlock()
		_ = c.CloseWith(ReasonShutdown)
		return net.ErrClosed
	}
	err := c.flushLocked(0)
	c.blocked, c.reading, c.idle = true, true, idle
	c.wmu.Unlock()
	return err
}

func (c *Conn) afterRead() {
	c.wmu.Lock()
	c.blocked, c.reading, c.idle = false, false, false
	c.wmu.Unlock()
}
