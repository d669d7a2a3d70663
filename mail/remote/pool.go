package remote

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Limits of connections that are kept for the next message.
const (
	idleTime    = 3 * time.Second // other servers' places are not ours to keep
	maxIdle     = 100             // connections in all
	maxMessages = 100             // over one connection
)

// pool keeps connections for a moment, by destination.
type pool struct {
	mu     sync.Mutex
	idle   map[string][]*session
	n      int
	closed bool
}

// poolKey tells which connections serve a job as well as a new one: the same destination,
// demands on TLS, and login.
func (d *delivery) poolKey() string {
	j := d.j
	key := Destination(j.Route, j.Domain) + " " + d.prot.key()
	if r := j.Route; r != nil && r.User != "" {
		key += fmt.Sprintf(" %x", sha256.Sum256([]byte(r.User+"\x00"+r.Password)))
	}
	return key
}

// get takes the connection that was used last.
func (p *pool) get(key string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.remove(s)
	s.idle.Stop()
	return s
}

// put keeps a connection, or ends it when it has had its share.
func (p *pool) put(s *session) {
	p.mu.Lock()
	full := p.closed || p.n >= maxIdle || s.used >= maxMessages
	if !full {
		if p.idle == nil {
			p.idle = map[string][]*session{}
		}
		p.idle[s.key] = append(p.idle[s.key], s)
		p.n++
		s.idle = time.AfterFunc(idleTime, func() {
			p.mu.Lock()
			mine := p.remove(s)
			p.mu.Unlock()
			if mine {
				s.quit()
			}
		})
	}
	p.mu.Unlock()
	if full {
		s.quit()
	}
}

// remove takes a session out, and tells whether it was in. The caller holds mu.
func (p *pool) remove(s *session) bool {
	list := p.idle[s.key]
	for i, x := range list {
		if x == s {
			list = append(list[:i], list[i+1:]...)
			if len(list) == 0 {
				delete(p.idle, s.key)
			} else {
				p.idle[s.key] = list
			}
			p.n--
			return true
		}
	}
	return false
}

// close ends what is kept; later connections end after their message.
func (p *pool) close() {
	p.mu.Lock()
	var all []*session
	for _, list := range p.idle {
		all = append(all, list...)
	}
	p.idle, p.n, p.closed = nil, 0, true
	p.mu.Unlock()
	for _, s := range all {
		s.idle.Stop()
		s.end()
	}
}

// Close ends the connections that are kept for later messages.
func (c *Client) Close() { c.pool.close() }

// tickets let TLS with a known server begin faster.
func (c *Client) tickets() tls.ClientSessionCache {
	c.once.Do(func() { c.cache = tls.NewLRUClientSessionCache(500) })
	return c.cache
}
