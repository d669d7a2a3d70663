// Package srs is the Sender Rewriting Scheme (M. Wong, S. Hanegan: http://www.openspf.org/SRS). Mail
// that a forward or an alias passes on leaves with a sender of a domain hosted here, so that SPF
// holds at the next server; what bounces comes back to that address and is turned into the one
// it was made from. Hashes and stamps are those of Mail::SRS, libsrs2 and postsrsd.
package srs

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"
)

// Limits.
const (
	HashLength = 8   // characters of a hash: 40 bits and more, upper and lower case being equal
	MaxLocal   = 200 // octets of a local part made or read here
	MaxPath    = 254 // octets of a whole address (RFC 5321 §4.5.3.1.3)
	// MaxAge is how old an address may be when a bounce comes back to it: longer than any server
	// tries to deliver.
	MaxAge = 21 * 24 * time.Hour
)

// Errors of Reverse and Forward.
var (
	ErrNotSRS  = errors.New("is no SRS address")
	ErrForged  = errors.New("was not made here: its hash is wrong")
	ErrExpired = errors.New("is too old")
	ErrTooLong = errors.New("would be too long")
)

// Rewriter makes and reads addresses with a secret.
type Rewriter struct{ Secret []byte }

// Is tells whether a local part looks like SRS, whoever made it.
func Is(local string) bool { return kind(local) != 0 }

// kind is '0' or '1'; 0 for a local part that is not SRS.
func kind(local string) byte {
	if len(local) > 5 && strings.EqualFold(local[:3], "SRS") && (local[3] == '0' || local[3] == '1') && strings.IndexByte("=+-", local[4]) >= 0 {
		return local[3]
	}
	return 0
}

// Forward gives the address in place of local@domain: SRS0, or SRS1 for an address that another
// forwarder has rewritten already. via is the domain it is to belong to.
func (r *Rewriter) Forward(local, domain, via string, now time.Time) (string, error) {
	out := ""
	switch kind(local) {
	case '0': // guard it: its bounces go to the forwarder that made it
		rest := local[4:]
		out = "SRS1=" + r.hash(domain, rest) + "=" + domain + "=" + rest
	case '1': // in place of the forwarder before us, whose hash we drop
		host, rest, err := guarded(local)
		if err != nil {
			return "", err
		}
		out = "SRS1=" + r.hash(host, rest) + "=" + host + "=" + rest
	default:
		s := stamp(now)
		out = "SRS0=" + r.hash(s, domain, local) + "=" + s + "=" + domain + "=" + local
	}
	if len(out) > MaxLocal || len(out)+1+len(via) > MaxPath {
		return "", ErrTooLong
	}
	return out, nil
}

// Reverse gives the address that a local part was made from. Errors: ErrNotSRS, ErrForged, ErrExpired.
func (r *Rewriter) Reverse(local string, now time.Time) (origLocal, origDomain string, err error) {
	if len(local) > MaxLocal {
		return "", "", ErrNotSRS
	}
	switch kind(local) {
	case '0':
		part := strings.SplitN(local[5:], "=", 4)
		if len(part) != 4 || part[2] == "" || part[3] == "" {
			return "", "", ErrNotSRS
		}
		if !r.check(part[0], part[1], part[2], part[3]) {
			return "", "", ErrForged
		}
		return part[3], part[2], fresh(part[1], now)
	case '1':
		host, rest, err := guarded(local)
		if err != nil {
			return "", "", err
		}
		hash, _, _ := strings.Cut(local[5:], "=")
		if !r.check(hash, host, rest) {
			return "", "", ErrForged
		}
		return "SRS0" + rest, host, nil
	}
	return "", "", ErrNotSRS
}

// guarded takes an SRS1 apart: the forwarder that made the SRS0, and what follows SRS0 in it,
// separator included.
func guarded(local string) (host, rest string, err error) {
	part := strings.SplitN(local[5:], "=", 3)
	if len(part) != 3 || part[1] == "" || len(part[2]) < 2 || kind("SRS0"+part[2]) == 0 {
		return "", "", ErrNotSRS
	}
	return part[1], part[2], nil
}

// Base gives what addresses made of one sender have in common, whoever made them and when: the
// sender's domain and local part. ok is false for what is not SRS.
func Base(local string) (origLocal, origDomain string, ok bool) {
	k := kind(local)
	if k == '1' {
		_, rest, err := guarded(local)
		if err != nil {
			return "", "", false
		}
		local = "SRS0" + rest
	}
	if k == 0 {
		return "", "", false
	}
	part := strings.SplitN(local[5:], "=", 4)
	if len(part) != 4 {
		return "", "", false
	}
	return part[3], part[2], true
}

func (r *Rewriter) hash(parts ...string) string {
	h := hmac.New(sha1.New, r.Secret)
	for _, p := range parts {
		h.Write([]byte(strings.ToLower(p)))
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))[:HashLength]
}

// check compares without regard to case, which servers on the way may change.
func (r *Rewriter) check(hash string, parts ...string) bool {
	want := strings.ToLower(r.hash(parts...))
	return subtle.ConstantTimeCompare([]byte(strings.ToLower(hash)), []byte(want)) == 1
}

// stamps are written in days, modulo 1024, in two characters.
const (
	stampChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	stampDays  = 1024
)

func day(t time.Time) int { return int(t.Unix() / 86400 % stampDays) }

func stamp(t time.Time) string {
	d := day(t)
	return string([]byte{stampChars[d>>5], stampChars[d&31]})
}

// fresh refuses a stamp that is older than MaxAge. One of tomorrow is allowed: clocks differ.
func fresh(s string, now time.Time) error {
	if len(s) != 2 {
		return ErrNotSRS
	}
	s = strings.ToUpper(s)
	hi, lo := strings.IndexByte(stampChars, s[0]), strings.IndexByte(stampChars, s[1])
	if hi < 0 || lo < 0 {
		return ErrNotSRS
	}
	age := (day(now) - (hi<<5 | lo) + stampDays) % stampDays
	if age == stampDays-1 || age <= int(MaxAge/(24*time.Hour)) {
		return nil
	}
	return ErrExpired
}
