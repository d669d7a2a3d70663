package transport

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
)

func (t *Transport) servePairing(tc *tls.Conn, l *link, key ed25519.PublicKey) error {
	t.refuse(tc, l, pairingClosed)
	return errors.New("no")
}
