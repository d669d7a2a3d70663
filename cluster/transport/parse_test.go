package transport

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFrames(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		method := rapid.StringMatching(`[a-z.]{1,20}`).Draw(r, "method")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(r, "payload")
		limit := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(r, "limit"))
		id := rapid.Uint64().Draw(r, "id")
		text := rapid.StringN(0, 200, 2000).Draw(r, "text")
		b := appendRequest(nil, id, limit, method, payload)
		b = appendFailure(b, id, errors.New(text))
		b = appendHead(b, cancel, id, 0)
		in := bufio.NewReader(bytes.NewReader(b))
		f, err := readFrame(in)
		if err != nil || f.kind != request || f.id != id {
			r.Fatalf("%+v, %v", f, err)
		}
		l, m, p, err := parseRequest(f.content)
		if err != nil || m != method || !bytes.Equal(p, payload) || l < limit || l-limit >= time.Millisecond {
			r.Fatalf("%v %q %d octets, %v", l, m, len(p), err)
		}
		if f, err = readFrame(in); err != nil || f.kind != failure {
			r.Fatalf("%+v, %v", f, err)
		}
		if _, got, err := parseFailure(f.content); err != nil || got != text {
			r.Fatalf("%q, %v", got, err)
		}
		if f, err = readFrame(in); err != nil || f.kind != cancel || len(f.content) != 0 {
			r.Fatalf("%+v, %v", f, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(appendRequest(nil, 1, time.Second, "m", []byte("x")))
	f.Add(appendFailure(nil, 2, ErrNoMethod))
	f.Add(appendHead(nil, cancel, 3, 0))
	f.Add(appendHead(nil, answer, 3, MaxMessage))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			fr, err := readFrame(r)
			if err != nil {
				return
			}
			if len(fr.content) > len(b) {
				t.Fatal("content from nowhere")
			}
			if limit, method, payload, err := parseRequest(fr.content); err == nil {
				again := appendRequest(nil, fr.id, limit, method, payload)
				if !bytes.Equal(again[headLen:], fr.content) {
					t.Fatalf("%x became %x", fr.content, again[headLen:])
				}
			}
			parseFailure(fr.content)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"node":"a","number":-1,"version":"1","formats":{"log":1},"addrs":["h:1"],"time":"2020-01-01T00:00:00Z","extra":{"a":[1]}}`))
	f.Add([]byte(`{"node":"a\u001b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if !validName(h.Node) || !printable(h.Cluster, 128) || len(h.Formats) > maxFormats || len(h.Addrs) > maxAddrs || len(h.Extra) > maxExtra {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzPairMsg(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x19" + `{"user":"x","proof":"AA"}`))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readPairMsg(bytes.NewReader(b))
		if err == nil && (!printable(m.Error, maxErrorText) || len(m.Hello) > maxHello) {
			t.Fatalf("%+v", m)
		}
	})
}

func FuzzDatagram(f *testing.F) {
	f.Add([]byte(`{"mp":"mailplusd/1","nonce":"0011223344556677"}`))
	f.Add([]byte(`{"mp":"mailplusd/1","nonce":"0011223344556677","node":{"node":"n","port":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDatagram(b)
		if err == nil && d.Node != nil && (!validName(d.Node.Node) || !printable(d.Node.Cluster, 128)) {
			t.Fatalf("%+v", d)
		}
	})
}

func FuzzToken(f *testing.F) {
	k := token{make([]byte, tokenHash), make([]byte, tokenSecret)}
	f.Add(k.String())
	f.Add("oIl1-")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseToken(s)
		if err != nil {
			return
		}
		if again, err := parseToken(k.String()); err != nil || !bytes.Equal(again.secret, k.secret) || !bytes.Equal(again.hash, k.hash) {
			t.Fatalf("%q became %q", s, k.String())
		}
	})
}

// Any one wrong character is found before an attempt is made, but for 1 in 256.
func TestTokenTypos(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	s := token{keyHash(key)[:tokenHash], bytes.Repeat([]byte{0x5a}, tokenSecret)}.String()
	missed, tried := 0, 0
	for i := range s {
		for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			if s[i] == '-' || s[i] == byte(c) {
				continue
			}
			tried++
			if _, err := parseToken(s[:i] + string(c) + s[i+1:]); err == nil {
				missed++
			}
		}
	}
	if missed > tried/64 {
		t.Errorf("%d of %d typing errors are missed", missed, tried)
	}
	if len(s) > 60 || strings.Count(s, "-") != 7 {
		t.Errorf("token %q", s)
	}
}

// The clock difference is right to half of the asymmetry of the way, whatever the round trip.
func TestMeasure(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		skew := rapid.Int64Range(-1e12, 1e12).Draw(r, "skew")
		there, work, back := rapid.Int64Range(0, 1e9).Draw(r, "there"), rapid.Int64Range(0, 1e9).Draw(r, "work"), rapid.Int64Range(0, 1e9).Draw(r, "back")
		t1 := int64(1e18)
		s := measure(t1, t1+there+skew, t1+there+work+skew, t1+there+work+back)
		if off := (s.skew - time.Duration(skew)).Abs(); off > time.Duration(max(there-back, back-there)/2+1) || s.rtt != time.Duration(there+back) {
			r.Fatalf("skew %v instead of %v, round trip %v", s.skew, time.Duration(skew), s.rtt)
		}
	})
}

// A peer remembers which of its addresses worked, for a while.
func TestAddressOrder(t *testing.T) {
	p := &peer{addrs: []string{"a:1", "b:1", "c:1"}}
	for _, c := range []struct {
		worked string
		age    time.Duration
		want   string
	}{
		{"", 0, "a:1 b:1 c:1"},
		{"c:1", time.Second, "c:1 a:1 b:1"},
		{"a:1", time.Second, "a:1 b:1 c:1"},
		{"x:1", time.Second, "a:1 b:1 c:1"},
		{"c:1", preferFor, "a:1 b:1 c:1"},
	} {
		p.worked, p.workedAt = c.worked, time.Hour-c.age
		if got := strings.Join(p.order(time.Hour), " "); got != c.want {
			t.Errorf("%q worked %v ago: %s", c.worked, c.age, got)
		}
	}
}
