package transport

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keepAlive finds out within about 5 s that an idle peer has vanished.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

// link is the TCP connection under TLS. It notes when something was heard.
type link struct {
	*net.TCPConn
	heard atomic.Pointer[atomic.Int64] // of the peer, once it is known
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.TCPConn.Read(b)
	if n > 0 {
		if h := l.heard.Load(); h != nil {
			h.Store(int64(sinceStart()))
		}
	}
	return n, err
}

// started anchors the monotonic clock.
var started = time.Now()

func sinceStart() time.Duration { return time.Since(started) }

// tune sets how soon a silent connection is given up. A socket that the kernel has closed
// meanwhile shows that at the next read.
func tune(c *net.TCPConn, stalled time.Duration) {
	_ = c.SetNoDelay(true)
	_ = c.SetKeepAliveConfig(keepAlive)
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stalled/time.Millisecond))
		})
	}
}
