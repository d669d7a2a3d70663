package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSecondDaemonIsRefused(t *testing.T) {
	d := newDaemon(t)
	d.start()
	out, err := exec.Command(bins.mailplusd, "dev", "--data", d.dir, "--port-offset", fmt.Sprint(d.offset+1)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("process %d", d.cmd.Process.Pid)) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command(bins.mailplusd, "dev", "--data", t.TempDir(), "--port-offset", fmt.Sprint(d.offset)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--port-offset") {
		t.Errorf("on the same ports: %v\n%s", err, out)
	}
}

func TestUnusableDataDirectory(t *testing.T) {
	build(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	newer := filepath.Join(dir, "newer")
	os.MkdirAll(filepath.Join(newer, "bodies"), 0o700)
	os.WriteFile(filepath.Join(newer, "bodies", "00000001.seg"), []byte("MPSEG\x00\x00\x63--------"), 0o600)
	for data, words := range map[string]string{file: "not a directory", newer: "newer version"} {
		out, err := exec.Command(bins.mailplusd, "dev", "--data", data, "--port-offset", fmt.Sprint(newDaemon(t).offset)).CombinedOutput()
		if err == nil || !strings.Contains(string(out), words) || strings.Contains(string(out), "goroutine") {
			t.Errorf("%s: %v\n%s", data, err, out)
		}
	}
	if out, err := exec.Command(bins.mailplusd, "serve", "--config", filepath.Join(dir, "nope.yaml")).CombinedOutput(); err == nil || !strings.Contains(string(out), "doesn't exist") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDataOfANewerVersion: the refusal says so and touches nothing. For the other parts of the directory
// see TestUnusableDataDirectory and the tests of their packages.
func TestDataOfANewerVersion(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.mailbox(2)
	d.stop()
	raftFormat := filepath.Join(d.dir, "raft", "format.json")
	raft := read(t, raftFormat)
	os.WriteFile(raftFormat, []byte(strings.Replace(raft, `"format":1`, `"format":99`, 1)), 0o600)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bins.mailplusd, "dev", "--data", d.dir, "--port-offset", fmt.Sprint(d.offset)).CombinedOutput()
	if text := string(out); err == nil || !strings.Contains(text, "newer") || !strings.Contains(text, "format 99") || strings.Contains(text, "goroutine") {
		t.Errorf("%v\n%s", err, out)
	}
	os.WriteFile(raftFormat, []byte(raft), 0o600)
	d.start()
	im := d.imap("bob")
	if box, err := im.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 2 {
		t.Errorf("%+v %v", box, err)
	}
}

// TestDataOfAnotherUser: whoever may not read or write the directory, or a part of it, is told which
// one, and nothing in it changes.
func TestDataOfAnotherUser(t *testing.T) {
	// covers: R2.35
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	build(t)
	const nobody = 65534
	base := t.TempDir()
	for _, p := range []string{base, filepath.Dir(base), filepath.Dir(bins.mailplusd)} {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	asNobody := func(data string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, bins.mailplusd, "dev", "--data", data, "--port-offset", fmt.Sprint(freeOffset(t)))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Env = []string{"HOME=/", "MAILPLUSD_DEV_PASSWORD=" + devPassword}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	locked := filepath.Join(base, "locked")
	os.Mkdir(locked, 0o700)
	readable := filepath.Join(base, "readable")
	os.Mkdir(readable, 0o755)
	cases := map[string]string{locked: locked, filepath.Join(locked, "inside"): locked, readable: readable}
	for _, part := range []string{"raft", "state", "bodies"} { // as after a start as root by mistake
		dir := filepath.Join(base, "with-"+part)
		os.Mkdir(dir, 0o700)
		os.Mkdir(filepath.Join(dir, part), 0o700)
		os.Chown(dir, nobody, nobody)
		cases[dir] = filepath.Join(dir, part)
	}
	for data, named := range cases {
		out, err := asNobody(data)
		if err == nil || !strings.Contains(out, named) || !strings.Contains(out, "permission denied") || strings.Contains(out, "goroutine") {
			t.Errorf("%s: %v, want a word about %s\n%s", data, err, named, out)
		}
	}
	for _, dir := range []string{locked, readable} {
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("%s holds %v now, %v", dir, list, err)
		}
	}
}

func TestDamagedBodyIsNamedNotServed(t *testing.T) {
	d := newDaemon(t)
	d.start()
	c := d.smtp(2525)
	for _, s := range []string{"first", "second"} {
		if r, err := c.send("x@y.example", "bob@example.test", "Subject: "+s+"\r\n\r\nUNIQUE-"+s+"\r\n"); err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	d.stop()
	path := filepath.Join(d.dir, "bodies", "00000001.seg")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(raw, []byte("UNIQUE-first"))
	if i < 0 {
		t.Fatal("the body is not in the segment")
	}
	raw[i] ^= 1
	os.WriteFile(path, raw, 0o600)
	d.start()
	out, errs, code := d.mpctl("storage", "verify")
	if code != 6 || !strings.Contains(out, "checksum") || !strings.Contains(errs, "1 of 2") {
		t.Errorf("verify: exit %d\n%s%s", code, out, errs)
	}
	im := d.smtp(2143) // any line client will do
	for _, cmd := range []string{"a LOGIN bob " + devPassword, "b SELECT INBOX"} {
		fmt.Fprintf(im.c, "%s\r\n", cmd)
		for l := ""; !strings.HasPrefix(l, cmd[:2]); {
			if l, err = im.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	fmt.Fprintf(im.c, "c FETCH 1:2 BODY.PEEK[]\r\n")
	var all strings.Builder
	for l := ""; !strings.HasPrefix(l, "c "); {
		if l, err = im.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		all.WriteString(l)
	}
	if got := all.String(); !strings.Contains(got, "c NO") || !strings.Contains(got, "UNIQUE-second") || strings.Contains(got, "NIQUE-first") {
		t.Errorf("FETCH:\n%s", got)
	}
}

// TestStopWithoutDisk: the disk fails while the daemon stops. It does not wait for it for ever.
func TestStopWithoutDisk(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.mailbox(3)
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-d.exited:
		if err == nil || !strings.Contains(d.log.String(), "not everything could be closed") {
			t.Errorf("%v\n%s", err, d.log.String())
		}
	case <-time.After(time.Minute):
		d.cmd.Process.Kill()
		<-d.exited
		t.Errorf("it waits for ever\n%s", d.log.String())
	}
	d.cmd = nil
}
