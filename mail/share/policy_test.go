package share_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/share"

	"pgregory.net/rapid"
)

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS(testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate()}}
}

func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// TestChooseByWeight: clients are spread as the weights say.
func TestChooseByWeight(t *testing.T) {
	// covers: R11.42
	const n = 20000
	for _, c := range []struct{ self, peer int }{{50, 50}, {80, 20}, {10, 90}, {0, 10}, {10, 0}, {0, 0}} {
		p := share.Policy{Self: "mx1", Peer: "mx2", SelfWeight: c.self, PeerWeight: c.peer}
		there := 0
		for i := range n {
			if p.Choose(address(i)) {
				there++
			}
		}
		want := 0
		if c.peer > 0 {
			want = n * c.peer / (c.self + c.peer)
		}
		if d := there - want; d < -n/50 || d > n/50 {
			t.Errorf("weights %d:%d: %d of %d clients go to the peer, want %d", c.self, c.peer, there, n, want)
		}
	}
}

// TestChooseAgrees: both nodes choose the same one, and more weight never drives a client away.
func TestChooseAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.IntRange(1, 99)
		a, b, more := w.Draw(t, "a"), w.Draw(t, "b"), w.Draw(t, "more")
		var raw [16]byte
		copy(raw[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip"))
		ip := netip.AddrFrom16(raw).Unmap()
		at1 := share.Policy{Self: "mx1", Peer: "mx2", SelfWeight: a, PeerWeight: b}
		at2 := share.Policy{Self: "mx2", Peer: "mx1", SelfWeight: b, PeerWeight: a}
		if at1.Choose(ip) == at2.Choose(ip) {
			t.Fatal("the nodes disagree")
		}
		if heavier := at1; at1.Choose(ip) {
			heavier.PeerWeight = min(b+more, 100)
			if !heavier.Choose(ip) {
				t.Fatal("a client went away from a node that got more weight")
			}
		}
		if ip.Is6() {
			raw[15]++
			if at1.Choose(netip.AddrFrom16(raw)) != at1.Choose(ip) {
				t.Fatal("two addresses of one /64 are apart")
			}
		}
	})
}

// TestHeader: what is written is read, and not an octet more.
func TestHeader(t *testing.T) {
	for _, h := range []share.Header{
		{"imaps", netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:993")},
		{"smtp", netip.MustParseAddrPort("[2001:db8::1]:65535"), netip.MustParseAddrPort("[2001:db8::2]:25")},
		{"smtp", netip.MustParseAddrPort("192.0.2.1:7"), netip.MustParseAddrPort("[2001:db8::2]:25")},
	} {
		b, err := h.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(append(b, "EHLO"...))
		got, err := share.ReadHeader(r)
		rest, _ := io.ReadAll(r)
		if err != nil || got != h || string(rest) != "EHLO" {
			t.Errorf("%+v, %v, %q left; want %+v", got, err, rest, h)
		}
		// A later version may add something behind.
		b = append(b, 1, 2, 3)
		b[1] += 3
		if got, err := share.ReadHeader(bytes.NewReader(b)); err != nil || got != h {
			t.Errorf("with more behind: %+v, %v", got, err)
		}
	}
	for _, h := range []share.Header{
		{}, {Listener: "imap"}, {"IMAP", netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:993")},
	} {
		if _, err := h.Append(nil); err == nil {
			t.Errorf("%+v was written", h)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	b, _ := share.Header{"imaps", netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:993")}.Append(nil)
	f.Add(b)
	b, _ = share.Header{"smtp", netip.MustParseAddrPort("[2001:db8::1]:65535"), netip.MustParseAddrPort("[2001:db8::2]:25")}.Append(nil)
	f.Add(b)
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := share.ReadHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := h.Append(nil)
		if err != nil {
			t.Fatalf("%+v was read and can't be written: %v", h, err)
		}
		if got, err := share.ReadHeader(bytes.NewReader(again)); err != nil || got != h {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
	})
}
