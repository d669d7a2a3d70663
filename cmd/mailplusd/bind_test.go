package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// bind is a directory of BIND's: keys, zones and what its servers write.
type bind struct {
	t   *testing.T
	dir string
}

func newBIND(t *testing.T) *bind {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	for _, p := range []string{"named", "dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	return &bind{t, t.TempDir()}
}

func (b *bind) run(name string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%s %v: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}

func (b *bind) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// key makes a key that signs a zone, in a directory of its own, and gives its DNSKEY and its DS record.
func (b *bind) key(dir, zone string) (dnskey, ds string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o755); err != nil {
		b.t.Fatal(err)
	}
	name := b.run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K", dir, zone)
	record := regexp.MustCompile(`(?m)^.* DNSKEY (\d+ \d+ \d+) (.*)$`).FindStringSubmatch(read(b.t, filepath.Join(b.dir, dir, name+".key")))
	if record == nil {
		b.t.Fatal("dnssec-keygen has made no key")
	}
	return record[1] + ` "` + strings.ReplaceAll(record[2], " ", "") + `"`, b.run("dnssec-dsfromkey", "-2", filepath.Join(dir, name))
}

// sign signs a zone with the keys of a directory, into NAME.signed.
func (b *bind) sign(dir, origin, name, records string) {
	b.t.Helper()
	b.write(name, "$TTL 60\n"+records)
	b.run("dnssec-signzone", "-q", "-S", "-z", "-K", dir, "-o", origin, "-f", name+".signed", name)
}

// serve runs a server in a namespace until the test ends.
func (b *bind) serve(ns, name, options, zones string) {
	b.t.Helper()
	b.write(name+".conf", fmt.Sprintf(`options { directory "%[1]s"; %[2]s; listen-on-v6 { none; }; pid-file none; session-keyfile "%[1]s/%[3]s.key"; lock-file none;
managed-keys-directory "%[1]s"; empty-zones-enable no; max-cache-size 16m; max-records-per-type 0; };
controls { };
%[4]s`, b.dir, options, name, zones))
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	cmd := in(ns, "named", "-g", "-n", "1", "-c", filepath.Join(b.dir, name+".conf"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(read(b.t, log.Name()), " running\n"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("named does not start:\n%s", read(b.t, log.Name()))
		}
	}
}
