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

	"github.com/emersion/go-imap/v2/imapclient"
)

// imapLogin tries to log in by IMAP; the error is the server's refusal.
func (d *process) imapLogin(user string) error {
	d.t.Helper()
	c, err := imapclient.DialInsecure(d.port(2143), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	return c.Login(user, devPassword).Wait()
}

// popLogin is the same by POP3.
func (d *process) popLogin(user, want string) {
	d.t.Helper()
	p := d.pop()
	p.say("+OK", "USER "+user)
	p.say(want, "PASS "+devPassword)
	p.c.c.Close()
}

// effective gives what `policy effective` says about each item.
func (d *process) effective(user string) map[string]string {
	d.t.Helper()
	var rows []struct{ Item, Value string }
	if err := json.Unmarshal([]byte(d.ok("policy", "effective", user, "-o", "json")), &rows); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.Item] = r.Value
	}
	return out
}

// order gives the names of the policies in their order.
func (d *process) order() string {
	d.t.Helper()
	return strings.Join(strings.Fields(d.ok("policy", "list", "-o", "name")), " ")
}

// TestStoryPolicies: policies are made, put in order, shown and deleted, and the default one stays as it is.
func TestStoryPolicies(t *testing.T) {
	// covers: R5.33 R5.34 R5.35 R5.36 R5.37 R5.38 R5.39 R5.40 R5.41 R5.42 R5.43 R5.44 R5.45 R5.46 R5.47 R5.48 R5.49 R5.50 R5.51 R5.52 R5.53 R5.54
	d := newDaemon(t)
	d.start()
	d.wantsOrder("default")
	d.has(`"imap": true`, "policy", "show", "default", "-o", "json")
	d.has(`"pop3_lan_only": false`, "policy", "show", "default", "-o", "json")
	d.has(`"disable_auto_forward": "inherit"`, "policy", "show", "default", "-o", "json")
	d.fails(3, "can't be changed", "policy", "set", "default", "--imap", "off")
	d.fails(3, "can't be deleted", "policy", "delete", "default", "--yes")
	d.fails(3, "can't be moved", "policy", "move", "default", "--first")
	d.fails(3, "default policy", "policy", "target", "add", "default", "alice")
	d.fails(2, "everybody", "policy", "add", "default")

	d.ok("group", "add", "staff", "--user", "bob")
	d.ok("policy", "add", "old", "--user", "alice", "--colour", "red", "--pop3", "off")
	d.ok("policy", "add", "new", "--user", "alice", "--group", "staff", "--fts", "off")
	d.wantsOrder("old new default")
	d.fails(3, "exists already", "policy", "add", "old")
	d.fails(2, "pink", "policy", "add", "third", "--colour", "pink")
	d.fails(7, "no user", "policy", "add", "third", "--user", "nobody")
	d.fails(7, "no policy", "policy", "show", "third")
	if e := d.effective("alice"); e["policy"] != "old" || e["pop3"] != "off" || e["imap"] != "on" {
		t.Errorf("alice: %v", e)
	}
	if e := d.effective("bob"); e["policy"] != "new" || e["pop3"] != "on" {
		t.Errorf("bob: %v", e)
	}
	d.has("group staff", "policy", "list", "--targets")
	if out := d.ok("policy", "list"); strings.Contains(out, "group staff") || !strings.Contains(out, "1 users, 1 groups") {
		t.Errorf("targets are not hidden:\n%s", out)
	}
	if out := d.ok("policy", "list", "--colour", "red", "-o", "name"); strings.TrimSpace(out) != "old" {
		t.Errorf("red ones: %q", out)
	}
	if out := d.ok("policy", "list", "--search", "staff", "-o", "name"); strings.TrimSpace(out) != "new" {
		t.Errorf("with staff in it: %q", out)
	}
	d.has("group staff", "policy", "target", "list", "new", "--search", "bo")
	if out := d.ok("policy", "target", "list", "new", "--search", "bo"); strings.Contains(out, "alice") {
		t.Errorf("the search finds alice:\n%s", out)
	}

	// The order is changed in one step, or not at all.
	d.has("new, old", "policy", "move", "new", "--first", "--dry-run")
	d.wantsOrder("old new default")
	d.ok("policy", "add", "third", "--user", "bob")
	d.ok("policy", "move", "third", "new", "--before", "old")
	d.wantsOrder("third new old default")
	d.ok("policy", "move", "third", "--after", "new")
	d.wantsOrder("new third old default")
	d.ok("policy", "move", "new", "--last")
	d.wantsOrder("third old new default")
	d.fails(2, "named twice", "policy", "move", "new", "new", "--first")
	d.fails(2, "next to itself", "policy", "move", "new", "--after", "new")
	d.fails(2, "one of", "policy", "move", "new")
	d.fails(7, "no policy", "policy", "move", "new", "nothing", "--first")
	d.wantsOrder("third old new default")
	if e := d.effective("alice"); e["policy"] != "old" {
		t.Errorf("alice: %v", e)
	}
	if _, errs, _ := d.mpctl("policy", "target", "add", "new", "bob"); !strings.Contains(errs, "for bob the policy third counts") {
		t.Errorf("no word about the policy that comes before: %s", errs)
	}

	d.ok("policy", "set", "old", "--colour", "blue", "--imap-lan-only", "on", "--rename", "older")
	d.has("blue", "policy", "show", "older")
	d.has("policy set", "admin", "log", "list")
	d.ok("policy", "target", "delete", "older", "alice")
	d.fails(7, "no target", "policy", "target", "delete", "older", "alice")
	if e := d.effective("alice"); e["policy"] != "new" {
		t.Errorf("alice, taken out of older: %v", e)
	}
	d.ok("policy", "target", "add", "older", "--group", "staff")
	d.ok("group", "set", "staff", "--rename", "crew")
	d.has("group crew", "policy", "show", "older")
	d.ok("group", "delete", "crew", "--yes")
	if out := d.ok("policy", "show", "older"); strings.Contains(out, "crew") {
		t.Errorf("a group that is gone is still a target:\n%s", out)
	}
	d.fails(3, "wants a confirmation", "policy", "delete", "new")
	d.ok("policy", "delete", "new", "--yes")
	if e := d.effective("alice"); e["policy"] != "default" {
		t.Errorf("alice, whose policy is deleted: %v", e)
	}
	d.ok("user", "delete", "bob", "--yes")
	if out := d.ok("policy", "show", "third"); strings.Contains(out, "bob") {
		t.Errorf("a user who is gone is still a target:\n%s", out)
	}
}

