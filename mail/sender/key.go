package sender

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"mailplusd/mail/model"
)

// Bounds of an RSA key in bits (RFC 8301 §3.2). Verifiers need not take more than 4,096.
const (
	MinRSABits     = 1024
	DefaultRSABits = 2048
	MaxRSABits     = 4096
)

// Pair is a key pair in clear.
type Pair struct {
	Algorithm string // model.DKIMRSA or model.DKIMEd25519
	Bits      int    // of an RSA key
	Public    []byte // what p= holds, decoded
	Private   string // PKCS #8 in base64
}

// Generate makes a key pair; bits counts for RSA, 0 is the default.
func Generate(algorithm string, bits int) (*Pair, error) {
	switch algorithm {
	case model.DKIMEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newPair(key)
	case model.DKIMRSA:
		if bits == 0 {
			bits = DefaultRSABits
		}
		if bits < MinRSABits || bits > MaxRSABits {
			return nil, model.Invalid("bits", "%d is outside %d to %d", bits, MinRSABits, MaxRSABits)
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		return newPair(key)
	}
	return nil, model.Invalid("algorithm", "%q is neither rsa nor ed25519", algorithm)
}

// ParsePEM reads a private key as other signers keep it: PKCS #1 or PKCS #8 in PEM.
func ParsePEM(text string) (*Pair, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is no PEM file with a private key")
	}
	var key any
	var err error
	if block.Type == "RSA PRIVATE KEY" {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key can't be read: %w", err)
	}
	if k, ok := key.(*rsa.PrivateKey); ok && (k.N.BitLen() < MinRSABits || k.N.BitLen() > MaxRSABits) {
		return nil, fmt.Errorf("an RSA key of %d bits is outside %d to %d", k.N.BitLen(), MinRSABits, MaxRSABits)
	}
	return newPair(key)
}

func newPair(key any) (*Pair, error) {
	p := &Pair{}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		p.Algorithm, p.Bits = model.DKIMRSA, k.N.BitLen()
		var err error
		if p.Public, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil { // RFC 6376 §3.6.1, p=
			return nil, err
		}
	case ed25519.PrivateKey:
		p.Algorithm = model.DKIMEd25519
		p.Public = k.Public().(ed25519.PublicKey) // bare, RFC 8463 §4
	default:
		return nil, errors.New("the key is neither RSA nor Ed25519")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	p.Private = base64.StdEncoding.EncodeToString(der)
	return p, err
}

// parsePrivate reads Pair.Private.
func parsePrivate(text string) (crypto.Signer, error) {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	if s, ok := key.(crypto.Signer); ok {
		return s, nil
	}
	return nil, fmt.Errorf("%T can't sign", key)
}

// Use is what the private half of a public key is sealed for (mail/vault). It names the pair and not
// its domain or selector, so that both may be renamed.
func Use(public []byte) string {
	sum := sha256.Sum256(public)
	return "dkim key " + hex.EncodeToString(sum[:])
}
