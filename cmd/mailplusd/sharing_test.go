package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/mail/model"
	"mailplusd/mail/share"
	"mailplusd/mail/state"
)

// living is a node in this process that starts anew when it has to.
type living struct {
	t      testing.TB
	cfg    Config
	mu     sync.Mutex
	now    *node
	cancel context.CancelFunc
	done   chan struct{}
}

// live starts a node on addresses of its own.
func live(t testing.TB, name, addr string) *living {
	t.Helper()
	l := &living{t: t, done: make(chan struct{}), cfg: Config{
		Name: name, Data: filepath.Join(t.TempDir(), name), Bind: addr, Link: addr + ":0", Lease: "default", VIPDriver: "loopback",
		Socket: filepath.Join(t.TempDir(), "s"), LogLevel: "warn",
	}}
	if os.Getenv("MAILPLUSD_TEST_LOG") != "" {
		l.cfg.LogLevel = "debug"
	}
	free, err := net.Listen("tcp", l.cfg.Link) // a restart must find the same port
	if err != nil {
		t.Fatal(err)
	}
	l.cfg.Link = free.Addr().String()
	free.Close()
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(l.done)
		for ctx.Err() == nil {
			if err := l.once(ctx); err != nil && !errors.Is(err, errAgain) {
				t.Errorf("%s: %v", name, err)
				return
			}
		}
	}()
	t.Cleanup(l.stop)
	l.wait("the node is up", func(n *node) bool { return n.cluster.IsLeader() })
	return l
}

func (l *living) stop() { l.cancel(); <-l.done }

// once is runOnce with the node in reach of the test.
func (l *living) once(ctx context.Context) error {
	log, err := newLogger(l.cfg)
	if err != nil {
		return err
	}
	n := &node{cfg: l.cfg, log: log, again: make(chan struct{}, 1)}
	n.accepting.Store(true)
	defer n.stop()
	for _, step := range []func(context.Context) error{n.openData, n.openLink, n.openRoom, n.openState, n.openBodies, n.openCluster, n.openMail, n.openPair, n.openAdmin} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	n.floating.exe = bins.mailplusd // this program has no guard command
	n.mail.Start()
	n.ctl.Start()
	n.watchRoom()
	l.mu.Lock()
	l.now = n
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.now = nil
		l.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-n.again:
		return errAgain
	case <-n.cluster.Failed():
		return n.cluster.Fault()
	}
}

// node waits for the running node.
func (l *living) node() (n *node) {
	l.wait("it runs", func(now *node) bool { n = now; return true })
	return n
}

func (l *living) wait(what string, cond func(*node) bool) {
	l.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; <-time.After(5 * time.Millisecond) {
		l.mu.Lock()
		n := l.now
		l.mu.Unlock()
		if n != nil && cond(n) {
			return
		}
		if time.Now().After(end) {
			if n != nil {
				s := n.ctl.Status()
				l.t.Logf("%s: %s, alarm %q, peer fresh %v, lag %d, missing %d", l.cfg.Name, s.Capacity, s.Alarm, s.PeerFresh, s.Lag, s.Missing)
			}
			l.t.Fatalf("%s, not in 60 s: %s", l.cfg.Name, what)
		}
	}
}

func (n *node) member(number uint8) pair.Member {
	return pair.Member{ID: n.cfg.Name, Number: number, Addrs: []string{n.link.Addr().String()}, Key: n.link.PublicKey()}
}

// floatingAddress is where clients connect.
var floatingAddress = netip.MustParsePrefix("127.0.81.9/8")

