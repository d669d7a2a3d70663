package transport_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailplusd/cluster/transport"
)

// A man in the middle with a key of his own gets nothing from the dialling side, and what
// he knows of one channel opens no other.
func TestPairRelay(t *testing.T) {
	a, b, m := newNode(t, "a"), newNode(t, "b"), newNode(t, "m")
	invite(t, m, time.Hour)
	token := invite(t, b, time.Hour)
	// a is led to m instead of b.
	if _, err := a.Pair(within(t), m.Addr().String(), transport.Credential{Token: token}); !errors.Is(err, transport.ErrKey) {
		t.Errorf("led astray: %v", err)
	}
	if n := m.count(); n != 0 {
		t.Errorf("m got %d pairings", n)
	}
	// Messages of a's first flight that m may have got hold of, played on m's own channel to b.
	msg := transport.FirstFlight(t.Context(), a.Transport, b.Addr().String(), transport.Credential{Token: token})
	if msg == nil {
		t.Fatal("no message")
	}
	conn := rawPair(t, b.Transport)
	conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
	answer, _ := io.ReadAll(conn)
	if bytes.Contains(answer, []byte(`"ok":true`)) || !bytes.Contains(answer, []byte(`"error"`)) {
		t.Errorf("replayed, b answers %q", answer)
	}
	if n := b.count(); n != 0 {
		t.Errorf("replayed, %d stored", n)
	}
}

// rawPair opens pairing with a key made for it.
func rawPair(t testing.TB, n *transport.Transport) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", n.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{string(transport.Pair)}, Certificates: []tls.Certificate{edCertificate(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c
}

// A stranger who may open pairing gets no answer to anything but a right credential.
func TestPairStranger(t *testing.T) {
	b := newNode(t, "b")
	invite(t, b, time.Hour)
	for _, msg := range []string{``, `{}`, `null`, `[]`, `{"ok":true}`, `{"hello":{"node":"x"}}`, `{"user":"admin","password":"c2VjcmV0"}`, `{"proof":"AAAA"}`, strings.Repeat("x", 70000)} {
		c := rawPair(t, b.Transport)
		c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
		c.(*tls.Conn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if bytes.Contains(answer, []byte(`"ok":true`)) || bytes.Contains(answer, []byte("hello")) {
			t.Errorf("%.40q is answered %q", msg, answer)
		}
	}
	if n := b.count(); n != 0 {
		t.Errorf("%d stored", n)
	}
}
