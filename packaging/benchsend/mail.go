package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mail says what is handed in.
type mail struct{ size, conns, destinations int }

// handIn sends count messages, to the destinations in turn; each has been answered with 250.
func (m mail) handIn(addr string, count int) error {
	var next atomic.Int64
	conns := min(m.conns, count)
	errs := make(chan error, conns)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			if err := m.session(addr, &next, int64(count)); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func (m mail) session(addr string, next *atomic.Int64, count int64) error {
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
	body := strings.Repeat("Lorem ipsum dolor sit amet, consectetur adipiscing elit sed do.\r\n", m.size/65+1)[:m.size]
	body = strings.TrimRight(body, "\r\n") + "\r\n"
	for n := next.Add(1); n <= count; n = next.Add(1) {
		to := fmt.Sprintf("u%d@d%d.test", n, n%int64(m.destinations)+1)
		fmt.Fprintf(c, "MAIL FROM:<bench@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\n", to)
		for _, want := range []string{"250", "250", "354"} {
			if err := expect(r, want); err != nil {
				return err
			}
		}
		fmt.Fprintf(c, "From: Bench <bench@example.test>\r\nTo: <%s>\r\nSubject: message %d\r\nMessage-ID: <%d.%d@example.test>\r\nDate: %s\r\n\r\n%s.\r\n",
			to, n, n, time.Now().UnixNano(), time.Now().Format(time.RFC1123Z), body)
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
