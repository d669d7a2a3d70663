package share

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	smallBuf = 512      // what an idle session waits with
	bigBuf   = 32 << 10 // from the pool while more comes
	// busyFor keeps the big buffer in the hope that more comes.
	busyFor = 100 * time.Millisecond
	// writeLimit is how long a client may take for one buffer, as in wire.Timeouts.
	writeLimit = 5 * time.Minute
	// lingerFor lets the client read the last answer: closing a socket with unread input
	// makes the kernel send a reset, which may overtake it.
	lingerFor = 2 * time.Second
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bigBuf); return &b }}

// farewells are what a client may be told at any time in clear text, when the node that served it
// has died: RFC 5321 §3.8 and RFC 9051 §7.1.5. POP3 has no such word.
var farewells = map[string]string{
	"smtp":       "421 4.3.2 the server has stopped, connect again\r\n",
	"submission": "421 4.3.2 the server has stopped, connect again\r\n",
	"imap":       "* BYE the server has stopped, connect again\r\n",
}

// parting tells whether a server ends the session with these lines. The end of the peer's connection
// does not tell: that of a dead process looks like an orderly one.
func parting(b []byte) bool {
	for line := range bytes.Lines(b) {
		for _, word := range []string{"221", "421", "* BYE"} {
			if bytes.HasPrefix(line, []byte(word)) {
				return true
			}
		}
	}
	return false
}

// relay copies both ways until either end has gone, and closes both. When the peer dies the client
// is told farewell, unless it speaks TLS with the peer.
func relay(client net.Conn, early []byte, peer *stream, farewell string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		down(client, peer, farewell)
	}()
	up(client, early, peer)
	<-done
	_ = client.Close()
	_ = peer.Close()
}

// up copies from the client to the peer. The client's end of input goes on as such; any
// other end ends the session. What comes when the peer has ended it is read away.
func up(client net.Conn, early []byte, peer *stream) {
	lost := false
	send := func(b []byte) {
		if lost || len(b) == 0 {
			return
		}
		if len(b) > 1 && b[0] == 0x16 && b[1] == 3 { // a TLS handshake (RFC 8446 §5.1); no command begins so
			peer.secret.Store(true)
		}
		if _, err := peer.Write(b); err != nil {
			lost = true
			peer.Close() // down ends, too
			_ = client.SetReadDeadline(time.Now().Add(lingerFor))
		}
	}
	send(early)
	next := reader(client)
	for {
		b, n, err := next()
		if b != nil {
			send((*b)[:n])
			buffers.Put(b)
		}
		if err == nil {
			continue
		}
		if err != errEnd || lost || peer.CloseWrite() != nil {
			peer.Close()
		}
		return
	}
}

// errEnd is the client's orderly end of input.
var errEnd = errors.New("end")

// reader gives a function that waits for input of a connection and reads it. While a plain
// socket is idle it holds no buffer.
func reader(c net.Conn) func() (b *[]byte, n int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return func() (*[]byte, int, error) {
			b := buffers.Get().(*[]byte)
			n, err := c.Read(*b)
			if errors.Is(err, io.EOF) {
				err = errEnd
			}
			return b, n, err
		}
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return func() (*[]byte, int, error) { return nil, 0, err }
	}
	var (
		b    *[]byte
		n    int
		rerr error
	)
	read := func(fd uintptr) bool {
		b = buffers.Get().(*[]byte)
		for {
			n, rerr = syscall.Read(int(fd), *b)
			switch {
			case rerr == syscall.EINTR:
				continue
			case rerr == syscall.EAGAIN:
				buffers.Put(b)
				b, n, rerr = nil, 0, nil
				return false
			case rerr == nil && n == 0:
				rerr = errEnd
			}
			return true
		}
	}
	return func() (*[]byte, int, error) {
		b, n, rerr = nil, 0, nil
		if err := rc.Read(read); err != nil {
			return b, 0, err
		}
		out := b
		b = nil
		return out, max(n, 0), rerr
	}
}

// down copies from the peer to the client. When the peer has ended the session, the client
// hears so and has a moment to close.
func down(client net.Conn, peer *stream, farewell string) {
	small := make([]byte, smallBuf)
	var big *[]byte
	partly, parted := true, false // the client is within a line; has been told that the session ends
	defer func() {
		if big != nil {
			buffers.Put(big)
		}
	}()
	for {
		b := small
		if big != nil {
			b = *big
			_ = peer.SetReadDeadline(time.Now().Add(busyFor))
		}
		n, err := peer.Read(b)
		if n > 0 {
			partly, parted = b[n-1] != '\n', parting(b[max(0, n-smallBuf):n])
			_ = client.SetWriteDeadline(time.Now().Add(writeLimit))
			if _, werr := client.Write(b[:n]); werr != nil {
				peer.Close()
				_ = client.Close() // sets up free
				return
			}
		}
		switch {
		case err == nil && big == nil && n == len(small):
			big = buffers.Get().(*[]byte)
		case err != nil && big != nil && errors.Is(err, os.ErrDeadlineExceeded):
			buffers.Put(big)
			big = nil
			_ = peer.SetReadDeadline(time.Time{})
		case err != nil:
			if farewell != "" && !partly && !parted && !peer.secret.Load() {
				_ = client.SetWriteDeadline(time.Now().Add(lingerFor))
				_, _ = io.WriteString(client, farewell)
			}
			if c, ok := client.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			_ = client.SetReadDeadline(time.Now().Add(lingerFor))
			return
		}
	}
}
