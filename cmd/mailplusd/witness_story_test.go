package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// witness starts one and gives its address and token.
func (l *lan) witness() (addr, token string) {
	l.t.Helper()
	addr = l.prefix + "5:2827"
	cmd := exec.Command(bins.mailplusd, "witness", "--data", filepath.Join(l.dir, "witness"), "--listen", addr, "--name", "w", "--lease", "short", "--log-level", "error")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	r := bufio.NewReader(out)
	for token == "" {
		line, err := r.ReadString('\n')
		if err != nil {
			l.t.Fatalf("the witness prints no token: %v", err)
		}
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "echo "); ok {
			token, _, _ = strings.Cut(rest, " ")
		}
	}
	go io.Copy(io.Discard, r)
	return addr, token
}

// TestStoryWitness: a witness is taken in by both nodes, and given up by both; it has forgotten the pair then.
func TestStoryWitness(t *testing.T) {
	l := newLAN(t)
	a, b := l.pair()
	addr, token := l.witness()
	knows := func(n *twin) bool {
		return strings.Contains(read(t, filepath.Join(n.dir, "ha-state.json")), `"witness": {`)
	}
	b.has(addr, "ha", "witness", "add", addr, "--invite-file", b.file("token", token)) // from either node
	for _, n := range []*twin{a, b} {
		n.until("it knows the witness", func() bool { return knows(n) })
	}
	a.has(`"in_sync":["a","b"]`, "ha", "witness", "show", "-o", "jsonl") // at once: the answer has waited for that
	a.has("a", "ha", "witness", "show")
	// It decides: the primary dies.
	a.kill()
	b.is("solo-secondary")
	b.has("b", "ha", "witness", "show")
	a.run()
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")

	a.ok("ha", "witness", "remove", "--yes")
	for _, n := range []*twin{a, b} {
		n.until("it has given up the witness", func() bool { return !knows(n) })
		n.fails(7, "there is no witness", "ha", "witness", "show")
		n.has("gateway", "ha", "show")
	}
	if raw, err := os.ReadFile(filepath.Join(l.dir, "witness", "witness.json")); err != nil || strings.Contains(string(raw), `"id"`) {
		t.Errorf("the witness remembers the pair: %s %v", raw, err)
	}
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	b.ok("ha", "switchover", "a")
	a.until("a holds the address", func() bool { return a.show().Holder == "a" })
}