func (d *process) wantsOrder(want string) {
	d.t.Helper()
	if got := d.order(); got != want {
		d.t.Errorf("order: %s, want %s", got, want)
	}
}

// TestStoryPolicyActs: who may log in and whose mail is indexed follows the policy; a session that is open goes on.
func TestStoryPolicyActs(t *testing.T) {
	// covers: R5.32 R5.55 R5.84 R5.85 R5.86 R5.91 R5.92 R5.93 R5.98 R5.99 R5.100 R7.17
	d := newDaemon(t)
	d.start()
	open := d.imap("alice")
	d.ok("group", "add", "staff", "--user", "alice")
	d.ok("policy", "add", "strict", "--group", "staff", "--imap", "off", "--pop3", "off")
	if err := d.imapLogin("alice"); err == nil {
		t.Error("alice logs in by IMAP, which her policy does not allow")
	}
	if err := d.imapLogin("bob"); err != nil {
		t.Errorf("bob: %v", err)
	}
	d.popLogin("alice", "-ERR")
	d.popLogin("bob", "+OK")
	d.has("does not allow imap", "check", "login", "alice")
	if err := open.Noop().Wait(); err != nil {
		t.Errorf("the session that was open: %v", err)
	}
	d.ok("policy", "add", "free", "--user", "alice")
	if err := d.imapLogin("alice"); err == nil {
		t.Error("a policy further down frees alice")
	}
	d.ok("policy", "move", "free", "--first")
	if err := d.imapLogin("alice"); err != nil {
		t.Errorf("alice, whom the first policy frees: %v", err)
	}
	d.popLogin("alice", "+OK")
	// The user's own switch and the service take away what the policy gives.
	d.ok("user", "set", "alice", "--deny", "imap")
	if err := d.imapLogin("alice"); err == nil {
		t.Error("alice logs in by IMAP, which is denied to her")
	}
	if e := d.effective("alice"); e["imap"] != "off" || e["pop3"] != "on" {
		t.Errorf("alice: %v", e)
	}
	d.has("user set alice --deny none", "policy", "effective", "alice")
	d.ok("user", "set", "alice", "--deny", "none")
	d.ok("service", "pop3", "set", "--enable", "off", "--yes")
	if _, errs, _ := d.mpctl("policy", "set", "free", "--pop3", "on"); !strings.Contains(errs, "POP3 is off for everybody") {
		t.Errorf("no word about the service: %s", errs)
	}
	d.has("service pop3 set --enable on", "policy", "effective", "alice")
	if c, err := dialRaw(d.port(2110)); err == nil {
		c.c.Close()
		t.Error("POP3 is off and answers")
	}

	// Full-text search: the service, the policy and the user's switch must all allow it.
	appendMail(t, d.imap("alice"), "INBOX", "one", "text")
	if _, errs, _ := d.mpctl("policy", "set", "free", "--fts", "on"); !strings.Contains(errs, "full-text search is off for everybody") {
		t.Errorf("no word about the service: %s", errs)
	}
	d.has("off", "fts", "status", "alice")
	d.ok("service", "fts", "set", "--enable", "on", "--yes")
	d.indexed("alice", "up to date", 1)
	d.indexes(2)
	if _, errs, _ := d.mpctl("policy", "set", "free", "--fts", "off"); !strings.Contains(errs, "indexes of 1 users are removed") {
		t.Errorf("no word about the index: %s", errs)
	}
	d.indexes(1)
	d.has("policy set 'free' --fts on", "fts", "status", "alice")
	d.fails(3, "no index of alice", "fts", "reindex", "alice")
	d.ok("policy", "delete", "free", "--yes") // strict counts for her now, and allows it
	d.indexed("alice", "up to date", 1)
	d.indexes(2)
	d.ok("user", "set", "alice", "--fts", "off")
	d.indexes(1)
}

