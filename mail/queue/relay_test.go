package queue_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// elastic is a connection whose time is the test's: its read deadline passes when that much time has been
// let pass, and time passes only while somebody reads.
type elastic struct {
	net.Conn
	mu      sync.Mutex
	left    time.Duration // until the deadline; 0: there is none
	reading int
}

func (e *elastic) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left = 0; !t.IsZero() {
		e.left = max(time.Until(t), 1)
	}
	return e.Conn.SetReadDeadline(time.Time{})
}

func (e *elastic) SetDeadline(t time.Time) error {
	e.Conn.SetWriteDeadline(t)
	return e.SetReadDeadline(t)
}

func (e *elastic) Read(p []byte) (int, error) {
	e.mu.Lock()
	e.reading++
	e.mu.Unlock()
	n, err := e.Conn.Read(p)
	e.mu.Lock()
	e.reading--
	e.mu.Unlock()
	return n, err
}

// pass lets a minute pass, if somebody waits.
func (e *elastic) pass() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reading == 0 || e.left <= 0 {
		return false
	}
	if e.left -= time.Minute; e.left <= 0 {
		e.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return true
}

// fault is what a relay does to the first connection, or to each one with TLS.
type fault struct {
	// what: cut the connection, stall, drip (an octet a minute) or flood (10 MB) in the middle of a reply,
	// cut the text; or, behind the answer to STARTTLS, cut, stall, flip a bit, or cut what we say behind the handshake.
	what  string
	reply int // of the server's, the greeting is 0
	at    int // octets of it, or of TLS, that still pass; -1: all but the last one
	tls   bool
}

// relay passes on what this server and Postfix say to each other, with a fault.
type relay struct {
	fault
	net     *relays
	to      int // Postfix's port
	l       net.Listener
	spent   atomic.Bool // no fault any more
	minutes atomic.Int32
	flooded atomic.Int32 // octets
}

// relays are the relays of a test, and the connections to them.
type relays struct {
	t     *testing.T
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[string]*elastic // by their own address
}

func newRelays(t *testing.T) *relays {
	r := &relays{t: t, conns: map[string]*elastic{}}
	t.Cleanup(r.wg.Wait)
	return r
}

func (r *relays) dial(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", ap.String())
	if err != nil {
		return nil, err
	}
	e := &elastic{Conn: conn}
	r.mu.Lock()
	r.conns[conn.LocalAddr().String()] = e
	r.mu.Unlock()
	return e, nil
}

func (r *relays) start(f fault, to int) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	y := &relay{fault: f, net: r, to: to, l: l}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			faulty := !y.spent.Load()
			if !f.tls {
				y.spent.Store(true)
			}
			r.wg.Go(func() { y.serve(c.(*net.TCPConn), faulty) })
		}
	})
	r.t.Cleanup(func() { l.Close() })
	return y
}

func (y *relay) port() int { return y.l.Addr().(*net.TCPAddr).Port }

// serve passes a connection on until one side ends it.
func (y *relay) serve(client *net.TCPConn, faulty bool) {
	defer client.Close()
	server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", y.to))
	if err != nil {
		return
	}
	defer server.Close()
	gone, encrypted := make(chan struct{}), make(chan struct{})
	y.net.wg.Go(func() {
		defer close(gone)
		defer server.Close()
		y.up(client, server, faulty, encrypted)
	})
	if faulty {
		y.down(client, bufio.NewReaderSize(server, 1<<20), gone, encrypted)
	} else {
		io.Copy(client, server)
	}
	client.Close()
	server.Close()
	<-gone
}

// up passes on what this server says.
func (y *relay) up(client, server net.Conn, faulty bool, encrypted chan struct{}) {
	r := bufio.NewReader(client)
	for faulty {
		line, err := r.ReadString('\n')
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		text := y.what == "text" && (verb == "DATA" || verb == "BDAT")
		if verb == "STARTTLS" {
			close(encrypted)
		}
		if _, werr := io.WriteString(server, line); err != nil || werr != nil {
			return
		}
		switch {
		case text:
			io.CopyN(server, r, int64(y.at))
			client.Close()
			return
		case verb == "STARTTLS" && y.what == "late":
			buf := make([]byte, 64<<10)
			if n, err := r.Read(buf); err == nil {
				server.Write(buf[:n])
			}
			r.Read(buf) // the end of the handshake
			client.Close()
			return
		case verb == "STARTTLS":
			faulty = false // TLS has no lines
		}
	}
	io.Copy(server, r)
}

// down passes on what Postfix says, up to the fault.
func (y *relay) down(client *net.TCPConn, r *bufio.Reader, gone, encrypted chan struct{}) {
	for n := 0; ; {
		var reply strings.Builder
		for line := "    "; len(line) > 3; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
			if reply.WriteString(line); len(line) > 3 && line[3] == ' ' {
				break
			}
		}
		if !y.tls && y.what != "text" && n == y.reply {
			y.hit(client, reply.String(), gone)
			return
		}
		if _, err := io.WriteString(client, reply.String()); err != nil {
			return
		}
		n++
		select {
		case <-encrypted:
			y.hitTLS(client, r, gone)
			return
		default:
		}
	}
}

// hit does to a reply what the fault wants.
func (y *relay) hit(client *net.TCPConn, reply string, gone chan struct{}) {
	at := y.at
	if at < 0 {
		at = len(reply) - 1
	}
	switch y.what {
	case "cut":
		io.WriteString(client, reply[:at])
	case "stall":
		io.WriteString(client, reply[:at])
		y.wait(client, gone, 0)
	case "drip":
		for i := range len(reply) - 1 {
			io.WriteString(client, reply[i:i+1])
			if y.wait(client, gone, 1) {
				return
			}
		}
		y.wait(client, gone, 0)
	case "flood":
		client.SetWriteBuffer(64 << 10)
		line := "250-" + strings.Repeat("x", 1018) + "\r\n"
		for range 10 << 10 {
			n, err := io.WriteString(client, line)
			y.flooded.Add(int32(n))
			if err != nil {
				return
			}
		}
	}
}

// hitTLS does to the server's part of TLS what the fault wants.
func (y *relay) hitTLS(client *net.TCPConn, r *bufio.Reader, gone chan struct{}) {
	switch y.what {
	case "cut":
		io.CopyN(client, r, int64(y.at))
	case "stall":
		io.CopyN(client, r, int64(y.at))
		y.wait(client, gone, 0)
	case "flip":
		io.CopyN(client, r, int64(y.at))
		if b, err := r.ReadByte(); err == nil {
			client.Write([]byte{b ^ 1})
		}
		io.Copy(client, r)
	default:
		io.Copy(client, r)
	}
}

// wait lets minutes pass for this server, 0: as many as it takes until it hangs up; it tells whether it has.
func (y *relay) wait(client net.Conn, gone chan struct{}, minutes int) bool {
	y.net.mu.Lock()
	e := y.net.conns[client.RemoteAddr().String()]
	y.net.mu.Unlock()
	for passed := 0; minutes == 0 || passed < minutes; {
		select {
		case <-gone:
			return true
		case <-time.After(100 * time.Microsecond): // the clock is the test's own; this only gives way
		}
		if e == nil { // it is not known yet
			y.net.mu.Lock()
			e = y.net.conns[client.RemoteAddr().String()]
			y.net.mu.Unlock()
			continue
		}
		if e.pass() {
			passed++
			y.minutes.Add(1)
		}
	}
	return false
}
