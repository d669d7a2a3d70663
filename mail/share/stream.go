package share

import (
	"net"
	"sync"
	"sync/atomic"
)

// stream is a session on the link. On the node that serves, its addresses are the client's.
type stream struct {
	net.Conn
	client, local net.Addr    // nil: the link's own
	secret        atomic.Bool // the client speaks TLS with the node that serves

	mu     sync.Mutex
	closed bool
	gone   func()
	more   func()
}

// RemoteAddr is the client's address on the node that serves.
func (s *stream) RemoteAddr() net.Addr {
	if s.client != nil {
		return s.client
	}
	return s.Conn.RemoteAddr()
}

// LocalAddr is the address that the client connected to on the node that serves.
func (s *stream) LocalAddr() net.Addr {
	if s.local != nil {
		return s.local
	}
	return s.Conn.LocalAddr()
}

// CloseWrite tells the other end that nothing more comes.
func (s *stream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// onClose has f called when the stream is closed; it calls it at once, and returns false,
// if it is already.
func (s *stream) onClose(f func()) bool {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.more = f
	}
	s.mu.Unlock()
	if closed {
		f()
	}
	return !closed
}

// Close ends the stream at once. What was written before still leaves.
func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	gone, more := s.gone, s.more
	s.mu.Unlock()
	err := kill(s.Conn)
	if gone != nil {
		gone()
	}
	if more != nil {
		more()
	}
	return err
}

// kill closes the socket under TLS first: TLS's goodbye would wait for a peer that reads
// nothing.
func kill(c net.Conn) error {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		err := t.NetConn().Close()
		_ = c.Close()
		return err
	}
	return c.Close()
}
