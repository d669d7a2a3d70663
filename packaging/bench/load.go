package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sendLoad delivers count messages of size octets over conns connections to rcpts in turn.
func sendLoad(addr string, conns, count, size int, rcpts []string) error {
	var next atomic.Int64
	errs := make(chan error, conns)
	var wg sync.WaitGroup
	for w := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := sender(addr, w, &next, int64(count), size, rcpts); err != nil {
				errs <- err
			}
		}()
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func sender(addr string, worker int, next *atomic.Int64, count int64, size int, rcpts []string) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if err := expect(r, "220"); err != nil {
		return err
	}
	fmt.Fprintf(c, "EHLO bench.example.test\r\n")
	if err := expect(r, "250"); err != nil {
		return err
	}
	line := strings.Repeat("Lorem ipsum dolor sit amet, consectetur adipiscing elit sed do. ", 1) + "\r\n"
	for {
		n := next.Add(1)
		if n > count {
			break
		}
		fmt.Fprintf(c, "MAIL FROM:<bench@sender.example>\r\nRCPT TO:<%s>\r\nDATA\r\n", rcpts[n%int64(len(rcpts))])
		for _, want := range []string{"250", "250", "354"} {
			if err := expect(r, want); err != nil {
				return err
			}
		}
		var b strings.Builder
		b.Grow(size + 512)
		fmt.Fprintf(&b, "From: Bench <bench@sender.example>\r\nTo: someone <%s>\r\nSubject: message %d of worker %d\r\nMessage-ID: <%d.%d.%d@sender.example>\r\nDate: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nkeyword%03d\r\n",
			rcpts[n%int64(len(rcpts))], n, worker, n, worker, time.Now().UnixNano(), time.Now().Format(time.RFC1123Z), n%500)
		for b.Len() < size {
			b.WriteString(line)
		}
		b.WriteString(".\r\n")
		if _, err := io.WriteString(c, b.String()); err != nil {
			return err
		}
		if err := expect(r, "250"); err != nil {
			return err
		}
	}
	fmt.Fprintf(c, "QUIT\r\n")
	return nil
}

func expect(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("wanted %s, got %s", code, strings.TrimSpace(line))
		}
		if len(line) > 3 && line[3] == ' ' {
			return nil
		}
	}
}

// imap is a client that counts octets and does nothing clever.
type imap struct {
	c   net.Conn
	r   *bufio.Reader
	tag int
}

func dialIMAP(addr, user, password string, useTLS bool) (*imap, error) {
	var c net.Conn
	var err error
	if useTLS {
		c, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // a self-signed test server on loopback
	} else {
		c, err = net.DialTimeout("tcp", addr, 10*time.Second)
	}
	if err != nil {
		return nil, err
	}
	m := &imap{c: c, r: bufio.NewReaderSize(c, 256<<10)}
	if _, err := m.r.ReadString('\n'); err != nil {
		return nil, err
	}
	_, err = m.do("LOGIN %s %s", user, password)
	return m, err
}

// do sends a command and gives the untagged lines' total octets and the last STATUS line.
func (m *imap) do(format string, args ...any) (string, error) {
	m.tag++
	tag := fmt.Sprintf("a%d", m.tag)
	if _, err := fmt.Fprintf(m.c, tag+" "+format+"\r\n", args...); err != nil {
		return "", err
	}
	status, done, good := "", []byte(tag+" "), []byte(tag+" OK")
	for {
		line, err := m.r.ReadSlice('\n') // allocates nothing: the client must not be what is measured
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		if bytes.HasPrefix(line, done) {
			if !bytes.HasPrefix(line, good) {
				return status, fmt.Errorf("%s", bytes.TrimSpace(line))
			}
			return status, nil
		}
		if bytes.HasPrefix(line, []byte("* STATUS")) {
			status = string(line)
		}
	}
}

func (m *imap) messages(box string) (int, error) {
	s, err := m.do("STATUS %s (MESSAGES)", box)
	if err != nil {
		return 0, err
	}
	i := strings.Index(s, "(MESSAGES ")
	if i < 0 {
		return 0, fmt.Errorf("odd STATUS: %q", s)
	}
	n := 0
	_, err = fmt.Sscanf(s[i:], "(MESSAGES %d)", &n)
	return n, err
}
