package mailfile

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
)

// Account is a line of a password list.
type Account struct {
	Line     int
	Name     string
	FullName string
	Hash     string // as crypt(3) or PHC has it, without a scheme in front; empty: none that could be taken over
	Clear    string // a password in clear ({PLAIN}); empty: none
	Note     string // why the password can't be taken over
}

// Limits of a password list.
const (
	maxAccountLine = 16 << 10
	maxAccounts    = 1_000_000
	firstUser      = 1000 // accounts below belong to the system, not to people
)

// ParseAccounts reads a password list: NAME:HASH and perhaps further fields, as in passwd(5), shadow(5),
// htpasswd, and Dovecot's passwd-file. shadow has the hashes that the list says x for; it may be empty.
// passed is how many accounts of the system were passed over.
func ParseAccounts(list, shadow string) (out []Account, passed int, err error) {
	hashes := map[string]string{}
	err = eachLine(shadow, func(_ int, f []string) error {
		hashes[f[0]] = f[1]
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("shadow: %w", err)
	}
	seen := map[string]int{}
	err = eachLine(list, func(n int, f []string) error {
		a := Account{Line: n, Name: f[0]}
		if len(f) == 7 {
			uid, err := strconv.Atoi(f[2])
			if err == nil && (uid < firstUser || uid == 65534) {
				passed++
				return nil
			}
			a.FullName, _, _ = strings.Cut(f[4], ",")
		}
		if first := seen[a.Name]; first > 0 {
			return fmt.Errorf("line %d: %s is in line %d already", n, a.Name, first)
		}
		seen[a.Name] = n
		hash := f[1]
		if hash == "x" && hashes[a.Name] != "" {
			hash = hashes[a.Name]
		}
		a.password(hash)
		if out = append(out, a); len(out) > maxAccounts {
			return fmt.Errorf("more than %d accounts", maxAccounts)
		}
		return nil
	})
	return out, passed, err
}

// eachLine gives the fields of each line that has some.
func eachLine(text string, take func(n int, fields []string) error) error {
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(make([]byte, 4<<10), maxAccountLine)
	n := 0
	for sc.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < 2 || f[0] == "" {
			return fmt.Errorf("line %d: %.40q is not NAME:HASH", n, f[0])
		}
		if err := take(n, f); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

// password reads a hash with the scheme that Dovecot puts in front.
func (a *Account) password(hash string) {
	scheme := ""
	if rest, ok := strings.CutPrefix(hash, "{"); ok {
		if scheme, hash, ok = strings.Cut(rest, "}"); !ok {
			a.Note = "its password can't be read"
			return
		}
	}
	scheme, _, _ = strings.Cut(strings.ToUpper(scheme), ".") // .HEX and .B64 are not read
	switch scheme {
	case "PLAIN", "CLEARTEXT", "CLEAR":
		a.Clear = hash
		return
	case "", "CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", "ARGON2ID":
	default:
		a.Note = "its password is in the form {" + scheme + "}, which can't be verified here"
		return
	}
	switch {
	case hash == "" || hash == "x" || strings.ContainsAny(hash[:1], "*!"):
		a.Note = "it has no password"
	case strings.HasPrefix(hash, "$2"), strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"), strings.HasPrefix(hash, "$argon2id$"):
		a.Hash = hash
	default:
		a.Note = "its password is in a form that can't be verified here"
	}
}
