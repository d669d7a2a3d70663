package transport_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/transport"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; a test that reaches it fails.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until polls a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func identity(t testing.TB) *transport.Identity {
	t.Helper()
	id, err := transport.LoadIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// node opens a transport on a free port of the loopback.
func node(t testing.TB, name string, change ...func(*transport.Options)) *transport.Transport {
	t.Helper()
	o := transport.Options{ID: name, Identity: identity(t), Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, f := range change {
		f(&o)
	}
	n, err := transport.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}

func peerOf(n *transport.Transport) transport.Peer {
	return transport.Peer{ID: n.ID(), Addrs: []string{n.Addr().String()}, Key: n.PublicKey()}
}

func pin(t testing.TB, n *transport.Transport, peers ...transport.Peer) {
	t.Helper()
	if err := n.SetPeers(peers...); err != nil {
		t.Fatal(err)
	}
}

// two opens a pair of nodes that know each other.
func two(t testing.TB) (a, b *transport.Transport) {
	t.Helper()
	a, b = node(t, "a"), node(t, "b")
	pin(t, a, peerOf(b))
	pin(t, b, peerOf(a))
	return a, b
}

// echo answers every connection of p at n with what it sends.
func echo(t testing.TB, n *transport.Transport, p transport.Proto) {
	l := n.Listen(p)
	t.Cleanup(func() { l.Close() })
	done := make(chan struct{})
	t.Cleanup(func() { n.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

// ping sends a few octets over c and expects them back.
func ping(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("echo: %q, %v", got, err)
	}
}

// certificate makes a self-signed one that doesn't come from an Identity.
func certificate(t testing.TB, key, pub any) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func edCertificate(t testing.TB) tls.Certificate {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, key, pub)
}
