package keeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailplusd/mail/certs/acme"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Names of the listeners that are open only while an ACME server has something to look for, where
// no other listener has the port.
const (
	ListenHTTP = "acme-http"
	ListenTLS  = "acme-tls"
)

// challengeLife is how long a challenge is answered that its order did not take back.
const challengeLife = 2 * acme.Timeout

// rowSolver puts challenges into the state, so that each node can answer.
type rowSolver struct {
	k *Keeper
	a *model.ACME
}

// Present stores the challenge and has the port opened.
func (s *rowSolver) Present(ctx context.Context, c acme.Challenge) error {
	row := &model.ACMEChallenge{Type: c.Type, Token: c.Token, Name: strings.ToLower(c.Identifier.Value), KeyAuth: c.KeyAuthorization, Created: s.k.Now().Unix()}
	if err := s.k.State.Update(ctx, func(tx *state.Tx) error { return state.ACMEChallenges.Put(tx, row) }); err != nil {
		return err
	}
	s.k.Apply()
	port := s.a.HTTPPort
	if c.Type == model.ChallengeTLS {
		port = s.a.TLSPort
	}
	open, err := s.k.Serving(port)
	switch {
	case err != nil:
		return fmt.Errorf("port %d, where the ACME server will look, can't be opened: %w", port, err)
	case !open:
		return fmt.Errorf("port %d, where the ACME server will look, is not open here", port)
	}
	return nil
}

// Wait lets the other node learn of the challenge and open its port: the name may lead there. One that
// does not answer serves nobody.
func (s *rowSolver) Wait(ctx context.Context, _ acme.Challenge) error {
	if s.k.Settle != nil {
		s.k.Settle(ctx)
	}
	return ctx.Err()
}

// CleanUp takes the challenge back.
func (s *rowSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.k.State.Update(ctx, func(tx *state.Tx) error {
		err := state.ACMEChallenges.Delete(tx, c.Type+"/"+c.Token)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		return err
	})
	s.k.Apply()
	return err
}

// challenges gives what is to be answered now.
func (k *Keeper) challenges() []*model.ACMEChallenge {
	all, err := state.ACMEChallenges.List(k.State, "")
	if err != nil {
		k.Log.Error("ACME challenges can't be read", "err", err)
		return nil
	}
	return slices.DeleteFunc(all, k.stale)
}

func (k *Keeper) stale(c *model.ACMEChallenge) bool {
	return k.Now().Sub(time.Unix(c.Created, 0)) > challengeLife
}

// forgetChallenges removes what an order has left that was cut off.
func (k *Keeper) forgetChallenges(ctx context.Context) {
	all, err := state.ACMEChallenges.List(k.State, "")
	if err != nil || !slices.ContainsFunc(all, k.stale) {
		return
	}
	err = k.State.Update(ctx, func(tx *state.Tx) error {
		for _, c := range all {
			if !k.stale(c) {
				continue
			}
			if err := state.ACMEChallenges.Delete(tx, state.ACMEChallenges.Key(c)); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		k.Log.Warn("old ACME challenges not removed", "err", err)
	}
}

// Ports names the listeners that challenges need.
func (k *Keeper) Ports() map[string]int {
	a := &k.State.Current().Certs.ACME
	var out map[string]int
	for _, c := range k.challenges() {
		if out == nil {
			out = map[string]int{}
		}
		if c.Type == model.ChallengeHTTP {
			out[ListenHTTP] = a.HTTPPort
		} else {
			out[ListenTLS] = a.TLSPort
		}
	}
	return out
}

// maxToken bounds the token in a request; RFC 8555 §8.3 has no limit, servers use 43 octets.
const maxToken = 256

// Answer gives the key authorization of a token (RFC 8555 §8.3).
func (k *Keeper) Answer(token string) (string, bool) {
	if token == "" || len(token) > maxToken {
		return "", false
	}
	c, err := state.ACMEChallenges.Get(k.State, model.ChallengeHTTP+"/"+token)
	if err != nil || k.stale(c) {
		return "", false
	}
	return c.KeyAuth, true
}

// TLS gives what answers a client that validates a name by TLS-ALPN (RFC 8737 §3); nil: it does not.
func (k *Keeper) TLS(h *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != acme.ALPN {
		return nil, nil
	}
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	for _, c := range k.challenges() {
		if c.Type != model.ChallengeTLS || c.Name != name {
			continue
		}
		cert, err := acme.ChallengeCert(c.Name, c.KeyAuth)
		if err != nil {
			return nil, err
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPN}, Certificates: []tls.Certificate{*cert}}, nil
	}
	return nil, fmt.Errorf("no validation of %.100q is under way", name)
}
