package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
		out, err := exec.Command(bins.mailplusd, "dev", "--data", data).CombinedOutput()
		if err == nil || !strings.Contains(string(out), words) || strings.Contains(string(out), "goroutine") {
			t.Errorf("%s: %v\n%s", data, err, out)
		}
	}
	if out, err := exec.Command(bins.mailplusd, "serve", "--config", filepath.Join(dir, "nope.yaml")).CombinedOutput(); err == nil || !strings.Contains(string(out), "doesn't exist") {
		t.Errorf("%v\n%s", err, out)
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

// TestFullDisk runs a daemon on a small file system of its own.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	d := newDaemon(t)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", d.dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount a tmpfs here: %s", out)
	}
	t.Cleanup(func() { d.stop(); exec.Command("umount", "-l", d.dir).Run() })
	d.start()
	filler := filepath.Join(d.dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	text := "Subject: big\r\n\r\n" + strings.Repeat(fmt.Sprintf("%0900d\r\n", time.Now().UnixNano()), 5000)
	refused, accepted := 0, 0
	c := d.smtp(2525)
	for i := range 30 {
		r, err := c.send("x@y.example", "bob@example.test", fmt.Sprintf("X-N: %d\r\n%s", i, text))
		if err != nil {
			t.Fatalf("the connection broke: %v\n%s", err, d.log.String())
		}
		switch r[0] {
		case '4':
			refused++
		case '2':
			accepted++
		default:
			t.Errorf("%s", r)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused on a full disk")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if r, err := c.send("x@y.example", "bob@example.test", text); err != nil || r[0] != '2' {
		t.Errorf("with space again: %s %v\n%s", r, err, d.log.String())
	}
	d.has(fmt.Sprint(accepted+1, " bodies"), "status")
}
