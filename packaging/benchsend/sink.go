package main

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"sync"
	"time"
)

// sink takes any mail and forgets it.
type sink struct {
	mu      sync.Mutex
	got     int
	want    int
	arrived chan struct{}
	conns   int
	begun   time.Time // of the last DATA
}

func listenSink(addr string) (*sink, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &sink{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.session(c)
		}
	}()
	return s, nil
}

// expect begins to count anew; the channel is closed when n messages have arrived.
func (s *sink) expect(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.want, s.conns, s.arrived = 0, n, 0, make(chan struct{})
	return s.arrived
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

func (s *sink) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *sink) data() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

func (s *sink) session(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	s.conns++
	s.mu.Unlock()
	r, w := bufio.NewReaderSize(c, 16<<10), bufio.NewWriter(c)
	w.WriteString("220 sink ESMTP\r\n")
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			w.WriteString("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 52428800\r\n")
		case "DATA":
			s.mu.Lock()
			s.begun = time.Now()
			s.mu.Unlock()
			w.WriteString("354 go on\r\n")
			if w.Flush() != nil || !skipData(r) {
				return
			}
			s.take()
			w.WriteString("250 taken\r\n")
		case "QUIT":
			w.WriteString("221 bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("250 ok\r\n")
		}
	}
}

func skipData(r *bufio.Reader) bool {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return false
		}
		if bytes.Equal(line, []byte(".\r\n")) {
			return true
		}
	}
}

func (s *sink) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got++; s.got == s.want {
		close(s.arrived)
	}
}
