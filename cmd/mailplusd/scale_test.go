package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestFiveThousandConnections holds 5,000 connections that say nothing, and some that say half a
// command, on all listeners. Whoever comes properly is served all the while; a limit says so and
// lets others in again when it is raised.
func TestFiveThousandConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Max < 12000 {
		t.Skipf("only %d open files are allowed", lim.Max)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Skip(err)
	}
	d := newDaemon(t)
	d.start()
	kinds := []struct {
		port     int
		greeting string
		half     string
	}{{2525, "220 ", "MAIL FROM:<a"}, {2143, "* OK", "a LOGIN bob {100"}, {2110, "+OK", "USER b"}, {2587, "220 ", "EHLO x"}, {2993, "", ""}}
	const total = 5000
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
	})
	var wg sync.WaitGroup
	for w := range 25 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range total / 25 {
				k := kinds[(w+i)%len(kinds)]
				c, err := net.DialTimeout("tcp", d.port(k.port), 60*time.Second)
				if err != nil {
					t.Errorf("connection to %d: %v", k.port, err)
					return
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
				c.SetDeadline(time.Now().Add(120 * time.Second))
				if k.greeting != "" {
					line, err := bufio.NewReader(c).ReadString('\n')
					if err != nil || !strings.HasPrefix(line, k.greeting) {
						t.Errorf("port %d: %q %v", k.port, line, err)
						return
					}
				}
				if i%2 == 0 { // slow-loris: never to be finished
					io.WriteString(c, k.half)
				}
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	d.mailbox(3)
	im := d.imap("bob")
	box, err := im.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 3 {
		t.Errorf("%+v %v", box, err)
	}
	p := d.pop()
	p.say("+OK", "USER bob")
	p.say("+OK 3 messages", "PASS "+devPassword)
	t.Logf("with %d connections:\n%s", len(open), d.ok("status"))

	d.ok("config", "set", "delivery.max-connections=500", "delivery.max-connections-per-address=400")
	c, err := net.Dial("tcp", d.port(2525))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 ") {
		t.Errorf("above the limit: %q %v", line, err)
	}
	for _, c := range open {
		c.Close()
	}
	open = nil
	deadline := time.Now().Add(60 * time.Second)
	for {
		s, err := dialSMTP(d.port(2525))
		if err == nil {
			s.c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody gets in after the others have left")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestHugeLiterals announces what nobody may send, before and after login: a clear refusal, and
// what follows is never run as a command.
func TestHugeLiterals(t *testing.T) {
	d := newDaemon(t)
	d.start()
	for _, tc := range []struct {
		name  string
		login bool
		line  string
	}{
		{"synchronising, before login", false, "a LOGIN {1073741824}"},
		{"non-synchronising, before login", false, "a LOGIN {1073741824+}"},
		{"synchronising", true, "a APPEND INBOX {1073741824}"},
		{"non-synchronising", true, "a APPEND INBOX {1073741824+}"},
		{"beyond 64 bits", true, "a APPEND INBOX {99999999999999999999999+}"},
		{"not a string's place", true, "a SEARCH SUBJECT {1073741824}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := dialRaw(d.port(2143))
			if err != nil {
				t.Fatal(err)
			}
			defer c.c.Close()
			if tc.login {
				fmt.Fprintf(c.c, "l LOGIN bob %s\r\n", devPassword)
				if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "l OK") {
					t.Fatal(line, err)
				}
			}
			fmt.Fprintf(c.c, "%s\r\nb CREATE smuggled\r\n", tc.line)
			var got strings.Builder
			for {
				line, err := c.r.ReadString('\n')
				got.WriteString(line)
				if err != nil || strings.HasPrefix(line, "b ") {
					break
				}
				if strings.HasPrefix(line, "+") {
					t.Fatalf("the literal was accepted: %q", line)
				}
			}
			if !strings.Contains(got.String(), "a NO") && !strings.Contains(got.String(), "a BAD") && !strings.Contains(got.String(), "* BYE") {
				t.Errorf("no refusal: %q", got.String())
			}
			if strings.Contains(tc.line, "+}") && strings.Contains(got.String(), "b OK") {
				t.Errorf("the literal's content ran as a command: %q", got.String())
			}
		})
	}
	if st := d.ok("status", "-o", "json"); !strings.Contains(st, `"healthy": true`) {
		t.Error(st)
	}
}

// TestTLSSwitchIsInForceAtOnce: no restart, and no listener left as it was.
func TestTLSSwitchIsInForceAtOnce(t *testing.T) {
	// covers: R6.21
	d := newDaemon(t)
	d.start()
	offers := func(port int, ask, word string) bool {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for {
			c, err := dialRaw(d.port(port))
			if err == nil {
				defer c.c.Close()
				fmt.Fprintf(c.c, "%s\r\n", ask)
				var all strings.Builder
				for !strings.Contains(all.String(), "a OK") && !strings.HasSuffix(all.String(), "\n.\r\n") && err == nil {
					var line string
					line, err = c.r.ReadString('\n')
					all.WriteString(line)
				}
				return strings.Contains(all.String(), word)
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, on := range []bool{true, false, true} {
		word := map[bool]string{true: "on", false: "off"}[on]
		d.ok("service", "imap", "set", "--tls", word, "--yes")
		d.ok("service", "pop3", "set", "--tls", word, "--yes")
		if got := offers(2143, "a CAPABILITY", "STARTTLS"); got != on {
			t.Errorf("TLS %s: IMAP offers STARTTLS: %v", word, got)
		}
		if got := offers(2110, "CAPA", "STLS"); got != on {
			t.Errorf("TLS %s: POP3 offers STLS: %v", word, got)
		}
		c, err := net.DialTimeout("tcp", d.port(2993), 5*time.Second)
		if (err == nil) != on {
			t.Errorf("TLS %s: port of IMAPS: %v", word, err)
		}
		if err == nil {
			c.Close()
		}
	}
}
