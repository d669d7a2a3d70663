package certs

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// openKey reads the private key of a PEM file, and gives it as PKCS#8 in clear.
func openKey(text []byte, passphrase string) (crypto.Signer, []byte, error) {
	var block *pem.Block
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch b.Type {
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			if block != nil {
				return nil, nil, errors.New("the key file has several private keys; leave the one of the certificate")
			}
			block = b
		}
	}
	if block == nil {
		return nil, nil, errors.New(`certificate and key can't be used: the key file has no private key; it must have a part "-----BEGIN PRIVATE KEY-----"`)
	}
	der := block.Bytes
	if block.Headers["DEK-Info"] != "" {
		return nil, nil, errors.New("the key is encrypted in the old way of OpenSSL, which protects badly; convert it with: openssl pkcs8 -topk8 -in FILE -out NEWFILE")
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" {
		if passphrase == "" {
			return nil, nil, errors.New("the key is encrypted; give its passphrase with --passphrase-file FILE")
		}
		var err error
		if der, err = decryptPBES2(der, passphrase); err != nil {
			return nil, nil, err
		}
	}
	key, err := parseKey(der)
	if err != nil {
		return nil, nil, err
	}
	der, err = x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("the private key can't be used: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
		return nil, errors.New("the private key can't sign, so it is none for TLS")
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	return nil, errors.New("the private key can't be read: it is damaged, or of a kind that TLS does not know")
}

// maxIterations bounds the work that a file can ask for: about a second.
const maxIterations = 5_000_000

// Object identifiers of PBES2 (RFC 8018 appendix C) and of the ciphers that OpenSSL uses.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	prfs      = map[string]func() hash.Hash{
		"1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	}
	aesKeys = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32} // AES-CBC
)

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct{ KDF, Cipher pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var errEncryption = errors.New("the key is encrypted in a way that is not known here; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEWFILE")

// decryptPBES2 opens an encrypted PKCS#8 key (RFC 5958 §3, RFC 8018 §6.2), as `openssl genpkey -aes256` writes it.
func decryptPBES2(der []byte, passphrase string) ([]byte, error) {
	var info encryptedKey
	var scheme pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("the encrypted key can't be read: it is damaged")
	}
	if !info.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errEncryption
	}
	if _, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &scheme); err != nil || !scheme.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, errEncryption
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, errEncryption
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, fmt.Errorf("the encrypted key asks for %d iterations; at most %d are done", kdf.Iterations, maxIterations)
	}
	prf := sha1.New // the default of RFC 8018 appendix A.2
	if len(kdf.PRF.Algorithm) > 0 {
		prf = prfs[kdf.PRF.Algorithm.String()]
	}
	size := aesKeys[scheme.Cipher.Algorithm.String()]
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil || prf == nil || size == 0 || len(iv) != aes.BlockSize {
		return nil, errEncryption
	}
	key, err := pbkdf2.Key(prf, passphrase, kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	return cbc(key, iv, info.Data)
}

func cbc(key, iv, data []byte) ([]byte, error) {
	wrong := errors.New("the passphrase does not open the key")
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errors.New("the encrypted key can't be read: it is damaged")
	}
	out := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, data)
	pad := int(out[len(out)-1]) // RFC 8018 §6.1.1
	if pad < 1 || pad > aes.BlockSize {
		return nil, wrong
	}
	for _, b := range out[len(out)-pad:] {
		if int(b) != pad {
			return nil, wrong
		}
	}
	if out = out[:len(out)-pad]; len(out) == 0 || out[0] != 0x30 {
		return nil, wrong
	}
	return out, nil
}
