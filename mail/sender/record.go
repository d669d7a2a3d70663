package sender

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Record is a published DKIM key (RFC 6376 §3.6.1).
type Record struct {
	Algorithm string // k=; rsa when it is not given
	Public    []byte // p=; empty: the key is revoked
	Testing   bool   // t=y: receivers are asked to treat the mail as if it were not signed
}

// ErrOtherRecord: the text is no DKIM key at all.
var ErrOtherRecord = errors.New("it is no DKIM key record")

// maxRecord bounds what is read of a TXT record: a key of 4,096 bits takes less than 800 octets.
const maxRecord = 8 << 10

// ParseRecord reads a published key. ErrOtherRecord, or what is wrong with it.
func ParseRecord(text string) (*Record, error) {
	if len(text) > maxRecord {
		return nil, fmt.Errorf("it has %d octets, more than %d", len(text), maxRecord)
	}
	tags, err := tagList(text)
	if err != nil {
		return nil, err
	}
	if v, ok := tags["v"]; ok && v != "DKIM1" {
		if !strings.HasPrefix(v, "DKIM") {
			return nil, ErrOtherRecord
		}
		return nil, fmt.Errorf("its version is %.20q, not DKIM1", v)
	}
	p, ok := tags["p"]
	if !ok {
		return nil, errors.New("it has no p=, the public key")
	}
	r := &Record{Algorithm: "rsa"}
	if k, ok := tags["k"]; ok {
		r.Algorithm = k
	}
	if r.Public, err = base64.StdEncoding.DecodeString(p); err != nil {
		return nil, fmt.Errorf("its p= is no base64 (%v): was it cut off, or quoted wrongly?", err)
	}
	if h, ok := tags["h"]; ok && !listed(h, "sha256") {
		return nil, fmt.Errorf("its h=%.40s does not allow sha256", h)
	}
	if s, ok := tags["s"]; ok && !listed(s, "email") && !listed(s, "*") {
		return nil, fmt.Errorf("its s=%.40s is not for mail", s)
	}
	r.Testing = listed(tags["t"], "y")
	return r, nil
}

// tagList reads a tag=value list (RFC 6376 §3.2). White space is taken out of the values.
func tagList(text string) (map[string]string, error) {
	tags := map[string]string{}
	for i, part := range strings.Split(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok {
			if i == 0 {
				return nil, ErrOtherRecord
			}
			return nil, fmt.Errorf("%.40q in it is no tag=value", strings.TrimSpace(part))
		}
		value = strings.Join(strings.Fields(value), "")
		if name == "v" && i > 0 {
			return nil, errors.New("its v= is not the first tag")
		}
		if name == "v" && strings.ContainsAny(value, ",") {
			return nil, errors.New("its tags are separated by commas instead of semicolons")
		}
		if _, twice := tags[name]; twice {
			return nil, fmt.Errorf("it has the tag %.20s twice", name)
		}
		tags[name] = value
	}
	if _, ok := tags["p"]; !ok && tags["v"] == "" {
		return nil, ErrOtherRecord
	}
	return tags, nil
}

func listed(list, word string) bool {
	for _, w := range strings.Split(list, ":") {
		if w == word {
			return true
		}
	}
	return false
}
