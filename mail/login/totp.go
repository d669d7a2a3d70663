package login

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp/hotp"
)

// Parameters of one-time codes (RFC 6238 §4, §5.2): those that every authenticator app has.
const (
	codePeriod    = 30 // seconds
	codeSkew      = 1  // steps that a clock may be off, either way
	RecoveryCodes = 10
	recoverySize  = 10 // octets of one: 16 letters
	secretSize    = 20 // octets (RFC 4226 §4, R6)
)

// ErrCode says that a one-time code is wrong, old or used.
var ErrCode = errors.New("wrong or used one-time code")

var base32NoPad = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret makes up the secret of an authenticator app.
func NewSecret() string {
	raw := make([]byte, secretSize)
	rand.Read(raw)
	return base32NoPad.EncodeToString(raw)
}

// SecretURI gives a secret in the form that authenticator apps read, as text or as a QR code.
func SecretURI(issuer, account, secret string) string {
	q := url.Values{"secret": {secret}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return "otpauth://totp/" + url.PathEscape(issuer+":"+account) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// CheckCode compares a code with a secret. It gives the time step that the code is of; a step up
// to last is used up (RFC 6238 §5.2).
func CheckCode(secret, code string, now time.Time, last int64) (step int64, ok bool) {
	code = tidyCode(code)
	if len(code) != 6 {
		return 0, false
	}
	at := now.Unix() / codePeriod
	for s := at - codeSkew; s <= at+codeSkew; s++ {
		want, err := hotp.GenerateCode(secret, uint64(s))
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && s > last && s >= 0 {
			step, ok = s, true
		}
	}
	return step, ok
}

// CodeAt gives the code of a moment, as an authenticator app shows it.
func CodeAt(secret string, now time.Time) (string, error) {
	return hotp.GenerateCode(secret, uint64(now.Unix()/codePeriod))
}

func tidyCode(code string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, strings.TrimSpace(code))
}

// NewRecovery makes codes for who has lost his app, and the hashes to be kept: each is good once.
func NewRecovery() (codes []string, hashes [][]byte) {
	for range RecoveryCodes {
		raw := make([]byte, recoverySize)
		rand.Read(raw)
		c := strings.ToLower(base32NoPad.EncodeToString(raw))
		codes = append(codes, c[:4]+"-"+c[4:8]+"-"+c[8:12]+"-"+c[12:])
		hashes = append(hashes, hashRecovery(c))
	}
	return codes, hashes
}

func hashRecovery(code string) []byte {
	sum := sha256.Sum256([]byte("recovery code\x00" + code))
	return sum[:]
}

// CheckRecovery finds the hash of a recovery code; -1: it is none.
func CheckRecovery(code string, hashes [][]byte) int {
	sum := hashRecovery(strings.ToLower(tidyCode(code)))
	for i, h := range hashes {
		if subtle.ConstantTimeCompare(h, sum) == 1 {
			return i
		}
	}
	return -1
}

// everywhere is the network under which wrong codes count: whoever gets as far as a code has the
// password, so the account as a whole is locked, not one address.
var everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

func codeKey(name string) string { return name + " (code) " + everywhere.String() }

// Second runs the check of an account's one-time code, which says whether it is right. Wrong ones count for all
// addresses together and lock the account's codes, not its password.
func (l *Login) Second(name string, check func() (bool, error)) error {
	key := codeKey(name)
	if err := l.lockedKey(key); err != nil {
		return err
	}
	ok, err := check()
	switch {
	case err != nil:
		return err
	case !ok:
		l.tell(Event{Kind: Failed, Key: key})
		return ErrCode
	}
	if l.succeeded(key) {
		l.share(Event{Kind: Succeeded, Key: key})
	}
	return nil
}
