package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// freshNode is a node that is not set up, on the real ports of an address; args are more flags of serve.
func freshNode(t *testing.T, host string, args ...string) *process {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for ports 25, 465 and 587")
	}
	l, err := net.Listen("tcp", host+":25")
	if err != nil {
		t.Skipf("port 25 of %s is not free: %v", host, err)
	}
	l.Close()
	build(t)
	d := &process{t: t, dir: filepath.Join(t.TempDir(), "data")}
	os.MkdirAll(d.dir, 0o700)
	conf := d.file("mailplusd.yaml", fmt.Sprintf("name: n1\ndata: %s\nbind: %s\nlink: none\nadmin-socket: %s/admin.sock\nlog-level: warn\n", d.dir, host, d.dir))
	d.cmd = exec.Command(bins.mailplusd, append([]string{"serve", "--config", conf}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(d.cmd, d.exited)
	t.Cleanup(d.stop)
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, _, code := d.mpctl("version"); code == 0 {
			return d
		}
		if time.Now().After(deadline) {
			t.Fatalf("not there: %s", d.log.String())
		}
	}
}

func TestStorySetUp(t *testing.T) {
	// covers: R2.25 R2.26 R2.29 R2.30 R2.31 R2.33 R2.36 R2.37 R2.38 I.87
	const host = "127.0.77.1"
	d := freshNode(t, host)
	d.has("not set up yet", "status")
	d.fails(3, "not set up", "user", "list")
	pw := d.file("pw", "long-enough-1")
	d.fails(2, "domain is needed", "setup", "new", "--yes")
	d.fails(2, "no dot", "setup", "new", "--domain", "local", "--yes")
	d.fails(2, "underscore", "setup", "new", "--domain", "a.test", "--hostname", "m_x.a.test", "--yes")
	d.fails(3, "no directory", "setup", "new", "--domain", "a.test", "--account-type", "ldap", "--yes")
	d.fails(3, "keeps its data", "setup", "new", "--domain", "a.test", "--storage", "/somewhere", "--yes")
	d.fails(2, "no password list", "setup", "from-mailserver", "--source", "/old", "--domain", "a.test", "--yes")
	d.has("+ system.hostname: mail.a.test", "setup", "new", "--domain", "a.test", "--dry-run")
	d.has("no", "setup", "show")
	d.fails(3, "confirmation", "setup", "new", "--domain", "a.test")
	server := resolver(t, `
a.test. 60 IN MX 10 mx.elsewhere.test.
mx.elsewhere.test. 60 IN A 198.51.100.1
mail.a.test. 60 IN A 198.51.100.2
`)
	_, warned, code := d.mpctl("setup", "new", "--domain", "a.test", "--admin", "anna", "--password-file", pw, "--resolver", server, "--yes")
	for _, want := range []string{"mail.a.test: has address 198.51.100.2, which is not an address of this machine", "a.test: the MX mx.elsewhere.test (198.51.100.1) leads elsewhere"} {
		if code != 0 || !strings.Contains(warned, want) {
			t.Errorf("set-up with DNS that says otherwise: exit %d, %q is missing in %s", code, want, warned)
		}
	}
	d.has(server, "config", "get", "network.resolvers")
	d.has("local", "account", "source", "show", "--filter", "in_force=yes")
	d.fails(3, "set up already", "setup", "new", "--domain", "b.test", "--yes")
	d.has("mail.a.test", "setup", "show")
	d.has("setup new", "admin", "log", "list")
	d.has("seats: 5, used: 1", "account", "list")
	c, err := dialSMTP(host + ":25")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.send("x@y.example", "anna@a.test", "Subject: first\r\n\r\nx"); err != nil || !strings.HasPrefix(r, "250") {
		t.Errorf("%s %v", r, err)
	}
	c.c.Close()
}
