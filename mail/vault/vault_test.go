package vault

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func open(t testing.TB, dir string) *Vault {
	t.Helper()
	v, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSeal: what is sealed comes back for the same use, after a restart too, never shows in what is
// stored, and is refused for another use or when an octet is changed.
func TestSeal(t *testing.T) {
	// covers: I.81
	dir := t.TempDir()
	v := open(t, dir)
	rapid.Check(t, func(t *rapid.T) {
		use, secret := rapid.String().Draw(t, "use"), rapid.StringN(1, 200, -1).Draw(t, "secret")
		sealed, err := v.Seal(use, secret)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Unseal(use, sealed); err != nil || got != secret {
			t.Fatalf("%q %v", got, err)
		}
		if len(secret) > 8 && strings.Contains(sealed, secret) {
			t.Fatalf("in clear: %s", sealed)
		}
		if _, err := again.Unseal(use+"x", sealed); !errors.Is(err, ErrInvalid) {
			t.Fatalf("for another use: %v", err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "octet")
		if broken := sealed[:i] + "#" + sealed[i+1:]; broken != sealed {
			if got, err := again.Unseal(use, broken); err == nil {
				t.Fatalf("damaged and taken: %q", got)
			}
		}
	})
}

// TestKeysOfBoth: a node that has taken the other's keys opens what either has sealed.
func TestKeysOfBoth(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, t.TempDir()), open(t, dir)
	sealed, err := a.Seal("relay", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Unseal("relay", sealed); !errors.Is(err, ErrNoKey) {
		t.Fatalf("without the key: %v", err)
	}
	if err := b.Add(a.Keys()); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	if got, err := b.Unseal("relay", sealed); err != nil || got != "s3cret" {
		t.Errorf("%q %v", got, err)
	}
	if a.Digest() == b.Digest() {
		t.Error("one key and two have the same digest")
	}
	if err := a.Add(b.Keys()); err != nil || a.Digest() != b.Digest() {
		t.Errorf("after both took all: %v", err)
	}
	if err := a.Add([]Key{{ID: "0123456789abcdef", Value: make([]byte, 32)}}); err == nil {
		t.Error("a key with a wrong ID is taken")
	}
}

// TestFile: nobody else may read it, and a damaged one is an error that names the line.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	path := filepath.Join(dir, fileName)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	raw, _ := os.ReadFile(path)
	for _, bad := range []string{"", "x", string(raw) + "0011 AAAA\n", strings.Replace(string(raw), " ", " A", 1)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "line") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
