package transport

import (
	"crypto/ed25519"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
)

// baseTLS is what all connections have in common. No certificate chain is verified: the
// caller adds VerifyConnection, which compares keys. Tickets are off, so each connection
// shows its key anew.
func (t *Transport) baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		Certificates:                []tls.Certificate{t.opts.Identity.cert},
		InsecureSkipVerify:          true, //nolint:gosec // the key is compared instead
		ClientAuth:                  tls.RequireAnyClientCert,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // small records only help browsers
	}
}

// serverTLS chooses by the protocol asked for: pinned keys, or any key for pairing.
func (t *Transport) serverTLS() *tls.Config {
	link := t.baseTLS()
	link.NextProtos = linkProtos
	link.VerifyConnection = func(cs tls.ConnectionState) error {
		key, err := remoteKey(cs)
		if err == nil && t.peerByKey(key) == nil {
			err = ErrKey
		}
		return err
	}
	pair := t.baseTLS()
	pair.NextProtos = []string{string(Pair)}
	pair.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := remoteKey(cs)
		return err
	}
	front := t.baseTLS()
	front.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case len(h.SupportedProtos) != 1:
			return nil, errors.New("transport: one protocol name is needed")
		case h.SupportedProtos[0] == string(Pair):
			return pair, nil
		case slices.Contains(linkProtos, h.SupportedProtos[0]):
			return link, nil
		}
		return nil, fmt.Errorf("transport: unknown protocol %.40q", h.SupportedProtos[0])
	}
	return front
}

// clientTLS speaks p with whoever check accepts.
func (t *Transport) clientTLS(p Proto, check func(ed25519.PublicKey) error) *tls.Config {
	c := t.baseTLS()
	c.NextProtos = []string{string(p)}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.NegotiatedProtocol != string(p) {
			return fmt.Errorf("transport: the other side doesn't speak %s", p)
		}
		key, err := remoteKey(cs)
		if err != nil {
			return err
		}
		return check(key)
	}
	return c
}

// remoteKey is the key whose possession the other side has proved.
func remoteKey(cs tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(cs.PeerCertificates) == 0 {
		return nil, errors.New("transport: no certificate")
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("transport: the certificate has no Ed25519 key")
	}
	return key, nil
}

func sameKey(a, b ed25519.PublicKey) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
