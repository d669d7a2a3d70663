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
	wakeRounds   = 51               // messages whose EXISTS is waited for
)

// idleRun opens IMAP connections that log in, select INBOX and idle, and tells what each of them
// adds to the resident memory of the server, and how soon one more is told of new mail beside them.
type idleRun struct {
	addr, user, password string
	smtp, other, domain  string // other's mail comes by smtp; his client is the one that is told
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
	conns := make([]*idler, count)
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
	if err := r.wake(kind, conns); err != nil {
		return err
	}
	for i, c := range conns { // a connection that was lost would make the figure too good
		if _, err := io.WriteString(c, "DONE\r\n"); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if err := c.until("i OK"); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}

// wake prints how soon a client beside the idle ones hears of his mail, and all of them of theirs.
func (r idleRun) wake(kind string, conns []*idler) error {
	if r.smtp == "" {
		return nil
	}
	one := r
	one.user = r.other
	c, err := one.open()
	if err != nil {
		return err
	}
	defer c.Close()
	var behind, whole []float64
	for range wakeRounds {
		start := time.Now()
		told := make(chan error, 1)
		var at time.Time
		go func() {
			err := c.until("EXISTS")
			at = time.Now()
			told <- err
		}()
		if err := sendLoad(r.smtp, 1, 1, 4096, []string{r.other + "@" + r.domain}); err != nil {
			return err
		}
		accepted := time.Now()
		if err := <-told; err != nil {
			return err
		}
		behind = append(behind, max(0, at.Sub(accepted).Seconds()*1000))
		whole = append(whole, at.Sub(start).Seconds()*1000)
	}
	start := time.Now()
	if err := sendLoad(r.smtp, 1, 1, 4096, []string{r.user + "@" + r.domain}); err != nil {
		return err
	}
	for i, c := range conns {
		if err := c.until("EXISTS"); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	fmt.Printf("| %d idle, %s | wake-up, median of %d: %.2f ms behind the 250, %.1f ms behind the sender's connect | all %d told of one message within %.0f ms |\n",
		len(conns), kind, wakeRounds, median(behind), median(whole), len(conns), time.Since(start).Seconds()*1000)
	return nil
}

// idler is one connection in IDLE.
type idler struct {
	net.Conn
	in *bufio.Reader
}

// until reads up to a line with a text.
func (c *idler) until(text string) error {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", text, err)
		}
		if strings.Contains(line, text) {
			return nil
		}
	}
}

// open brings one connection to IDLE.
func (r idleRun) open() (*idler, error) {
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
	return &idler{c, in}, nil
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
