package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fillBodies delivers messages with bodies of their own.
func (d *process) fillBodies(n int) {
	d.t.Helper()
	c := d.smtp(2525)
	for i := range n {
		if r, err := c.send("x@y.example", "bob@example.test", fmt.Sprintf("Subject: b%d\r\n\r\nbody %d", i, i)); err != nil || r[0] != '2' {
			d.t.Fatal(r, err)
		}
	}
	c.c.Close()
}

func TestStoryJobs(t *testing.T) {
	// covers: I.85
	d := newDaemon(t)
	d.start()
	d.fillBodies(5)
	d.has(`"bodies": 5`, "storage", "verify", "-o", "json")
	d.has(`"segments"`, "storage", "compact", "-o", "json")
	out := d.ok("storage", "verify", "--no-wait", "-o", "json")
	var j struct {
		ID    int    `json:"id"`
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil || j.ID != 3 {
		t.Fatalf("%v in %s", err, out)
	}
	d.has("done", "job", "wait", "3")
	d.has("storage verify", "job", "show", "3")
	d.fails(3, "ended already", "job", "cancel", "3")
	d.fails(7, "no job 99", "job", "wait", "99")
	if out := d.ok("job", "list", "--running", "-o", "name"); out != "" {
		t.Errorf("still running: %s", out)
	}
	d.stop()
	d.start()
	if out := d.ok("job", "list", "-o", "name"); out != "3\n2\n1\n" {
		t.Errorf("jobs after a restart: %q", out)
	}
	d.has("storage compact", "admin", "log", "list")
}

func TestStoryClientCertificate(t *testing.T) {
	// covers: I.13
	d := newDaemon(t)
	d.start()
	key, cert := selfSigned(t)
	own := d.file("own.pem", cert+key)
	_, other := selfSigned(t)
	skey, scert := selfSigned(t)
	d.ok("cert", "import", "main", "--cert", d.file("s.pem", scert), "--key-file", d.file("s.key", skey), "--default", "on")
	ca := d.file("s.pem", scert)
	remote := []string{"--server", d.port(2825), "--ca", ca, "--client-cert", own}
	d.fails(4, "client certificate is unknown", append(remote, "user", "list")...)
	d.fails(3, "no PEM certificate", "token", "add", "bad", "--user", "alice", "--cert", d.file("k.pem", key))
	d.ok("token", "add", "laptop", "--user", "alice", "--cert", own)
	d.ok("token", "add", "clerk", "--user", "bob", "--cert", d.file("other.pem", other))
	d.fails(3, "already", "token", "add", "twice", "--user", "bob", "--cert", own)
	d.has("certificate", "token", "list")
	d.has("alice", append(remote, "user", "list")...)
	d.ok(append(remote, "user", "set", "bob", "--display-name", "Bob B.")...)
	d.has("alice (certificate laptop)", "admin", "log", "list")

	config := d.file("config-home", "")
	os.Remove(config)
	t.Setenv("XDG_CONFIG_HOME", config)
	ctl := func(args ...string) (string, int) {
		cmd := exec.Command(bins.mpctl, args...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"context", "set", "pair", "--server", d.port(2825), "--ca", ca, "--client-cert", own}, 0, ""},
		{[]string{"context", "use", "pair"}, 0, ""},
		{[]string{"context", "list"}, 0, "* pair"},
		{[]string{"user", "show", "bob"}, 0, "Bob B."},
		{[]string{"context", "delete", "pair"}, 0, ""},
		{[]string{"context", "delete", "pair"}, 7, "no context"},
		{[]string{"--context", "pair", "status"}, 7, "no context"},
	} {
		if out, code := ctl(step.args...); code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("mpctl %v: exit %d, want %d %q\n%s", step.args, code, step.code, step.want, out)
		}
	}
	d.ok("token", "delete", "laptop")
	d.fails(4, "unknown", append(remote, "user", "list")...)
}

// TestAdminLogIsPartOfTheChange kills the daemon right after mpctl has returned, many times: what
// was changed has its line.
func TestAdminLogIsPartOfTheChange(t *testing.T) {
	// covers: I.13
	d := newDaemon(t)
	d.start()
	for i := range 3 {
		d.ok("user", "set", "bob", "--display-name", fmt.Sprint("name ", i))
		d.kill()
		d.start()
		d.has(fmt.Sprint("name ", i), "admin", "log", "list")
	}
	rows := "name,password\nu1,some-long-word-1\nu2,short\nu3,some-long-word-3\n"
	if _, _, code := d.mpctlIn(rows, "user", "add", "--file", "-"); code != 6 {
		t.Errorf("exit %d, want 6", code)
	}
	out := d.ok("admin", "log", "list", "-o", "jsonl", "--filter", "op=user add")
	if !strings.Contains(out, `"u1 u3"`) {
		t.Errorf("the bulk line doesn't name what changed: %s", out)
	}
}

