package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestStoryRecordsToPublish compares the records with the reference zone, as far as a mail system
// decides about it.
func TestStoryRecordsToPublish(t *testing.T) {
	// covers: R2.14 R2.32 R2.51
	d := newDaemon(t)
	d.start()
	d.ok("domain", "add", "example.com")
	d.ok("delivery", "general", "set", "--hostname", "mail.example.com")
	out := d.ok("domain", "dns-records", "example.com", "--address", "122.116.172.181", "--address", "2001:db8::25", "-o", "jsonl")
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var r struct {
			Type, Name, Value string
			Priority, TTL     int
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %d %d %s", r.Name, r.Type, r.TTL, r.Priority, r.Value))
	}
	srv := func(name string, priority, port int) string {
		return fmt.Sprintf("%s._tcp.example.com SRV 3600 %d 0 %d mail.example.com.", name, priority, port+d.offset)
	}
	want := []string{
		"mail.example.com A 600 0 122.116.172.181",
		"mail.example.com AAAA 600 0 2001:db8::25",
		"example.com MX 3600 0 mail.example.com",
		"example.com TXT 3600 0 v=spf1 mx -all",
		srv("_submission", 0, 2587), srv("_submissions", 0, 2465), srv("_imaps", 0, 2993), srv("_imap", 10, 2143), srv("_pop3s", 20, 2995), srv("_pop3", 30, 2110),
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestStoryFixedAndChangingAddress: an address that the next lease may replace wants a name that follows it.
func TestStoryFixedAndChangingAddress(t *testing.T) {
	// covers: R2.60
	d := newDaemon(t)
	d.start()
	server := resolver(t, "mail.example.test. 60 IN A 127.44.0.1\n")
	d.ok("config", "set", "network.resolvers="+server, "network.public-address=127.44.0.1")
	d.has("network 127.44.0.1: is fixed; mail.example.test leads to it", "check", "network")
	d.ok("config", "set", "network.public-address=127.44.0.2")
	d.has("network 127.44.0.2: is fixed, but mail.example.test leads to 127.44.0.1", "check", "network")
	for _, ip := range []string{"127.44.0.1", "127.44.0.2"} { // as DHCP gives them: with a life time
		if out, err := exec.Command("ip", "addr", "add", ip+"/32", "dev", "lo", "valid_lft", "600", "preferred_lft", "600").CombinedOutput(); err != nil {
			t.Skipf("takes root and ip: %v %s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "addr", "delete", ip+"/32", "dev", "lo").Run() })
	}
	d.has("changes with its lease, and mail.example.test leads to 127.44.0.1", "check", "network")
	d.has("dynamic DNS", "check", "network")
	d.ok("config", "set", "network.public-address=127.44.0.1")
	d.has("changes with its lease; mail.example.test leads to it now", "check", "network")
	d.ok("config", "set", "network.resolvers="+resolver(t, "other.test. 60 IN A 127.0.0.1\n"))
	d.has("leads to no address", "check", "network")
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	d.has("can't be looked up", "check", "network")
}

// TestStoryDirectory is what the directory keeps about an account, and what it never shows.
func TestStoryDirectory(t *testing.T) {
	// covers: R5.01 R5.02
	d := newDaemon(t)
	d.start()
	d.ok("group", "add", "staff")
	d.ok("user", "add", "Carol", "--display-name", "Carol C.", "--nickname", "cc", "--group", "staff", "--password-file", d.file("pw", "carols-long-word"))
	d.ok("account", "activate", "carol")
	d.ok("user", "app-permission", "set", "carol", "--deny", "pop3")
	d.ok("user", "set", "carol", "--admin", "on")
	out := d.ok("user", "show", "CAROL", "-o", "json")
	for _, want := range []string{`"name": "carol"`, `"display_name": "Carol C."`, `"nickname": "cc"`, `"staff"`, `"pop3"`, `"admin": true`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "argon2") || strings.Contains(out, "carols-long-word") {
		t.Errorf("the password shows:\n%s", out)
	}
	c := d.smtp(2525)
	deliver := func(want string) {
		t.Helper()
		d.say(c, "250", "RSET")
		d.say(c, "250", "MAIL FROM:<x@y.example>")
		d.say(c, want, "RCPT TO:<carol@example.test>")
	}
	deliver("250")
	d.ok("user", "disable", "carol") // the mail account follows the directory
	deliver("550")
	d.ok("user", "enable", "carol")
	deliver("250")
	d.ok("user", "delete", "carol", "--yes")
	deliver("550")
}
