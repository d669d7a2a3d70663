package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
)

// Accounts of every Debian system; a group file of the test's own says which one administers.
const (
	memberUID   = 2 // bin
	memberName  = "bin"
	strangerUID = 3 // sys
)

// TestStoryInviteByAdministrator: who administers the secondary gives its word: root there, or a member of
// its administrators' group, and nobody else.
func TestStoryInviteByAdministrator(t *testing.T) {
	// covers: R11.35
	if os.Geteuid() != 0 {
		t.Skip("needs root to be other users")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("unshare is not installed")
	}
	l := newLAN(t)
	a, b := l.node("a", 2), l.node("b", 3)
	group := filepath.Join(l.dir, "group")
	script := filepath.Join(l.dir, "mailplusd")
	for name, text := range map[string]string{
		group:  "root:x:0:\n" + memberName + ":x:2:\nsys:x:3:\n" + auth.Group + ":x:997:" + memberName + "\n",
		script: fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s /etc/group && exec %s \"$@\"' mailplusd \"$@\"\n", group, bins.mailplusd),
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.program = script
	a.run()
	b.run()
	a.setUp()
	for _, dir := range []string{filepath.Dir(l.dir), l.dir, b.dir, filepath.Dir(bins.mpctl)} { // the way to the socket
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	invite := func(uid uint32) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bins.mpctl, "--socket", filepath.Join(b.dir, "admin.sock"), "ha", "invite", "-o", "json")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Env = []string{"HOME=/"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := invite(strangerUID); err == nil || !strings.Contains(out, "may not use mpctl ha invite") || strings.Contains(out, `"token"`) {
		t.Errorf("anybody on the machine may: %v\n%s", err, out)
	}
	token := ""
	for _, uid := range []uint32{0, memberUID} { // the later one's token counts
		raw, err := invite(uid)
		var out api.HAInviteOut
		if err != nil || json.Unmarshal([]byte(raw), &out) != nil || out.Token == "" {
			t.Fatalf("uid %d: %v\n%s", uid, err, raw)
		}
		token = a.file("token", out.Token)
	}
	a.ok("ha", "create", "--peer", b.ip, "--vip", l.vip(), "--invite-file", token, "--yes")
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.is("pair")
}
