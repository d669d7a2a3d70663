package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	smallBuf = 512       // kept in Conn: what an idle connection reads into
	bigBuf   = 32 << 10  // from the pool, while more than smallBuf is at hand
	maxSkip  = 1 << 20   // the most that is skipped of an overlong line
	maxLine  = 256 << 10 // the longest line ReadLine can be asked for
)

// ErrLineTooLong says that a line was longer than allowed. It has been read to
// its end, so the next read starts at the next line.
var ErrLineTooLong = errors.New("wire: line too long")

// ErrFlood says that an overlong line did not end within 1 MiB; the caller
// should close.
var ErrFlood = errors.New("wire: endless line")

var bigPool = sync.Pool{New: func() any { b := make([]byte, bigBuf); return &b }}

// release gives the pooled buffer back when nothing is in it.
func (c *Conn) release() {
	if c.r != c.w {
		return
	}
	c.r, c.w = 0, 0
	if c.big != nil {
		bigPool.Put(c.big)
		c.big = nil
	}
	c.buf = c.small[:]
}

// reserve makes room to read at least one byte behind the unread input and for
// want bytes in all.
func (c *Conn) reserve(want int) {
	if c.r > 0 && (c.w == len(c.buf) || c.r+want > len(c.buf)) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w < len(c.buf) && want <= len(c.buf) {
		return
	}
	if c.big == nil && want <= bigBuf {
		c.big = bigPool.Get().(*[]byte)
		n := copy(*c.big, c.buf[c.r:c.w])
		c.buf, c.r, c.w = *c.big, 0, n
		return
	}
	// Beyond the pooled size only for callers that ask for such lines.
	b := make([]byte, max(want, 2*len(c.buf)))
	n := copy(b, c.buf[c.r:c.w])
	if c.big != nil {
		bigPool.Put(c.big)
		c.big = nil
	}
	c.buf, c.r, c.w = b, 0, n
}

// fill reads more input behind what is buffered, want bytes of room in all. The
// phase must have been entered.
func (c *Conn) fill(want int) error {
	if c.eof != nil {
		return c.eof
	}
	if err := c.prepare(); err != nil {
		return err
	}
	if c.r == c.w {
		if c.clock.phase == phaseIdle && !c.full {
			c.release()
		}
		c.r, c.w = 0, 0
	}
	if c.full {
		want = max(want, smallBuf+1)
	}
	c.reserve(want)
	if c.full && c.tls == nil && c.comp == nil {
		// The client sent more than we had room for, so more is likely here:
		// take it before flushing, to answer a whole pipeline in one segment.
		if n, ok := readNow(c.raw, c.buf[c.w:], false); ok && n > 0 {
			c.took(n)
			return nil
		}
	}
	n, err := c.readIO(c.buf[c.w:])
	if n > 0 {
		c.took(n)
		if err != nil && !isTimeout(err) {
			c.eof = err
		}
		return nil
	}
	return err
}

// took books n bytes read behind the buffered ones.
func (c *Conn) took(n int) {
	c.full = c.w+n == len(c.buf)
	c.w += n
	c.count(n)
}

func (c *Conn) count(n int) {
	c.in.Add(int64(n))
	if c.clock.phase == phaseData {
		c.clock.bytes += int64(n)
	}
}

// readIO flushes, sets the deadline of the phase and reads once.
func (c *Conn) readIO(p []byte) (int, error) {
	if err := c.beforeRead(c.clock.phase == phaseIdle); err != nil {
		return 0, c.ended(err)
	}
	c.arm()
	n, err := c.io.Read(p)
	c.afterRead()
	if err != nil && n == 0 {
		err = c.ended(err)
	}
	return n, err
}

// arm sets the read deadline for the phase.
func (c *Conn) arm() {
	now := time.Now()
	t := c.cfg.Timeouts.orDefault()
	own := c.clock.deadline(&t, now)
	c.dmu.Lock()
	c.ownRead = own
	if c.wake {
		own = time.Unix(1, 0)
	}
	_ = c.raw.SetReadDeadline(earlier(c.userRead, own))
	c.dmu.Unlock()
}

// ended names the error of a read and remembers it when it is final.
func (c *Conn) ended(err error) error {
	if isTimeout(err) {
		c.dmu.Lock()
		own := !c.wake && (c.userRead.IsZero() || !c.userRead.Before(c.ownRead))
		c.dmu.Unlock()
		if own {
			return &TimeoutError{Reason: c.clock.reason()}
		}
		return err
	}
	switch {
	case errors.Is(err, io.EOF):
		c.setReason(ReasonClient)
		c.eof = io.EOF
	case c.closed.Load():
		c.eof = net.ErrClosed
	default:
		c.setReason(ReasonClient + ": " + cause(err))
		c.eof = err
	}
	return c.eof
}

// cause is an error's innermost text, which holds no socket addresses.
func cause(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &ne) && ne.Timeout())
}

// Buffered returns how many bytes are read and not consumed.
func (c *Conn) Buffered() int { return c.w - c.r }

