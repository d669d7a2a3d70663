package acme

import (
	"crypto/tls"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// ALPN is the protocol of a connection that validates a name (RFC 8737 §6.2).
const ALPN = acmez.ACMETLS1Protocol

// ChallengeCert makes the certificate that answers tls-alpn-01 (RFC 8737 §3).
func ChallengeCert(name, keyAuth string) (*tls.Certificate, error) {
	return acmez.TLSALPN01ChallengeCert(acme.Challenge{Identifier: acme.Identifier{Type: "dns", Value: name}, KeyAuthorization: keyAuth})
}
