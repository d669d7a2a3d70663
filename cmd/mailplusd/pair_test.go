package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailplusd/admin/api"

	"github.com/emersion/go-imap/v2/imapclient"
)

// lan is a small network on loopback: 127.x.y.0/24, so that tests that run beside this one
// don't meet.
type lan struct {
	t      *testing.T
	prefix string
	dir    string
}

func newLAN(t *testing.T) *lan {
	build(t)
	return &lan{t: t, dir: t.TempDir(), prefix: fmt.Sprintf("127.%d.%d.", 20+os.Getpid()%200, rand.IntN(250))}
}

func (l *lan) vip() string { return l.prefix + "10" }

// twin is a node of a pair: `mailplusd serve` with an address of its own.
type twin struct {
	*process
	l        *lan
	name, ip string
	program  string   // empty: the one under test
	env      []string // of its process, further
}

// node prepares a node; host is the last number of its address.
func (l *lan) node(name string, host int) *twin {
	n := &twin{process: &process{t: l.t, dir: filepath.Join(l.dir, name)}, l: l, name: name, ip: fmt.Sprint(l.prefix, host)}
	l.t.Cleanup(n.stop)
	return n
}

// run starts the node and waits until its administration answers.
func (n *twin) run(args ...string) {
	n.t.Helper()
	n.cmd = exec.Command(cmp.Or(n.program, bins.mailplusd), append([]string{"serve", "--name", n.name, "--data", n.dir, "--bind", n.ip, "--link", n.ip + ":2826",
		"--admin-socket", filepath.Join(n.dir, "admin.sock"), "--vip-driver", "loopback", "--lease", "short", "--cold-wait", "10s"}, args...)...)
	n.cmd.Stdout, n.cmd.Stderr = &n.log, &n.log
	n.cmd.Env = append(os.Environ(), n.env...)
	os.MkdirAll(n.dir, 0o700)
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(n.cmd, n.exited)
	n.until("the administration answers", func() bool { _, _, code := n.mpctl("version"); return code == 0 })
}

// until polls a condition for as long as a slow machine may need.
func (n *twin) until(what string, ok func() bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			show, _, _ := n.mpctl("ha", "show", "-o", "wide")
			n.t.Fatalf("%s: never: %s\n%s\n%s", n.name, what, show, tail(n.log.String()))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func (n *twin) show() (v api.HAShowOut) {
	n.t.Helper()
	out, _, code := n.mpctl("ha", "show", "-o", "json")
	if code == 0 {
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			n.t.Fatal(err)
		}
	}
	return v
}

// is waits until the node says that it is in a state.
func (n *twin) is(state string) {
	n.t.Helper()
	n.until("state "+state, func() bool { return n.show().State == state })
}

// setUp makes the node a system with users alice, an administrator, and bob.
func (n *twin) setUp() {
	n.t.Helper()
	pw := n.file("pw", devPassword+"\n")
	n.ok("--yes", "setup", "new", "--domain", "example.test", "--admin", "alice", "--password-file", pw)
	n.ok("--yes", "service", "smtp", "set", "--port", "2525")
	n.ok("--yes", "service", "imap", "set", "--enable", "--port", "2143", "--tls-port", "2993")
	n.ok("--yes", "service", "smtps", "set", "--enable=false")
	n.ok("--yes", "service", "submission", "set", "--enable=false")
	n.ok("user", "add", "bob", "--password-file", pw)
	n.ok("account", "activate", "alice", "bob")
	n.ok("config", "set", "network.resolvers=127.0.0.1:9", "delivery.lan-exempt=on") // mail to the world waits
}

// invite makes a token and keeps it in a file.
func (n *twin) invite() (file string) {
	n.t.Helper()
	var out api.HAInviteOut
	if err := json.Unmarshal([]byte(n.ok("ha", "invite", "-o", "json")), &out); err != nil || out.Token == "" {
		n.t.Fatal(err, out)
	}
	return n.file("invite-"+n.name, out.Token)
}

func (n *twin) create(b *twin) {
	n.t.Helper()
	n.ok("ha", "create", "--peer", b.ip, "--vip", n.l.vip(), "--invite-file", b.invite(), "--yes")
}

// pair makes two nodes that are in sync.
func (l *lan) pair() (a, b *twin) {
	l.t.Helper()
	a, b = l.node("a", 2), l.node("b", 3)
	a.run()
	b.run()
	a.setUp()
	a.create(b)
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
	return a, b
}

// deliver sends a message to an address of the pair and wants a 250.
func (l *lan) deliver(ip, to, subject string) {
	l.t.Helper()
	c, err := dialSMTP(ip + ":2525")
	if err != nil {
		l.t.Fatalf("%s: %v", subject, err)
	}
	defer c.c.Close()
	if r, err := c.send("x@y.example", to, "Subject: "+subject+"\r\n\r\ntext"); err != nil || !strings.HasPrefix(r, "250") {
		l.t.Fatalf("%s: %q %v", subject, r, err)
	}
}

// inbox counts the messages that a user sees at this node's address.
func (n *twin) inbox(user string) int {
	n.t.Helper()
	c, err := imapclient.DialInsecure(n.ip+":2143", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, devPassword).Wait(); err != nil {
		n.t.Fatal(err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		n.t.Fatal(err)
	}
	return int(box.NumMessages)
}

// holder is the node that holds the floating address, by what the node knows of itself.
func holder(nodes ...*twin) (names []string) {
	for _, n := range nodes {
		if n.cmd == nil {
			continue
		}
		v := n.show()
		for _, x := range v.Nodes {
			if x.Node == n.name && x.Address {
				names = append(names, n.name)
			}
		}
	}
	return names
}

// guideLine makes a line of a guide one of this network. peer is the node that is taken in: it is
// the one that invites.
func (l *lan) guideLine(peer *twin) func(string) string {
	return func(line string) string {
		if line == "mpctl ha invite" {
			return "mpctl --socket " + filepath.Join(peer.dir, "admin.sock") + " ha invite"
		}
		if strings.Contains(line, "ha create") {
			if err := os.WriteFile(filepath.Join(l.dir, "invite"), []byte(l.token(peer)), 0o600); err != nil {
				l.t.Fatal(err)
			}
		}
		return strings.NewReplacer("192.0.2.10", l.vip(), "192.0.2.11", l.prefix+"11", "192.0.2.2 ", peer.ip+" ").Replace(line)
	}
}

func (l *lan) token(n *twin) string { return read(l.t, n.invite()) }