// livePair is two nodes in sync that share sessions half and half, with alice and bob.
func livePair(t testing.TB, offset int) (a, b *living) {
	t.Helper()
	build(t)
	a, b = live(t, "a", "127.0.81.1"), live(t, "b", "127.0.81.2")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	na, nb := a.node(), b.node()
	if _, err := na.admin.SetUpDev(ctx, []byte(devPassword), offset); err != nil {
		t.Fatal(err)
	}
	ma, mb := na.member(0), nb.member(1)
	err := na.state.Update(ctx, func(tx *state.Tx) error {
		node := func(m pair.Member, r model.PairRole) model.PairNode {
			return model.PairNode{ID: m.ID, Number: uint16(m.Number), Addrs: m.Addrs, Key: m.Key, Role: r}
		}
		return state.Pairs.Put(tx, &model.Pair{
			Cluster: "c1", Nodes: []model.PairNode{node(ma, model.RolePrimary), node(mb, model.RoleSecondary)}, LeaseMS: model.DefaultLeaseMS,
			VIPs:    []model.VIP{{Prefix: floatingAddress, Interface: "lo"}},
			Arbiter: model.Arbiter{Mode: model.ArbiterGateway}, Sharing: model.Sharing{Mode: model.SharingBalanced},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := na.ctl.Create("c1", ma, mb); err != nil {
		t.Fatal(err)
	}
	f := na.book.Facts()
	if err := nb.ctl.Join("c1", mb, ma, f.History, f.Epoch, f.Turn); err != nil {
		t.Fatal(err)
	}
	a.wait("the pair is in sync and shares", func(n *node) bool { return n.sharing.policy().Peer == "b" })
	a.wait("it holds the address", func(n *node) bool {
		return len(n.floating.Held()) == 1 && len(n.mail.Listeners.State()) == 14
	})
	b.wait("its services are open", func(n *node) bool { return len(n.mail.Listeners.State()) == 7 })
	return a, b
}

// sources finds an address of a client for each node.
func sources() (ofA, ofB string) {
	p := share.Policy{Self: "a", Peer: "b", SelfWeight: model.DefaultWeight, PeerWeight: model.DefaultWeight}
	for i := 1; ofA == "" || ofB == ""; i++ {
		if ip := netip.AddrFrom4([4]byte{127, 0, 82, byte(i)}); p.Choose(ip) {
			ofB = ip.String()
		} else {
			ofA = ip.String()
		}
	}
	return ofA, ofB
}

// dialFrom connects from an address of the client and reads the greeting.
func dialFrom(t testing.TB, from, to string) *lineClient {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	l := &lineClient{t: t, smtpClient: &smtpClient{c, bufio.NewReader(c)}}
	l.line()
	return l
}

// lineClient speaks IMAP or SMTP in the plainest way.
type lineClient struct {
	t testing.TB
	*smtpClient
	tag int
}

func (l *lineClient) line() string {
	l.t.Helper()
	s, err := l.r.ReadString('\n')
	if err != nil {
		l.t.Fatalf("read: %v (%q)", err, s)
	}
	return strings.TrimRight(s, "\r\n")
}

// imap sends a command and gives the whole answer, which must be OK.
func (l *lineClient) imap(format string, args ...any) string {
	l.t.Helper()
	l.tag++
	fmt.Fprintf(l.c, "t%d "+format+"\r\n", append([]any{l.tag}, args...)...)
	var out strings.Builder
	for {
		s := l.line()
		out.WriteString(s + "\n")
		if rest, ok := strings.CutPrefix(s, fmt.Sprintf("t%d ", l.tag)); ok {
			if !strings.HasPrefix(rest, "OK") {
				l.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), rest)
			}
			return out.String()
		}
	}
}

func imapFrom(t testing.TB, from, to string) *lineClient {
	t.Helper()
	c := dialFrom(t, from, to)
	c.imap("LOGIN alice %s", devPassword)
	return c
}

// away tells how many sessions of a listener a node has handed out.
func (n *node) away(listener string) int64 {
	for _, c := range n.sharing.Counts() {
		if c.Listener == listener {
			return c.OutNow
		}
	}
	return 0
}

// TestSharedSessions: two real nodes, clients at one address, sessions at both.
func TestSharedSessions(t *testing.T) {
	// covers: R11.05 R11.06 R11.07 R11.08 R11.09 R11.42 I.78
	offset := freeOffset(t)
	a, b := livePair(t, offset)
	na, nb := a.node(), b.node()
	at := func(port int) string { return fmt.Sprintf("%s:%d", floatingAddress.Addr(), port+offset) }
	fromA, fromB := sources()

	here := imapFrom(t, fromA, at(2143))
	here.imap("SELECT INBOX")
	there := imapFrom(t, fromB, at(2143))
	there.imap("SELECT INBOX")
	if out, in := na.away("imap"), nb.mail.Listeners; out != 1 {
		t.Fatalf("%d sessions handed out; at b %+v", out, in.State())
	}

	t.Run("mail through the other node is seen here at once", func(t *testing.T) {
		for i := range 10 {
			from, reader := fromB, here
			if i%2 == 1 {
				from, reader = fromA, there
			}
			c := dialFrom(t, from, at(2525))
			c.cmd("EHLO client.example")
			if r, err := c.send("you@elsewhere.example", "alice@example.test", "Subject: hello\r\n\r\ntext\r\n"); err != nil || r[0] != '2' {
				t.Fatalf("%q, %v", r, err)
			}
			if out := reader.imap("NOOP"); !strings.Contains(out, fmt.Sprintf("* %d EXISTS", i+1)) {
				t.Fatalf("after message %d:\n%s", i+1, out)
			}
			out := reader.imap("FETCH %d BODY.PEEK[]", i+1)
			if !strings.Contains(out, "["+from+"]") {
				t.Fatalf("no trace of the client %s:\n%s", from, out)
			}
		}
		if na.away("smtp") == 0 {
			t.Error("no SMTP session was handed out")
		}
	})

	t.Run("what one session does, the other sees with its next command", func(t *testing.T) {
		for i := range 20 {
			w, r := here, there
			if i%2 == 1 {
				w, r = there, here
			}
			name := fmt.Sprintf("box%d", i)
			w.imap("CREATE %s", name)
			r.imap("STATUS %s (MESSAGES)", name)
			w.imap("COPY 1:3 %s", name)
			if out := r.imap("STATUS %s (MESSAGES)", name); !strings.Contains(out, "MESSAGES 3") {
				t.Fatalf("the past: %s", out)
			}
		}
	})

	t.Run("IDLE wakes on both nodes", func(t *testing.T) {
		for _, c := range []*lineClient{here, there} {
			c.imap("SELECT INBOX")
			fmt.Fprintf(c.c, "idle IDLE\r\n")
			if got := c.line(); !strings.HasPrefix(got, "+") {
				t.Fatal(got)
			}
		}
		w := imapFrom(t, fromA, at(2143))
		w.imap("SELECT INBOX")
		w.imap(`STORE 2 +FLAGS (\Flagged)`)
		for _, c := range []*lineClient{here, there} {
			if got := c.line(); !strings.Contains(got, "* 2 FETCH") {
				t.Errorf("%q", got)
			}
			fmt.Fprintf(c.c, "DONE\r\n")
			for !strings.HasPrefix(c.line(), "idle OK") {
			}
		}
	})

	t.Run("a message cut on the way is not accepted", func(t *testing.T) {
		for _, last := range []string{"DATA\r\nSubject: cut\r\n\r\nhalf of", "BDAT 1000 LAST\r\nSubject: cut\r\n\r\nhalf of"} {
			c := dialFrom(t, fromB, at(2525))
			c.cmd("EHLO client.example")
			c.cmd("MAIL FROM:<you@elsewhere.example>")
			if r, err := c.cmd("RCPT TO:<alice@example.test>"); err != nil || r[0] != '2' {
				t.Fatalf("%q, %v", r, err)
			}
			command, rest, _ := strings.Cut(last, "\r\n")
			fmt.Fprintf(c.c, "%s\r\n", command)
			if command == "DATA" {
				c.line()
			}
			io.WriteString(c.c, rest)
			c.c.Close()
		}
		until := time.Now().Add(30 * time.Second)
		for na.away("smtp") > 0 && time.Now().Before(until) {
			<-time.After(5 * time.Millisecond)
		}
		b.wait("the session has ended", func(n *node) bool {
			for _, l := range n.mail.Listeners.State() {
				if l.Name == "smtp" {
					return l.Conns == 0
				}
			}
			return false
		})
		if out := here.imap("STATUS INBOX (MESSAGES)"); !strings.Contains(out, "MESSAGES 10") {
			t.Errorf("%s", out)
		}
	})

	t.Run("wrong passwords count on both nodes", func(t *testing.T) {
		limit := na.state.Current().Login.MaxFailures
		c := dialFrom(t, fromB, at(2143))
		for range limit {
			fmt.Fprintf(c.c, "x LOGIN bob wrong\r\n")
			c.line()
		}
		for _, l := range []*living{a, b} {
			l.wait("it knows the lock", func(n *node) bool {
				locks := n.mail.Login.Locks()
				return len(locks) == 1 && locks[0].Key == "bob "+fromB+"/32"
			})
		}
		na.mail.Login.Unlock("bob")
		b.wait("the lock is cleared there, too", func(n *node) bool { return len(n.mail.Login.Locks()) == 0 })
	})

	t.Run("a maildrop has one session, whichever node serves it", func(t *testing.T) {
		for _, first := range []string{fromA, fromB} {
			second := map[string]string{fromA: fromB, fromB: fromA}[first]
			pop := func(from, want string) *lineClient {
				t.Helper()
				c := dialFrom(t, from, at(2110))
				c.cmd("USER alice")
				if r, err := c.cmd("PASS " + devPassword); err != nil || !strings.HasPrefix(r, want) {
					t.Errorf("from %s: %q %v, want %s", from, r, err, want)
				}
				return c
			}
			c := pop(first, "+OK")
			pop(second, "-ERR [IN-USE]")
			c.cmd("QUIT")
			a.wait("the maildrop is free", func(n *node) bool {
				return !n.mail.MaildropInUse(account(t, na)) && !nb.mail.MaildropInUse(account(t, nb))
			})
			pop(second, "+OK").cmd("QUIT")
		}
	})

	t.Run("both states are the same", func(t *testing.T) {
		ctx := context.Background()
		if err := nb.proposer.Fresh(ctx); err != nil {
			t.Fatal(err)
		}
		da, err1 := na.state.Digest(ctx)
		db, err2 := nb.state.Digest(ctx)
		if err1 != nil || err2 != nil || da.Sum != db.Sum {
			t.Errorf("%v %v: %+v and %+v", err1, err2, da, db)
		}
	})

	t.Run("the other node's death ends its sessions, the next ones are served here", func(t *testing.T) {
		nb.link.Close()
		if rest, err := io.ReadAll(there.r); err != nil || !strings.Contains(string(rest), "* BYE") {
			t.Errorf("%v, %q", err, rest)
		}
		c := imapFrom(t, fromB, at(2143))
		a.wait("nothing is away", func(n *node) bool { return n.away("imap") == 0 && n.away("smtp") == 0 })
		c.imap("NOOP")
		here.imap("NOOP")
	})
}

func account(t testing.TB, n *node) model.AccountID {
	t.Helper()
	u, err := state.Users.Get(n.state, "alice")
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// TestSharedGoodbye: a session in TLS that the other node serves hears of a planned end.
func TestSharedGoodbye(t *testing.T) {
	offset := freeOffset(t)
	a, b := livePair(t, offset)
	fromA, fromB := sources()
	session := func(from string, holder *living) *tls.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
		c, err := d.Dial("tcp", netip.AddrPortFrom(floatingAddress.Addr(), uint16(2993+offset)).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(60 * time.Second))
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if _, err := tc.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		holder.wait("it is handed over", func(n *node) bool { return n.away("imaps") == 1 })
		return tc
	}
	hears := func(what string, c net.Conn) {
		t.Helper()
		if rest, err := io.ReadAll(c); !strings.Contains(string(rest), "* BYE") {
			t.Errorf("%s: %q %v", what, rest, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := session(fromB, a)
	if err := a.node().ctl.Switchover(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	hears("a switchover", c)
	b.wait("b holds the address and shares", func(n *node) bool { return len(n.floating.Held()) == 1 && n.sharing.policy().Peer == "a" })
	c = session(fromA, b)
	a.stop()
	hears("a clean stop of the node that serves", c)
}
