package acmetest

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Named is BIND as the server of a zone that takes updates signed with TSIG.
type Named struct {
	Addr          string // for queries and updates
	KeyName, Key  string
	DelegatedZone string // a second zone that takes updates
}

// StartNamed runs BIND for a zone until the test ends; the test is skipped where there is none.
// records are further lines of the zone.
func StartNamed(t testing.TB, zone, records string) *Named {
	t.Helper()
	program, err := exec.LookPath("named")
	if err != nil {
		if program = "/usr/sbin/named"; exec.Command(program, "-v").Run() != nil {
			t.Skip("BIND (named) is not installed")
		}
	}
	dir := t.TempDir()
	secret := make([]byte, 32)
	rand.Read(secret)
	n := &Named{KeyName: "acme-key", Key: base64.StdEncoding.EncodeToString(secret), DelegatedZone: "acme." + zone}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	n.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	soa := "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
	for name, text := range map[string]string{
		"zone.db": soa + records, "delegated.db": soa,
		"named.conf": fmt.Sprintf(`
options { directory %q; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; }; recursion yes; pid-file "named.pid"; session-keyfile "session.key"; managed-keys-directory %[1]q; dnssec-validation no; };
controls { };
key %[3]s { algorithm hmac-sha256; secret %[4]q; };
zone %[5]q { type primary; file "zone.db"; update-policy { grant %[3]s zonesub TXT; }; };
zone %[6]q { type primary; file "delegated.db"; update-policy { grant %[3]s zonesub TXT; }; };
`, dir, port, n.KeyName, n.Key, zone, n.DelegatedZone),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", n.Addr); err == nil {
			c.Close()
			return n
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("BIND does not answer:\n%s", text)
		}
	}
}
