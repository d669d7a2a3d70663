package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	idleWorkers  = 16               // connections that log in at the same time
	settleBefore = 10 * time.Second // the server has given back what its start took
)

// idleRun opens IMAP connections that log in, select INBOX and idle, and tells what each of them
// adds to the resident memory of the server.
type idleRun struct {
	addr, user, password string
	tls                  bool
	pid                  int           // the server's process
	settle               time.Duration // pause before memory is read
}

// measure prints one line of the table for count connections, which it closes at the end.
func (r idleRun) measure(count int) error {
	time.Sleep(settleBefore)
	before, err := resident(r.pid)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, count)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	start := time.Now()
	errs := make(chan error, idleWorkers)
	var wg sync.WaitGroup
	for w := range idleWorkers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < count; i += idleWorkers {
				c, err := r.open()
				if err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				conns[i] = c
			}
		}()
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	took := time.Since(start)
	after, err := resident(r.pid)
	if err != nil {
		return err
	}
	time.Sleep(r.settle)
	settled, err := resident(r.pid)
	if err != nil {
		return err
	}
	kind := "clear text"
	if r.tls {
		kind = "TLS"
	}
	each := func(kb int) float64 { return float64(kb-before) / float64(count) }
	fmt.Printf("| %d idle, %s | %.0f MB before | %.0f MB, %.1f KB each | after %s %.0f MB, %.1f KB each | opened in %.1f s |\n",
		count, kind, float64(before)/1024, float64(after)/1024, each(after), r.settle, float64(settled)/1024, each(settled), took.Seconds())
	for i, c := range conns { // a connection that was lost would make the figure too good
		if _, err := io.WriteString(c, "DONE\r\n"); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if line, err := bufio.NewReaderSize(c, 512).ReadString('\n'); err != nil || !strings.HasPrefix(line, "i OK") {
			return fmt.Errorf("connection %d: %q %w", i, line, err)
		}
	}
	return nil
}

// open brings one connection to IDLE.
func (r idleRun) open() (net.Conn, error) {
	c, err := net.DialTimeout("tcp", r.addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	if r.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // a self-signed test server on loopback
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewReaderSize(c, 512)
	for _, step := range []struct{ send, want string }{
		{"", "* OK"},
		{"l LOGIN " + r.user + " " + r.password + "\r\n", "l OK"},
		{"s SELECT INBOX\r\n", "s OK"},
		{"i IDLE\r\n", "+ "},
	} {
		if _, err := io.WriteString(c, step.send); err != nil {
			c.Close()
			return nil, err
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				c.Close()
				return nil, err
			}
			if strings.HasPrefix(line, step.want) {
				break
			}
			if step.send != "" && line[0] == step.send[0] {
				c.Close()
				return nil, fmt.Errorf("wanted %s, got %s", step.want, strings.TrimSpace(line))
			}
		}
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// resident gives a process's resident memory in KB.
func resident(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(b, []byte("VmRSS:"))
	if !ok {
		return 0, fmt.Errorf("process %d has no VmRSS", pid)
	}
	return strconv.Atoi(string(bytes.Fields(rest)[0]))
}