// waiting reports whether input is at hand: buffered here or, on a plain
// socket, in the kernel.
func (c *Conn) waiting() bool {
	if c.r < c.w {
		return true
	}
	if c.tls != nil || c.comp != nil || c.needTLS.Load() {
		return false
	}
	var one [1]byte
	n, ok := readNow(c.raw, one[:], true)
	return ok && n > 0
}

// Read implements net.Conn; it counts as data.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.clock.enter(phaseData)
	n, err := c.readData(p)
	c.traceRead(p[:n])
	return n, err
}

func (c *Conn) readData(p []byte) (int, error) {
	if c.r < c.w {
		n := copy(p, c.buf[c.r:c.w])
		c.r += n
		return n, nil
	}
	if len(p) >= 4096 {
		if c.eof != nil {
			return 0, c.eof
		}
		if err := c.prepare(); err != nil {
			return 0, err
		}
		c.full = false
		c.release()
		n, err := c.readIO(p)
		if n > 0 {
			c.count(n)
			err = nil
		}
		return n, err
	}
	if err := c.fill(bigBuf); err != nil {
		return 0, err
	}
	n := copy(p, c.buf[c.r:c.w])
	c.r += n
	return n, nil
}

// rawLine returns the next line with its LF. A line with more than limit bytes
// before the LF is skipped and ErrLineTooLong returned. The slice is valid until
// the next read.
func (c *Conn) rawLine(limit int) ([]byte, error) {
	c.long = nil
	c.clock.restart(phaseIdle)
	if c.r < c.w {
		c.clock.restart(phaseCommand)
	}
	seen := 0
	for {
		if i := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n'); i >= 0 {
			end := c.r + seen + i + 1
			line := c.buf[c.r:end]
			c.r = end
			if len(line)-1 > limit {
				c.keepEnds(line)
				return nil, ErrLineTooLong
			}
			return line, nil
		}
		seen = c.w - c.r
		if seen > limit {
			return nil, c.skipLine()
		}
		if err := c.fill(seen + 1); err != nil {
			return nil, err
		}
		c.clock.enter(phaseCommand)
	}
}

// skipLine drops input up to the next LF.
func (c *Conn) skipLine() error {
	for skipped := 0; skipped < maxSkip; {
		if i := bytes.IndexByte(c.buf[c.r:c.w], '\n'); i >= 0 {
			c.keepEnds(c.buf[c.r : c.r+i+1])
			c.r += i + 1
			return ErrLineTooLong
		}
		c.keepEnds(c.buf[c.r:c.w])
		skipped += c.w - c.r
		c.r = c.w
		if err := c.fill(1); err != nil {
			return err
		}
	}
	return ErrFlood
}

// ReadLine returns the next line without its CRLF or LF. limit is the longest
// line allowed, without the line end, up to 256 KiB. The slice is valid until the
// next read. Errors: ErrLineTooLong (the line was skipped), ErrFlood,
// *TimeoutError, io.EOF, and io.ErrUnexpectedEOF within a line.
func (c *Conn) ReadLine(limit int) ([]byte, error) {
	line, err := c.rawLine(min(limit, maxLine) + 1)
	if err != nil {
		if err == io.EOF && c.r < c.w {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) > limit {
		c.keepEnds(line)
		return nil, ErrLineTooLong
	}
	if c.log != discard && c.tracing() {
		c.traceText(traceDirIn, TraceKind(c.traceIn.Load()), line)
	}
	return line, nil
}

// ReadN returns the next n bytes, n up to 32 KiB; valid until the next read. Use
// Literal for more.
func (c *Conn) ReadN(n int) ([]byte, error) {
	b, err := c.Peek(n)
	c.r += len(b)
	if err == io.EOF && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// Peek returns the next n bytes, n up to 32 KiB, without consuming them, or
// fewer with the error that kept the rest away.
func (c *Conn) Peek(n int) ([]byte, error) {
	if n > bigBuf {
		return nil, ErrLineTooLong
	}
	if c.w-c.r < n {
		c.clock.restart(phaseData)
	}
	for c.w-c.r < n {
		if err := c.fill(n); err != nil {
			return c.buf[c.r:c.w], err
		}
	}
	return c.buf[c.r : c.r+n], nil
}

// WaitReadable waits for input while holding no buffer but the connection's own
// 512 bytes. It returns nil when input is at hand, the context's error, a
// *TimeoutError after Timeouts.Idle, or the end of the connection.
func (c *Conn) WaitReadable(ctx context.Context) error {
	if c.r < c.w {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.clock.restart(phaseIdle)
	c.full = false
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { c.setWake(true); close(woken) })
	err := c.fill(1)
	if !stop() {
		<-woken
		c.setWake(false)
	}
	if err != nil && ctx.Err() != nil && isTimeout(err) {
		return ctx.Err()
	}
	return err
}

func (c *Conn) setWake(on bool) {
	c.dmu.Lock()
	c.wake = on
	if on {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
	c.dmu.Unlock()
}
