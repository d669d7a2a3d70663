package login

import (
	"encoding/base32"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCodesOfTheRFC: the vectors of RFC 6238 appendix B for SHA-1, their last six digits.
func TestCodesOfTheRFC(t *testing.T) {
	// covers: I.09
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got, err := CodeAt(secret, time.Unix(at, 0)); got != want || err != nil {
			t.Errorf("at %d: %s %v, want %s", at, got, err, want)
		}
		if step, ok := CheckCode(secret, want[:3]+" "+want[3:], time.Unix(at, 0), -1); !ok || step != at/30 {
			t.Errorf("at %d: %d %v", at, step, ok)
		}
	}
}

// TestCodeIsGoodOnce: within a step of the clock, and never again; nor one before it.
func TestCodeIsGoodOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := NewSecret()
		now := time.Unix(rapid.Int64Range(1e6, 1e11).Draw(t, "now"), 0)
		shift := rapid.IntRange(-4, 4).Draw(t, "steps that the app is off")
		code, err := CodeAt(secret, now.Add(time.Duration(shift)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		step, ok := CheckCode(secret, code, now, 0)
		if want := shift >= -1 && shift <= 1; ok != want && want {
			t.Fatalf("an app that is %d steps off: %v", shift, ok)
		}
		if !ok {
			return
		}
		if again, ok := CheckCode(secret, code, now, step); ok && again <= step {
			t.Fatal("a code is good twice")
		}
	})
	for _, bad := range []string{"", "12345", "1234567", "abcdef", strings.Repeat("1", 10000), "١٢٣٤٥٦"} {
		if _, ok := CheckCode(NewSecret(), bad, time.Now(), 0); ok {
			t.Errorf("%.20q is a code", bad)
		}
	}
	if _, ok := CheckCode("not base32!", "123456", time.Now(), 0); ok {
		t.Error("a broken secret has codes")
	}
}

func TestRecoveryCodes(t *testing.T) {
	codes, hashes := NewRecovery()
	if len(codes) != RecoveryCodes || len(hashes) != RecoveryCodes {
		t.Fatal(len(codes), len(hashes))
	}
	for i, c := range codes {
		for _, typed := range []string{c, strings.ToUpper(c), strings.ReplaceAll(c, "-", ""), " " + c + " "} {
			if got := CheckRecovery(typed, hashes); got != i {
				t.Errorf("%q is code %d, want %d", typed, got, i)
			}
		}
	}
	if CheckRecovery("", hashes) >= 0 || CheckRecovery("aaaa-bbbb-cccc-dddd", hashes) >= 0 {
		t.Error("anything recovers")
	}
}

func TestSecretURI(t *testing.T) {
	u, err := url.Parse(SecretURI("mail.example.com", "anna", "ABC"))
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/mail.example.com:anna" || u.Query().Get("secret") != "ABC" || u.Query().Get("issuer") != "mail.example.com" {
		t.Errorf("%v %v", u, err)
	}
}

// TestSecondIsThrottled: whoever tries codes has the password, so all addresses count together.
func TestSecondIsThrottled(t *testing.T) {
	l, _, now := setup(t)
	code := func(ok bool) error { return l.Second("anna", func() (bool, error) { return ok, nil }) }
	if err := code(true); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := code(false); !errors.Is(err, ErrCode) {
			t.Fatal(err)
		}
	}
	if err := code(true); !errors.Is(err, ErrLocked) {
		t.Errorf("after 3 wrong codes: %v", err)
	}
	if err := try(l, "anna", "right-one", home, IMAP); err != nil {
		t.Errorf("mail is locked, too: %v", err)
	}
	*now = now.Add(11 * time.Minute)
	if err := code(true); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	for range 3 {
		code(false)
	}
	if l.Unlock("anna"); code(true) != nil {
		t.Error("unlock did not help")
	}
	if err := l.Second("anna", func() (bool, error) { return false, errDown }); !errors.Is(err, errDown) || len(l.Locks()) != 0 {
		t.Error("a fault counts as a wrong code")
	}
}
