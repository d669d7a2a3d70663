package transport

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A token is 30 octets in base32: 16 of the hash of the inviting node's key, 13 secret ones
// (104 bits), and one that finds typing errors before they cost an attempt.
const (
	tokenHash   = 16
	tokenSecret = 13
	tokenLen    = tokenHash + tokenSecret + 1
	maxTTL      = 7 * 24 * time.Hour
	maxWrong    = 5 // attempts until an invitation is void
)

// ErrToken says that what was typed is not a token: nothing was sent.
var ErrToken = errors.New("transport: this is not a pairing token, or it has a typing error")

// crockford has no letters that look like digits; reading forgives them.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

var forgive = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1")

// groups writes b for humans, n characters in a group.
func groups(b []byte, n int) string {
	s := crockford.EncodeToString(b)
	var out strings.Builder
	for i := range len(s) {
		if i > 0 && i%n == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func ungroup(s string, n int) ([]byte, bool) {
	if len(s) > 200 {
		return nil, false
	}
	b, err := crockford.DecodeString(forgive.Replace(strings.ToUpper(strings.TrimSpace(s))))
	return b, err == nil && len(b) == n
}

// Fingerprint is a key for humans to compare: 160 bits of its SHA-256, 8 groups of 4.
func Fingerprint(key ed25519.PublicKey) string { return groups(keyHash(key)[:20], 4) }

func keyHash(key ed25519.PublicKey) []byte {
	h := sha256.Sum256(append([]byte("mailplusd node key\x00"), key...))
	return h[:]
}

type token struct {
	hash   []byte // of the inviting node's key
	secret []byte
}

func (k token) String() string {
	b := append(append([]byte{}, k.hash...), k.secret...)
	return groups(append(b, tokenSum(b)), 6)
}

func tokenSum(b []byte) byte {
	h := sha256.Sum256(append([]byte("mailplusd pairing token\x00"), b...))
	return h[0]
}

func parseToken(s string) (token, error) {
	b, ok := ungroup(s, tokenLen)
	if !ok || tokenSum(b[:tokenLen-1]) != b[tokenLen-1] {
		return token{}, ErrToken
	}
	return token{b[:tokenHash], b[tokenHash : tokenLen-1]}, nil
}

// proof shows possession of secret on one channel, by one side.
func proof(secret, channel []byte, side string, keys ...[]byte) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("mailplusd pairing " + side + "\x00"))
	m.Write(channel)
	for _, k := range keys {
		fmt.Fprintf(m, "%08x", len(k))
		m.Write(k)
	}
	return m.Sum(nil)
}

// invitation is the token this node has given out.
type invitation struct {
	mu     sync.Mutex
	secret []byte // nil: none
	until  time.Time
	wrong  int
	busy   bool   // a pairing with it is under way
	usedBy []byte // the key that was paired with it and may repeat the end of its pairing
}

var (
	errInvite = errors.New("transport: pairing refused: the token is wrong, expired or used")
	errBusy   = errors.New("transport: pairing refused: another pairing with this token is under way")
)

// Invite makes a one-time token with which another node can pair with this one within ttl,
// 7 days at most. It replaces the token before. Five wrong attempts make it void. A node
// that paired with it may repeat that while it has not acknowledged the end of it; no other
// node can use it then.
func (t *Transport) Invite(ttl time.Duration) (string, error) {
	if ttl <= 0 || ttl > maxTTL {
		return "", fmt.Errorf("transport: a token is valid for up to %v, not %v", maxTTL, ttl)
	}
	if !t.pairing.get().complete() {
		return "", errors.New("transport: this node is not prepared for pairing")
	}
	k := token{keyHash(t.PublicKey())[:tokenHash], make([]byte, tokenSecret)}
	if _, err := rand.Read(k.secret); err != nil {
		return "", fmt.Errorf("transport: make token: %w", err)
	}
	v := &t.pairing.invite
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secret, v.until, v.wrong, v.usedBy = k.secret, time.Now().Add(ttl), 0, nil
	return k.String(), nil
}

// Uninvite makes the token void.
func (t *Transport) Uninvite() {
	v := &t.pairing.invite
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secret, v.usedBy = nil, nil
}

func (v *invitation) open() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.secret != nil && time.Now().Before(v.until)
}

// claim checks an attempt by the holder of key. done gives the token back, or leaves it to
// this key alone (paired), or makes it void (acknowledged).
func (v *invitation) claim(key ed25519.PublicKey, right func(secret []byte) bool) (secret []byte, done func(paired, acknowledged bool), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.secret == nil || !time.Now().Before(v.until) {
		v.secret = nil
		return nil, nil, errInvite
	}
	if !right(v.secret) {
		if v.wrong++; v.wrong >= maxWrong {
			v.secret = nil
		}
		return nil, nil, errInvite
	}
	if v.usedBy != nil && !sameKey(v.usedBy, key) {
		return nil, nil, errInvite
	}
	if v.busy {
		return nil, nil, errBusy
	}
	v.busy = true
	mine := v.secret
	return mine, func(paired, acknowledged bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.busy = false
		if subtle.ConstantTimeCompare(v.secret, mine) != 1 {
			return // replaced meanwhile
		}
		if paired {
			v.usedBy = key
		}
		if acknowledged {
			v.secret = nil
		}
	}, nil
}
