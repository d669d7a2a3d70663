package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Keyring gives each connection its certificate.
type Keyring struct{ p atomic.Pointer[ring] }

// held is a certificate that serves.
type held struct {
	*tls.Certificate
	name string
	def  bool
}

type ring struct {
	byName map[string][]*held // by DNS name, the best first
	def    []*held            // for clients that ask for no or an unknown name; one, or none
	cfg    *tls.Config
}

// NewKeyring makes an empty ring: TLS fails until Load.
func NewKeyring() *Keyring {
	k := &Keyring{}
	k.p.Store(&ring{cfg: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}})
	return k
}

// Load replaces all certificates; connections that are open keep theirs. Where several are for a
// name, one that is not self-signed serves, then the default one, then the one that is good for
// longest: both nodes of a pair choose alike.
func (k *Keyring) Load(list []Certificate, def string) error {
	r := &ring{byName: map[string][]*held{}, cfg: k.p.Load().cfg}
	var errs error
	var all []*held
	for _, c := range list {
		pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("certificate %s: %w", c.Name, err))
			continue
		}
		all = append(all, &held{&pair, c.Name, c.Name == def})
	}
	slices.SortFunc(all, better)
	for _, h := range all {
		for _, n := range h.Leaf.DNSNames {
			n = strings.ToLower(n)
			r.byName[n] = append(r.byName[n], h)
		}
	}
	if i := slices.IndexFunc(all, func(h *held) bool { return h.def }); i >= 0 {
		r.def = all[i : i+1]
	} else if len(all) > 0 {
		r.def = all[:1]
	}
	k.p.Store(r)
	return errs
}

// better orders certificates for the same name.
func better(a, b *held) int {
	rank := func(h *held) (n int) {
		if selfSigned(h.Leaf) {
			n = 2
		}
		if !h.def {
			n++
		}
		return n
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	if d := b.Leaf.NotAfter.Compare(a.Leaf.NotAfter); d != 0 {
		return d
	}
	return strings.Compare(a.name, b.name)
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// Config is for servers: TLS 1.2 and 1.3 only (R6.10, R6.22).
func (k *Keyring) Config() *tls.Config { return k.p.Load().cfg }

// candidates gives what may serve a client that asks for a name (RFC 6066 §3): certificates for
// it, then for the wildcard above it (RFC 6125 §6.4.3), then the default. A self-signed one, such as the
// one of the set-up, gives way to a wildcard's that is signed by somebody.
func (r *ring) candidates(sni string) []*held {
	name := strings.ToLower(strings.TrimSuffix(sni, "."))
	exact, wild := r.byName[name], []*held(nil)
	if _, parent, ok := strings.Cut(name, "."); ok {
		wild = r.byName["*."+parent]
	}
	switch {
	case len(wild) > 0 && (len(exact) == 0 || selfSigned(exact[0].Leaf) && !selfSigned(wild[0].Leaf)):
		return wild
	case len(exact) > 0:
		return exact
	}
	return r.def
}

// Serves names the certificate that a client gets who asks for a name; empty: there is none.
func (k *Keyring) Serves(name string) string {
	if l := k.p.Load().candidates(name); len(l) > 0 {
		return l[0].name
	}
	return ""
}

// Chains gives the certificates, each with its chain, of which clients get one that ask for a name: the
// first, or one with another kind of key if they don't know that.
func (k *Keyring) Chains(name string) (out [][]*x509.Certificate) {
	kinds := map[x509.PublicKeyAlgorithm]bool{}
	for _, h := range k.p.Load().candidates(name) {
		if kinds[h.Leaf.PublicKeyAlgorithm] {
			continue
		}
		kinds[h.Leaf.PublicKeyAlgorithm] = true
		var chain []*x509.Certificate
		for _, der := range h.Certificate.Certificate {
			if c, err := x509.ParseCertificate(der); err == nil {
				chain = append(chain, c)
			}
		}
		out = append(out, chain)
	}
	return out
}

func (k *Keyring) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	r := k.p.Load()
	list := r.candidates(h.ServerName)
	for _, c := range list { // an RSA one for a client that knows no ECDSA
		if h.SupportsCertificate(c.Certificate) == nil {
			return c.Certificate, nil
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no certificate")
	}
	return list[0].Certificate, nil // SupportsCertificate also refuses an unknown name
}
