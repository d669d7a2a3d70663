package transport

import (
	"crypto/tls"
	"sync"
)

// Conn is a connection of the link. It is a TLS connection of a pinned peer.
type Conn struct {
	*tls.Conn
	link  *link
	t     *Transport
	peer  *peer
	proto Proto
	once  sync.Once
}

// Node is the ID of the peer at the other end.
func (c *Conn) Node() string { return c.peer.id }

// Proto is what is spoken on the connection.
func (c *Conn) Proto() Proto { return c.proto }

// Close says goodbye to the peer and ends the connection.
func (c *Conn) Close() error {
	c.once.Do(c.forget)
	return c.Conn.Close()
}

// kill ends the connection at once, without the goodbye that may block.
func (c *Conn) kill() {
	c.once.Do(c.forget)
	c.link.Close()
}

func (c *Conn) forget() {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	delete(c.peer.conns, c)
	c.peer.open[c.proto]--
}
