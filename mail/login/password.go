package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"mailplusd/mail/model"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Parameters of new hashes (OWASP: 19 MiB, 2 passes).
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonKey    = 32
	// limits of hashes from elsewhere: a hostile one must not eat the machine
	maxArgonMemory = 1 << 20
	maxArgonTime   = 10
	maxPassword    = 1024
)

// Hash makes the argon2id hash of a password in PHC form.
func Hash(password []byte) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key := argon2.IDKey(password, salt, argonTime, argonMemory, 1, argonKey)
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", argonMemory, argonTime, e.EncodeToString(salt), e.EncodeToString(key)), nil
}

// dummyHash is compared with when there is no account, so that it takes the same time. It has the
// parameters of Hash; nobody has its password.
var dummyHash = fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$bm9ib2R5aXNoZXJlISEhIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", argonMemory, argonTime)

type argonHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func parseArgon(hash string) (h argonHash, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return h, fmt.Errorf("it is no argon2id hash of version 19")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, fmt.Errorf("its parameters %q can't be read", parts[3])
	}
	if h.memory < 8 || h.memory > maxArgonMemory || h.time < 1 || h.time > maxArgonTime || h.threads < 1 {
		return h, fmt.Errorf("its parameters %q are outside what is allowed", parts[3])
	}
	if h.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return h, err
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return h, err
	}
	if len(h.salt) < 8 || len(h.key) < 16 || len(h.key) > 128 {
		return h, fmt.Errorf("its salt or key has an odd length")
	}
	return h, nil
}

// Compare tells whether a password belongs to a hash: argon2id, bcrypt, or SHA crypt.
func Compare(hash string, password []byte) bool {
	if len(password) > maxPassword {
		return false
	}
	if strings.HasPrefix(hash, "$2") {
		return bcrypt.CompareHashAndPassword([]byte(hash), password) == nil
	}
	if isSHACrypt(hash) {
		return compareSHACrypt(hash, password)
	}
	h, err := parseArgon(hash)
	if err != nil {
		return false
	}
	key := argon2.IDKey(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// ValidateHash checks a hash that is imported from elsewhere.
func ValidateHash(hash string) error {
	if strings.HasPrefix(hash, "$2") {
		if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > 15 {
			return model.Invalid("hash", "is no bcrypt hash, or one with a cost above 15")
		}
		return nil
	}
	if isSHACrypt(hash) {
		if _, err := parseSHACrypt(hash); err != nil {
			return model.Invalid("hash", "%v", err)
		}
		return nil
	}
	if _, err := parseArgon(hash); err != nil {
		return model.Invalid("hash", "%v; argon2id in PHC form, bcrypt, and SHA crypt ($5$, $6$) are accepted", err)
	}
	return nil
}

// ValidatePassword says why a new password is refused.
func ValidatePassword(password []byte, name string, min int) error {
	switch {
	case !utf8.Valid(password):
		return model.Invalid("password", "is not valid UTF-8")
	case utf8.RuneCount(password) < min:
		return model.Invalid("password", "has %d characters, %d are needed", utf8.RuneCount(password), min)
	case len(password) > maxPassword:
		return model.Invalid("password", "has %d octets, more than %d", len(password), maxPassword)
	case strings.EqualFold(string(password), name):
		return model.Invalid("password", "is the account's name")
	}
	for _, c := range password {
		if c < ' ' {
			return model.Invalid("password", "contains a control character")
		}
	}
	return nil
}
