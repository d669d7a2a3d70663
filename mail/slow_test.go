package mail

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/wire"
)

// faster is how many times faster time passes for clients in this test.
const faster = 50

// quick gives a listener's own timeouts, divided.
func quick(t wire.Timeouts) wire.Timeouts {
	d := wire.DefaultTimeouts
	or := func(a, b time.Duration) time.Duration {
		if a == 0 {
			a = b
		}
		return a / faster
	}
	rate := t.MinRate
	if rate == 0 {
		rate = d.MinRate
	}
	return wire.Timeouts{
		Idle: or(t.Idle, d.Idle), Command: or(t.Command, d.Command), Data: or(t.Data, d.Data), MinRate: rate * faster,
		Write: or(t.Write, d.Write), Handshake: or(t.Handshake, d.Handshake), Proxy: or(t.Proxy, d.Proxy),
	}
}

// slowServer is a mail server with bob, and its nine listeners.
func slowServer(t *testing.T) (addr map[string]string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	hash, err := login.Hash([]byte("correct-horse-9"))
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(context.Background(), func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		set.System.SetUp, set.System.Domain, set.System.Hostname = 1, "example.test", "mail.example.test"
		set.Services.IMAP.TLS, set.Services.POP3.TLS = true, true
		if err := state.StoreSettings(tx, set); err != nil {
			return err
		}
		for _, put := range []error{
			state.Users.Put(tx, &model.User{Name: "bob", Hash: hash, Activation: model.ActivationActivate}),
			state.Domains.Put(tx, &model.Domain{Name: "example.test"}),
			state.DomainUsers.Put(tx, &model.DomainUser{Domain: "example.test", User: "bob", Locals: []string{"bob"}}),
		} {
			if put != nil {
				return put
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Data: t.TempDir(), Bind: "127.0.0.1", State: st, Bodies: bodies, Log: log, Leading: func() bool { return true }, Node: func() (uint16, bool) { return 1, false }})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.SelfSigned("one", []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keyring.Load([]certs.Certificate{*cert}, "one"); err != nil {
		t.Fatal(err)
	}
	addr = map[string]string{}
	var stops []func()
	for _, name := range []string{"smtp", "smtps", "submission", "imap", "imaps", "pop3", "pop3s", "autoconfig", "autoconfig-http"} {
		cfg := s.wireConfig(name)
		cfg.Timeouts = quick(cfg.Timeouts)
		l, err := wire.Listen("tcp", "127.0.0.1:0", cfg)
		if err != nil {
			t.Fatal(err)
		}
		addr[name] = l.Addr().String()
		stops = append(stops, s.serve(name, l), func() { l.Close() })
	}
	t.Cleanup(func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
		s.Stop()
	})
	return addr
}

// talk is a client on a listener; secure ones have shaken hands.
func talk(t *testing.T, name, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(60 * time.Second))
	if strings.HasSuffix(name, "s") {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return c, r
}

// TestSlowLoris: on every listener a client that sends a byte a second is ended for that, in a
// handshake, in a command and in a message, and others are served all the while.
func TestSlowLoris(t *testing.T) {
	addr := slowServer(t)
	var wg sync.WaitGroup
	slow := func(c net.Conn, name, start, text string, limit time.Duration) {
		began := time.Now()
		wg.Go(func() {
			defer c.Close()
			gone := make(chan error, 1)
			go func() { _, err := io.Copy(io.Discard, c); gone <- err }()
			io.WriteString(c, start)
			tick := time.NewTicker(time.Second / faster)
			defer tick.Stop()
			for i := 0; ; i++ {
				b := byte('x')
				if i < len(text) {
					b = text[i]
				}
				select {
				case <-tick.C:
					c.Write([]byte{b})
				case err := <-gone:
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						t.Errorf("%s: %q is still open", name, start+text)
					}
					if took := time.Since(began) * faster; took < limit/2 {
						t.Errorf("%s: %q was ended after %s, so for another reason than the limit of %s", name, start+text, took, limit)
					}
					return
				}
			}
		})
	}
	commands := map[string]string{"smtp": "MAIL FROM:<", "smtps": "MAIL FROM:<", "submission": "EHLO ", "imap": "a LOGIN ", "imaps": "a LOGIN ", "pop3": "USER ", "pop3s": "USER "}
	for name, text := range commands {
		c, _ := talk(t, name, addr[name])
		slow(c, name, "", text, time.Minute)
		if strings.HasSuffix(name, "s") {
			raw, err := net.Dial("tcp", addr[name])
			if err != nil {
				t.Fatal(err)
			}
			raw.SetDeadline(time.Now().Add(60 * time.Second))
			slow(raw, name, "", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 30*time.Second)
		}
	}
	for name, start := range map[string]string{"autoconfig": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "autoconfig-http": "GET /mail/config-v1.1.xml HTTP/1.1\r\nX: "} {
		raw, err := net.Dial("tcp", addr[name])
		if err != nil {
			t.Fatal(err)
		}
		raw.SetDeadline(time.Now().Add(60 * time.Second))
		slow(raw, name, "", start, 10*time.Second)
	}
	for _, name := range []string{"smtp", "smtps"} {
		c, r := talk(t, name, addr[name])
		for _, line := range []string{"HELO x.example", "MAIL FROM:<x@y.example>", "RCPT TO:<bob@example.test>", "DATA"} {
			fmt.Fprintf(c, "%s\r\n", line)
			if l, err := r.ReadString('\n'); err != nil || l[0] > '3' {
				t.Fatalf("%s: %s: %q %v", name, line, l, err)
			}
		}
		slow(c, name, "Subject: slow\r\n\r\n", "text", 3*time.Minute)
	}
	for _, name := range []string{"imap", "imaps"} {
		c, r := talk(t, name, addr[name])
		if name == "imap" {
			fmt.Fprintf(c, "s STARTTLS\r\n")
			if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "s OK") {
				t.Fatal(l, err)
			}
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			r = bufio.NewReader(c)
		}
		fmt.Fprintf(c, "l LOGIN bob correct-horse-9\r\n")
		if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "l OK") {
			t.Fatal(l, err)
		}
		slow(c, name, "a APPEND INBOX {100000}\r\n", "Subject: slow\r\n\r\n", 3*time.Minute)
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	served := map[string]int{}
	for more := true; more; {
		for name, text := range map[string]string{"smtp": "NOOP", "smtps": "NOOP", "submission": "NOOP", "imap": "a NOOP", "imaps": "a NOOP", "pop3": "CAPA", "pop3s": "CAPA"} {
			c, r := talk(t, name, addr[name])
			fmt.Fprintf(c, "%s\r\n", text)
			if l, err := r.ReadString('\n'); err == nil && !strings.Contains(l, "BAD") {
				served[name]++
			}
			c.Close()
		}
		select {
		case <-all:
			more = false
		default:
		}
	}
	for name := range commands {
		if served[name] == 0 {
			t.Errorf("%s: nobody was served meanwhile", name)
		}
	}
}
