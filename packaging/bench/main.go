// Command bench measures mail servers side by side on loopback: the same load, one after
// the other in one run, so that the ratio means something on a noisy machine.
//
//	bench -server NAME=SMTP,IMAP[,IMAPS] [-server …] -user u1,u2 -password P [-mpctl 'bin/mpctl --socket S']
//	bench -idle 1000 -imap ADDRESS [-tls] [-smtp ADDRESS] -pid PID -password P
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// server is one to measure; imaps is its address with TLS from the start, empty: not measured.
type server struct{ name, smtp, imap, imaps string }

type servers []server

func (s *servers) String() string { return fmt.Sprint(*s) }

func (s *servers) Set(v string) error {
	name, rest, ok := strings.Cut(v, "=")
	addrs := strings.Split(rest, ",")
	if !ok || len(addrs) < 2 || len(addrs) > 3 {
		return fmt.Errorf("%q is not NAME=SMTP,IMAP or NAME=SMTP,IMAP,IMAPS", v)
	}
	*s = append(*s, server{name, addrs[0], addrs[1], strings.Join(addrs[2:], "")})
	return nil
}

// work is one row of the table.
type work struct {
	name               string
	conns, count, size int
}

func main() {
	var list servers
	flag.Var(&list, "server", "NAME=SMTP-address,IMAP-address[,IMAPS-address]; twice to compare")
	users := flag.String("user", "alice,bob", "accounts, by turns")
	domain := flag.String("domain", "example.test", "their domain")
	password := flag.String("password", "", "their password")
	rounds := flag.Int("rounds", 3, "rounds; the median is shown")
	scale := flag.Float64("scale", 1, "share of the messages to send")
	big := flag.Int("mailbox", 20000, "messages in the mailbox that is listed; 0: don't")
	clients := flag.Int("clients", 1000, "clients that come back to it at once")
	mpctl := flag.String("mpctl", "", "command that administers the first server: full-text search is switched on with it before SEARCH is measured")
	idle := flag.Int("idle", 0, "measure the resident memory of this many idle IMAP connections instead")
	imap := flag.String("imap", "127.0.0.1:2143", "with -idle: the server's IMAP address")
	smtp := flag.String("smtp", "", "with -idle: the server's SMTP address, to measure how soon the second account's client is told of mail")
	useTLS := flag.Bool("tls", false, "with -idle: TLS from the start")
	pid := flag.Int("pid", 0, "with -idle: the server's process")
	settle := flag.Duration("settle", 40*time.Second, "with -idle: pause before memory is read again")
	flag.Parse()
	names := strings.Split(*users, ",")
	if *idle > 0 {
		r := idleRun{addr: *imap, smtp: *smtp, user: names[0], other: names[len(names)-1], domain: *domain, password: *password, tls: *useTLS, pid: *pid, settle: *settle}
		if err := r.measure(*idle); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	rcpts := make([]string, len(names))
	for i, n := range names {
		rcpts[i] = n + "@" + *domain
	}
	b := bench{list: list, names: names, rcpts: rcpts, password: *password, rounds: *rounds, mpctl: *mpctl, big: *big}
	n := func(count int) int { return max(int(float64(count)**scale), 20) }
	b.small = *rounds * n(4000) / len(names)
	for _, w := range []work{
		{"4 KB messages, 64 connections", 64, n(4000), 4096},
		{"4 KB messages, 1 connection", 1, n(600), 4096},
		{"100 KB messages, 16 connections", 16, n(800), 100 << 10},
	} {
		if err := b.deliver(w); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	if *big > 0 {
		for _, part := range []func() error{func() error { return b.fetch(*big) }, b.stream, b.commands, func() error { return b.reconnect(*clients) }, b.search} {
			if err := part(); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				os.Exit(1)
			}
		}
	}
	if err := b.idle(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	list     []server
	names    []string
	rcpts    []string
	password string
	rounds   int
	mpctl    string
	big      int // messages of the mailbox that is listed
	small    int // messages of 4 KB with which each mailbox begins
}

func (b *bench) total(s server) (int, error) {
	sum := 0
	for _, u := range b.names {
		m, err := dialIMAP(s.imap, u, b.password, false)
		if err != nil {
			return 0, err
		}
		n, err := m.messages("INBOX")
		m.c.Close()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// deliver measures messages per second until all of them are visible by IMAP.
func (b *bench) deliver(w work) error {
	rates := map[string][]float64{}
	for range b.rounds {
		for _, s := range b.list {
			before, err := b.total(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			start := time.Now()
			if err := sendLoad(s.smtp, w.conns, w.count, w.size, b.rcpts); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			for {
				now, err := b.total(s)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				if now >= before+w.count {
					break
				}
				if time.Since(start) > 5*time.Minute {
					return fmt.Errorf("%s: %d of %d messages visible after 5 minutes", s.name, now-before, w.count)
				}
				time.Sleep(5 * time.Millisecond)
			}
			rates[s.name] = append(rates[s.name], float64(w.count)/time.Since(start).Seconds())
		}
	}
	b.row(w.name, "messages/s", rates, false)
	return nil
}

// fetch measures SELECT and FETCH over a large mailbox with warm caches.
func (b *bench) fetch(count int) error {
	for _, s := range b.list {
		have, err := b.total(s)
		if err != nil {
			return err
		}
		if missing := count*len(b.names) - have; missing > 0 {
			if err := sendLoad(s.smtp, 32, missing, 1024, b.rcpts); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		for start := time.Now(); ; {
			if n, err := b.total(s); err != nil || n >= count*len(b.names) {
				if err != nil {
					return err
				}
				break
			}
			if time.Since(start) > 10*time.Minute {
				return fmt.Errorf("%s: the mailbox did not fill", s.name)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for _, c := range []struct{ name, cmd string }{
		{"SELECT, FETCH 1:* (UID FLAGS)", fmt.Sprintf("FETCH 1:%d (UID FLAGS)", b.big)},
		{"SELECT, FETCH 1:* (ENVELOPE)", fmt.Sprintf("FETCH 1:%d (ENVELOPE)", b.big)},
	} {
		for _, withTLS := range []bool{false, true} {
			if err := b.opened(c.name, c.cmd, withTLS); err != nil {
				return err
			}
		}
	}
	return nil
}

// withTLS tells whether every server can be measured with TLS.
func (b *bench) withTLS() bool {
	return !slices.ContainsFunc(b.list, func(s server) bool { return s.imaps == "" })
}

func (b *bench) dial(s server, withTLS bool) (*imap, error) {
	if withTLS {
		return dialIMAP(s.imaps, b.names[0], b.password, true)
	}
	return dialIMAP(s.imap, b.names[0], b.password, false)
}

// opened measures SELECT and a command behind it.
func (b *bench) opened(name, cmd string, withTLS bool) error {
	if withTLS && !b.withTLS() {
		return nil
	}
	times := map[string][]float64{}
	for round := range b.rounds + 2 {
		for _, s := range b.list {
			m, err := b.dial(s, withTLS)
			if err != nil {
				return err
			}
			start := time.Now()
			if _, err := m.do("SELECT INBOX"); err != nil {
				return err
			}
			if _, err := m.do("%s", cmd); err != nil {
				return err
			}
			if round >= 2 { // the first rounds warm the caches
				times[s.name] = append(times[s.name], time.Since(start).Seconds()*1000)
			}
			m.c.Close()
		}
	}
	if withTLS {
		name += ", TLS"
	}
	b.row(name, "ms", times, true)
	return nil
}

// idle measures the time from the end of DATA to the EXISTS that an idle client sees.
func (b *bench) idle() error {
	times := map[string][]float64{}
	for _, s := range b.list {
		m, err := dialIMAP(s.imap, b.names[0], b.password, false)
		if err != nil {
			return err
		}
		if _, err := m.do("SELECT INBOX"); err != nil {
			return err
		}
		fmt.Fprintf(m.c, "i IDLE\r\n")
		if _, err := m.r.ReadString('\n'); err != nil {
			return err
		}
		for range 21 {
			if err := sendLoad(s.smtp, 1, 1, 4096, b.rcpts[:1]); err != nil {
				return err
			}
			start := time.Now()
			m.c.SetReadDeadline(start.Add(time.Minute))
			for {
				line, err := m.r.ReadString('\n')
				if err != nil {
					return fmt.Errorf("%s: IDLE: %w", s.name, err)
				}
				if strings.Contains(line, "EXISTS") {
					break
				}
			}
			times[s.name] = append(times[s.name], time.Since(start).Seconds()*1000)
		}
		m.c.Close()
	}
	b.row("IDLE wake-up after the 250", "ms", times, true)
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// row prints a line of the table; the ratio is the first server against the second.
func (b *bench) row(name, unit string, values map[string][]float64, less bool) {
	fmt.Printf("| %s |", name)
	var m []float64
	for _, s := range b.list {
		m = append(m, median(values[s.name]))
		fmt.Printf(" %s %.4g %s |", s.name, m[len(m)-1], unit)
	}
	if len(m) > 1 {
		ratio := m[0] / m[1]
		if less {
			ratio = m[1] / m[0]
		}
		fmt.Printf(" %.2f times |", ratio)
	}
	fmt.Println()
}