// indexes waits until there are so many indexes on the disk.
func (d *process) indexes(n int) {
	d.t.Helper()
	for end := time.Now().Add(20 * time.Second); d.indexFiles() != n && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
	}
	if got := d.indexFiles(); got != n {
		d.t.Errorf("%d indexes, want %d", got, n)
	}
}

// TestStoryPolicyLocalNetwork: who may log in from the local network only is refused at another
// address. The client lives in a network namespace, behind a router as the server sees it.
func TestStoryPolicyLocalNetwork(t *testing.T) {
	// covers: R5.87 R5.88 R5.89 R5.90 R5.94 R5.95 R5.96 R5.97
	need(t, "curl", "ip")
	if os.Getuid() != 0 {
		t.Skip("takes root, for a network namespace")
	}
	id := os.Getpid() % 250
	ns, here, there := fmt.Sprint("mpol", os.Getpid()), fmt.Sprintf("10.231.%d.1", id), fmt.Sprintf("10.231.%d.2", id)
	const outside = "198.51.100.77"
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
	run("netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	veth := fmt.Sprint("mpol", id)
	run("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns)
	t.Cleanup(func() { exec.Command("ip", "link", "delete", veth).Run() })
	run("address", "add", here+"/30", "dev", veth)
	run("link", "set", veth, "up")
	run("-n", ns, "address", "add", there+"/30", "dev", "eth0")
	run("-n", ns, "link", "set", "eth0", "up")
	run("-n", ns, "link", "set", "lo", "up")
	run("-n", ns, "address", "add", outside+"/32", "dev", "lo")
	run("route", "add", outside+"/32", "via", there)

	build(t)
	n := &twin{process: &process{t: t, dir: filepath.Join(t.TempDir(), "data")}, name: "a", ip: here}
	t.Cleanup(n.stop)
	n.run("--link", "none")
	n.setUp()
	n.ok("--yes", "service", "pop3", "set", "--enable", "--port", "2110", "--tls-port", "2995")
	n.ok("config", "set", "service.plain-login=always")
	login := func(scheme string, port int, from string, want bool) {
		t.Helper()
		out, err := exec.Command("ip", "netns", "exec", ns, "curl", "-sS", "--max-time", "10", "--interface", from, "--user", "bob:"+devPassword, fmt.Sprintf("%s://%s:%d/", scheme, here, port)).CombinedOutput()
		if code := exitCode(err); code != 0 && code != 67 { // 67: login denied
			t.Fatalf("%s from %s: %v %s", scheme, from, err, out)
		}
		if (err == nil) != want {
			t.Errorf("%s from %s: %v %s, want %v", scheme, from, err, out, want)
		}
	}
	everywhere := func(imapOutside, popOutside bool) {
		t.Helper()
		login("imap", 2143, there, true)
		login("imap", 2143, outside, imapOutside)
		login("pop3", 2110, there, true)
		login("pop3", 2110, outside, popOutside)
	}
	everywhere(true, true)
	n.ok("policy", "add", "office", "--user", "bob", "--imap-lan-only", "on")
	everywhere(false, true)
	n.has("local network only", "policy", "effective", "bob")
	n.has("from the local network only", "check", "login", "bob")
	n.ok("policy", "set", "office", "--imap-lan-only", "off", "--pop3-lan-only", "on")
	everywhere(true, false)
	// Programs on the server itself, such as a webmail, are inside at whichever of its addresses.
	if out, err := exec.Command("curl", "-sS", "--max-time", "10", "--user", "bob:"+devPassword, fmt.Sprintf("pop3://%s:2110/", here)).CombinedOutput(); err != nil {
		t.Errorf("from the server itself: %v %s", err, out)
	}
	n.ok("net", "lan", "set", outside+"/32")
	everywhere(true, true)
	n.ok("--yes", "service", "pop3", "set", "--enable", "off")
	if _, err := dialRaw(here + ":2110"); err == nil {
		t.Error("POP3 is off and answers")
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return -1
}