func TestStoryAccountSourceAndPermissions(t *testing.T) {
	// covers: R2.44 R5.07 R5.09
	d := newDaemon(t)
	d.start()
	d.has("local", "account", "source", "show", "--filter", "in_force=yes")
	d.fails(3, "no directory of type ldap", "account", "source", "set", "ldap")
	d.fails(3, "no directory of type domain", "account", "source", "set", "domain")
	d.ok("account", "source", "set", "local")
	d.has("pop3", "user", "app-permission", "set", "bob", "--deny", "pop3", "-o", "json")
	p := d.pop()
	p.say("+OK", "USER bob")
	p.say("-ERR", "PASS "+devPassword)
	d.ok("user", "app-permission", "set", "bob", "--allow", "all", "--dry-run")
	d.has("pop3", "user", "app-permission", "show", "bob", "--filter", "denied~pop3")
	d.fails(2, "both allowed and denied", "user", "app-permission", "set", "bob", "--allow", "all", "--deny", "imap")
	d.fails(2, "--allow", "user", "app-permission", "set", "bob")
	d.ok("user", "app-permission", "set", "bob", "--allow", "all")
	p = d.pop()
	p.say("+OK", "USER bob")
	p.say("+OK", "PASS "+devPassword)
}

// TestLocalNetworkIsWhatIsConnected sends from a neighbour on the service's subnet and from one
// behind a router, in namespaces.
func TestLocalNetworkIsWhatIsConnected(t *testing.T) {
	// covers: I.22 R2.34
	if os.Geteuid() != 0 {
		t.Skip("network namespaces take root")
	}
	ns := fmt.Sprintf("mplan%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			if strings.Contains(string(out), "not permitted") {
				t.Skip("network namespaces are not allowed here")
			}
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	ip("netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	ip("-n", ns, "link", "set", "lo", "up")
	ip("-n", ns, "link", "add", "svc0", "type", "veth", "peer", "name", "svc1")
	ip("-n", ns, "link", "set", "svc1", "up")
	ip("-n", ns, "addr", "add", "10.77.0.1/24", "dev", "svc0")
	ip("-n", ns, "link", "set", "svc0", "up")
	ip("-n", ns, "addr", "add", "10.77.0.2/32", "dev", "lo")
	ip("-n", ns, "addr", "add", "10.99.0.2/32", "dev", "lo")
	build(t)
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", ns, bins.mailplusd, "serve", "--data", dir, "--name", "n1", "--link", "none", "--admin-socket", dir+"/admin.sock")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	mpctl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(bins.mpctl, append([]string{"--socket", dir + "/admin.sock"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("mpctl %v: %v\n%s\n%s", args, err, out, log.String())
		}
		return string(out)
	}
	if out := mpctl("net", "interface", "list"); !strings.Contains(out, "svc0") || !strings.Contains(out, "10.77.0.1/24") {
		t.Errorf("before set-up: %s", out)
	}
	mpctl("setup", "new", "--domain", "lan.example", "--interface", "svc0", "--yes")
	mpctl("delivery", "auth", "set", "--lan-exempt", "on")
	if out := mpctl("net", "lan", "show"); !strings.Contains(out, "10.77.0.0/24") {
		t.Errorf("lan: %s", out)
	}
	rcpt := func(from string) string {
		script := fmt.Sprintf("import smtplib\ns=smtplib.SMTP('10.77.0.1',25,source_address=(%q,0),timeout=20)\ns.ehlo('x.example')\ns.mail('a@b.example')\nprint(s.rcpt('far@elsewhere.example')[0])", from)
		out, err := exec.Command("ip", "netns", "exec", ns, "python3", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(mpctl("service", "show"), "10.77.0.1:25") && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if got := rcpt("10.77.0.2"); got != "250" {
		t.Errorf("neighbour: %s, want 250", got)
	}
	if got := rcpt("10.99.0.2"); got != "554" && got != "550" {
		t.Errorf("stranger: %s, want 550", got)
	}
	mpctl("net", "lan", "set", "10.99.0.0/24")
	if got := rcpt("10.99.0.2"); got != "250" {
		t.Errorf("named network: %s, want 250", got)
	}
	mpctl("net", "lan", "set")
	if got := rcpt("10.99.0.2"); got == "250" {
		t.Errorf("no longer named: %s", got)
	}
}
