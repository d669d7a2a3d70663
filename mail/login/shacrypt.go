package login

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// The hashes of crypt(3) by SHA-256 and SHA-512 ($5$, $6$), which Linux systems and the NAS of old keep:
// accounts that move here keep their passwords. New hashes are never made in this form.
// "Unix crypt using SHA-256 and SHA-512", Ulrich Drepper, version 0.6.
const (
	shaRounds    = 5000
	minSHARounds = 1000
	maxSHARounds = 1_000_000 // under a second; the specification allows a thousand times as much
	maxSHASalt   = 16
	maxSHAPass   = 256 // every round takes the whole password
)

// shaHash is a hash in parts.
type shaHash struct {
	new    func() hash.Hash
	order  [][3]int // octets of each group of four characters; -1: none
	rounds int
	salt   string
	sum    string
}

func isSHACrypt(hash string) bool {
	return strings.HasPrefix(hash, "$5$") || strings.HasPrefix(hash, "$6$")
}

func parseSHACrypt(text string) (h shaHash, err error) {
	h.new, h.order, h.rounds = sha512.New, sha512Order, shaRounds
	if strings.HasPrefix(text, "$5$") {
		h.new, h.order = sha256.New, sha256Order
	}
	rest := text[3:]
	if r, ok := strings.CutPrefix(rest, "rounds="); ok {
		number, after, found := strings.Cut(r, "$")
		if h.rounds, err = strconv.Atoi(number); err != nil || !found || h.rounds < minSHARounds || h.rounds > maxSHARounds {
			return h, fmt.Errorf("its rounds are outside %d to %d", minSHARounds, maxSHARounds)
		}
		rest = after
	}
	salt, sum, found := strings.Cut(rest, "$")
	if !found || len(salt) > maxSHASalt {
		return h, fmt.Errorf("it is no SHA crypt hash")
	}
	h.salt, h.sum = salt, sum
	size := h.new().Size()
	if want := (size*8 + 5) / 6; len(sum) != want || strings.Trim(sum, cryptAlphabet) != "" {
		return h, fmt.Errorf("it is no SHA crypt hash: %d characters instead of %d, or others than allowed", len(sum), want)
	}
	return h, nil
}

func compareSHACrypt(text string, password []byte) bool {
	h, err := parseSHACrypt(text)
	return err == nil && len(password) <= maxSHAPass && subtle.ConstantTimeCompare([]byte(h.compute(password)), []byte(h.sum)) == 1
}

const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// compute makes the hash; the numbers are the steps of the specification.
func (h *shaHash) compute(password []byte) string {
	salt := []byte(h.salt)
	sum := func(parts ...[]byte) []byte {
		d := h.new()
		for _, p := range parts {
			d.Write(p)
		}
		return d.Sum(nil)
	}
	stretch := func(b []byte, n int) []byte { return bytes.Repeat(b, n/len(b)+1)[:n] }
	b := sum(password, salt, password) // 4–8
	d := h.new()                       // 1–3, 9–12
	d.Write(password)
	d.Write(salt)
	d.Write(stretch(b, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			d.Write(b)
		} else {
			d.Write(password)
		}
	}
	a := d.Sum(nil)
	p := stretch(sum(bytes.Repeat(password, len(password))), len(password)) // 13–16
	s := stretch(sum(bytes.Repeat(salt, 16+int(a[0]))), len(salt))          // 17–20
	for i := range h.rounds {                                               // 21
		d.Reset()
		first, last := a, p
		if i&1 != 0 {
			first, last = p, a
		}
		d.Write(first)
		if i%3 != 0 {
			d.Write(s)
		}
		if i%7 != 0 {
			d.Write(p)
		}
		d.Write(last)
		a = d.Sum(a[:0:0])
	}
	return cryptBase64(a, h.order)
}

// cryptBase64 writes octets in the order and alphabet of crypt(3) (22e).
func cryptBase64(sum []byte, order [][3]int) string {
	var out strings.Builder
	for _, g := range order {
		v, n := 0, 1
		for _, i := range g {
			v <<= 8
			if i >= 0 {
				v |= int(sum[i])
				n++
			}
		}
		for range n {
			out.WriteByte(cryptAlphabet[v&63])
			v >>= 6
		}
	}
	return out.String()
}

var (
	sha256Order = cryptOrder(10, 21, [3]int{-1, 31, 30})
	sha512Order = cryptOrder(21, 22, [3]int{-1, -1, 63})
)

// cryptOrder gives the groups of n times three octets: 0, n and 2n in turn, rotated by step each time.
func cryptOrder(n, step int, last [3]int) [][3]int {
	out := make([][3]int, 0, n+1)
	g := [3]int{0, n, 2 * n}
	for range n {
		out = append(out, g)
		for i := range g {
			g[i] = (g[i] + step) % (3 * n)
		}
	}
	return append(out, last)
}
