package login

import (
	"os/exec"
	"strings"
	"testing"
)

// The vectors of the specification, and what must not be taken.
func TestSHACrypt(t *testing.T) {
	for hash, password := range map[string]string{
		"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1":                    "Hello world!",
		"$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.": "Hello world!",
		"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5":                                                               "Hello world!",
		"$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA":                                            "Hello world!",
	} {
		if err := ValidateHash(hash); err != nil || !Compare(hash, []byte(password)) || Compare(hash, []byte(password+"x")) || Compare(hash, nil) {
			t.Errorf("%s is not %q: %v", hash, password, err)
		}
	}
	for _, bad := range []string{"$6$", "$6$salt", "$6$rounds=$salt$x", "$6$rounds=999999999$salt$" + strings.Repeat("a", 86), "$6$rounds=10$salt$" + strings.Repeat("a", 86), "$5$salt$" + strings.Repeat("a", 42) + ":", "$6$saltsaltsaltsalts$" + strings.Repeat("a", 86), "$1$salt$qJH7.N4xYta3aEG/dfqo/0", "$y$j9T$x$y"} {
		if ValidateHash(bad) == nil || Compare(bad, []byte("x")) {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever openssl makes is verified here: passwords of every length that crosses a block, in both kinds.
func TestSHACryptOfOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	var passwords []string
	for n := 1; n <= 140; n += 3 {
		passwords = append(passwords, strings.Repeat("pä ss-Wörd!", 13)[:n])
	}
	for _, kind := range []string{"-5", "-6"} {
		for _, salt := range []string{"x", "saltsalt", "./0123456789ABCD"} {
			cmd := exec.Command("openssl", "passwd", kind, "-salt", salt, "-stdin")
			cmd.Stdin = strings.NewReader(strings.Join(passwords, "\n") + "\n")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			for i, hash := range strings.Split(strings.TrimSpace(string(out)), "\n") {
				if ValidateHash(hash) != nil || !Compare(hash, []byte(passwords[i])) || Compare(hash, []byte(passwords[i]+"\x01")) {
					t.Errorf("%q is not %q", hash, passwords[i])
				}
			}
		}
	}
}

func FuzzHash(f *testing.F) {
	f.Add("$6$rounds=1000$salt$x")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, hash string) {
		if err := ValidateHash(hash); err == nil && strings.TrimSpace(hash) == "" {
			t.Errorf("%q is a hash", hash)
		}
	})
}
