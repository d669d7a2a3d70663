// Package vault keeps secrets that mail needs in clear, such as the password at a relay host: the
// replicated state holds them sealed (I.81), and the keys are in a file of each node that no
// backup or copy of the state contains. In a pair every node has the keys of both.
package vault

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Limits.
const (
	MaxSecret = 64 << 10 // octets of one secret
	maxKeys   = 1000     // keys of one node
	maxFile   = maxKeys * 128
	fileName  = "secrets.key"
	prefix    = "sealed:1:"
)

// Errors of Unseal.
var (
	ErrNoKey   = errors.New("this node does not have the key of the secret")
	ErrInvalid = errors.New("the secret is damaged, or belongs to something else")
)

// Key is one key. Its ID says nothing about it.
type Key struct {
	ID    string // 16 hex digits
	Value []byte // 32 octets
}

// Vault is the keys of one node.
type Vault struct {
	path string
	mu   sync.Mutex
	keys map[string][]byte
	own  string // ID of the key that seals
}

// Open reads the keys of a data directory, and makes the first one when there is none.
func Open(dir string) (*Vault, error) {
	v := &Vault{path: filepath.Join(dir, fileName), keys: map[string][]byte{}}
	info, err := os.Stat(v.path)
	if err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d octets, more than %d", v.path, info.Size(), maxFile)
	}
	raw, err := os.ReadFile(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		value := make([]byte, chacha20poly1305.KeySize)
		rand.Read(value)
		return v, v.Add([]Key{{ID: keyID(value), Value: value}})
	}
	if err != nil {
		return nil, err
	}
	for n, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		id, text, _ := strings.Cut(line, " ")
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(value) != chacha20poly1305.KeySize || keyID(value) != id {
			return nil, fmt.Errorf("%s, line %d: no key, or a damaged one", v.path, n+1)
		}
		v.keys[id] = value
		if v.own == "" {
			v.own = id
		}
	}
	return v, nil
}

func keyID(value []byte) string {
	sum := sha256.Sum256(append([]byte("mailplusd vault key"), value...))
	return hex.EncodeToString(sum[:8])
}

// Keys gives all keys, for the other node of a pair and for nobody else.
func (v *Vault) Keys() []Key {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]Key, 0, len(v.keys))
	for _, id := range slices.Sorted(maps.Keys(v.keys)) {
		out = append(out, Key{id, v.keys[id]})
	}
	return out
}

// Digest names the set of keys, to compare it with the other node's.
func (v *Vault) Digest() string {
	h := sha256.New()
	for _, k := range v.Keys() {
		h.Write([]byte(k.ID))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Add takes keys in, and returns when they are on the disk.
func (v *Vault) Add(keys []Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	all, own := maps.Clone(v.keys), v.own
	for _, k := range keys {
		if len(k.Value) != chacha20poly1305.KeySize || keyID(k.Value) != k.ID {
			return errors.New("vault: no key")
		}
		if all[k.ID] = k.Value; own == "" {
			own = k.ID
		}
	}
	if len(all) == len(v.keys) {
		return nil
	}
	if len(all) > maxKeys {
		return fmt.Errorf("vault: %d keys are more than %d", len(all), maxKeys)
	}
	if err := v.write(all, own); err != nil {
		return err
	}
	v.keys, v.own = all, own
	return nil
}

// write replaces the file; the key that seals comes first.
func (v *Vault) write(keys map[string][]byte, own string) error {
	var b strings.Builder
	line := func(id string) { fmt.Fprintf(&b, "%s %s\n", id, base64.StdEncoding.EncodeToString(keys[id])) }
	line(own)
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		if id != own {
			line(id)
		}
	}
	f, err := os.OpenFile(v.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(v.path+".new", v.path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(v.path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Seal encrypts a secret for one use, such as "relay rule office": it can't be unsealed for another.
func (v *Vault) Seal(use, secret string) (string, error) {
	if secret == "" {
		return "", nil
	}
	if len(secret) > MaxSecret {
		return "", fmt.Errorf("a secret of %d octets is longer than %d", len(secret), MaxSecret)
	}
	v.mu.Lock()
	own, key := v.own, v.keys[v.own]
	v.mu.Unlock()
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	rand.Read(nonce)
	return prefix + own + ":" + base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(secret), []byte(use))), nil
}

// IsSealed tells whether a text is what Seal gives.
func IsSealed(text string) bool { return strings.HasPrefix(text, prefix) }

// Unseal gives a secret back. Errors: ErrNoKey, ErrInvalid.
func (v *Vault) Unseal(use, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	rest, ok := strings.CutPrefix(sealed, prefix)
	id, text, ok2 := strings.Cut(rest, ":")
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || !ok2 || err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return "", ErrInvalid
	}
	v.mu.Lock()
	key := v.keys[id]
	v.mu.Unlock()
	if key == nil {
		return "", ErrNoKey
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return "", err
	}
	n := aead.NonceSize()
	out, err := aead.Open(nil, raw[:n], raw[n:], []byte(use))
	if err != nil {
		return "", ErrInvalid
	}
	return string(out), nil
}
