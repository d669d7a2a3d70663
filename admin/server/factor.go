package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// factorSecret is what the secret of an account is sealed for.
func factorSecret(key string) string { return "second factor of " + key }

// factorOf reads an account's second factor; nil when it has none.
func factorOf(r state.Reader, key string) (*model.SecondFactor, error) {
	f, err := state.SecondFactors.Get(r, key)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	return f, err
}

// askCode wants the one-time code of an account whose password is right; it tells whether one
// was needed.
func (s *Server) askCode(ctx context.Context, name, code string) (asked bool, err error) {
	a := s.accountOf(name)
	if a == nil {
		return false, op.Errorf(op.Forbidden, "login failed")
	}
	f, err := factorOf(s.mail.State, a.Key())
	if err != nil || !f.On() {
		return false, err
	}
	if code == "" {
		return true, &op.Error{Code: op.Forbidden, Field: op.FieldCode, Message: name + " logs in with a one-time code, too", Remedy: "mpctl … --login " + name + " --login-code-file FILE, or at a terminal"}
	}
	return true, s.spendCode(ctx, a.Name, a.Key(), code, nil)
}

// spendCode checks a code of an account and uses it up, in the same entry as also changes more: a code
// is good once, on both nodes of a pair. Wrong ones are counted.
func (s *Server) spendCode(ctx context.Context, name, key, code string, also func(*state.Tx, *model.SecondFactor) error) error {
	err := s.mail.Login.Second(name, func() (ok bool, err error) {
		err = s.mail.State.Update(ctx, func(tx *state.Tx) error {
			f, err := factorOf(tx, key)
			if err != nil {
				return err
			}
			if ok, err = s.codeOf(f, code); err != nil || !ok {
				return err
			}
			if also != nil {
				if err := also(tx, f); err != nil {
					return err
				}
			}
			if !f.On() && f.Pending == "" {
				return state.SecondFactors.Delete(tx, key)
			}
			return state.SecondFactors.Put(tx, f)
		})
		return ok && err == nil, err
	})
	switch {
	case errors.Is(err, login.ErrCode):
		return op.Errorf(op.Forbidden, "the one-time code is wrong, or was used already; wait for the next one")
	case errors.Is(err, login.ErrLocked):
		return op.Errorf(op.Forbidden, "%v", err).With("mpctl login lock clear " + name)
	}
	return err
}

// codeOf compares a code with what an account has, and marks it as used in f.
func (s *Server) codeOf(f *model.SecondFactor, code string) (bool, error) {
	if f == nil {
		return false, nil
	}
	sealed := f.Secret
	if sealed == "" {
		sealed = f.Pending
	}
	secret, err := s.mail.Vault.Unseal(factorSecret(f.SealKey()), sealed)
	if err != nil {
		return false, op.Errorf(op.Failed, "the secret of the second factor can't be read: %v", err).With("sudo mpctl user set NAME --2fa off, on the server")
	}
	if step, ok := login.CheckCode(secret, code, time.Now(), f.LastStep); ok {
		f.LastStep = step
		return true, nil
	}
	if i := login.CheckRecovery(code, f.Recovery); i >= 0 {
		f.Recovery = slices.Delete(f.Recovery, i, i+1)
		return true, nil
	}
	return false, nil
}

func (s *Server) meFactorShow(_ context.Context, c *Call, _ *op.None) (out api.MeFactorOut, err error) {
	a, err := s.me(c)
	if err != nil {
		return out, err
	}
	f, err := factorOf(s.mail.State, a.Key())
	if f != nil {
		out = api.MeFactorOut{On: f.On(), Since: stamp(f.Since), Pending: f.Pending != "", Recovery: len(f.Recovery)}
	}
	return out, err
}

// meFactorEnable shows a secret; it counts once a code has shown that the app has it.
func (s *Server) meFactorEnable(ctx context.Context, c *Call, _ *op.None) (out api.MeFactorSecret, err error) {
	a, err := s.me(c)
	if err != nil {
		return out, err
	}
	secret := login.NewSecret()
	sealed, err := s.mail.Vault.Seal(factorSecret(a.Key()), secret)
	if err != nil {
		return out, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		f, err := factorOf(tx, a.Key())
		if err != nil {
			return err
		}
		if f.On() {
			return refused("two-factor login is on already", "mpctl me 2fa disable")
		}
		return state.SecondFactors.Put(tx, &model.SecondFactor{User: a.Key(), Pending: sealed})
	})
	if err != nil || c.DryRun {
		return out, err
	}
	c.Warn("put the secret into your authenticator app, then: mpctl me 2fa confirm")
	return api.MeFactorSecret{Secret: secret, URI: login.SecretURI(s.mail.State.Current().System.Hostname, a.Name, secret)}, nil
}

func (s *Server) meFactorConfirm(ctx context.Context, c *Call, in *api.MeFactorCodeIn) (out api.MeFactorRecovery, err error) {
	a, err := s.me(c)
	if err != nil {
		return out, err
	}
	f, err := factorOf(s.mail.State, a.Key())
	switch {
	case err != nil:
		return out, err
	case f.On():
		return out, refused("two-factor login is on already", "mpctl me 2fa show")
	case f == nil:
		return out, refused("there is no secret to confirm", "mpctl me 2fa enable")
	case c.DryRun:
		return out, nil
	}
	codes, hashes := login.NewRecovery()
	err = s.spendCode(ctx, a.Name, a.Key(), string(in.Code), func(_ *state.Tx, f *model.SecondFactor) error {
		if f.On() {
			return refused("two-factor login is on already", "mpctl me 2fa show")
		}
		f.Secret, f.Pending, f.Since, f.Recovery = f.Pending, "", time.Now().Unix(), hashes
		return nil
	})
	if err != nil {
		return out, err
	}
	c.Warn("keep the recovery codes where you find them without your app: each logs in once")
	return api.MeFactorRecovery{Codes: codes}, s.endSessions(ctx, a.Key())
}

func (s *Server) meFactorDisable(ctx context.Context, c *Call, in *api.MeFactorCodeIn) (op.None, error) {
	a, err := s.me(c)
	if err != nil {
		return op.None{}, err
	}
	f, err := factorOf(s.mail.State, a.Key())
	switch {
	case err != nil:
		return op.None{}, err
	case !f.On():
		return op.None{}, refused("two-factor login is not on", "mpctl me 2fa show")
	case c.DryRun:
		return op.None{}, nil
	}
	return op.None{}, s.spendCode(ctx, a.Name, a.Key(), string(in.Code), func(_ *state.Tx, f *model.SecondFactor) error {
		*f = model.SecondFactor{User: f.User}
		return nil
	})
}

// dropFactor forgets a user's second factor, for an administrator.
func dropFactor(tx *state.Tx, key string) error {
	err := state.SecondFactors.Delete(tx, key)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

// Limits of sessions.
const (
	maxSessions   = 20 // of one account; the oldest go
	sessionPrefix = "session-"
)

// sessionAdd makes a token for some time out of a login by password, and code if the account has one.
func (s *Server) sessionAdd(ctx context.Context, c *Call, in *api.SessionAddIn) (out api.SessionOut, err error) {
	if !strings.HasPrefix(c.Actor.How, "password") {
		return out, refused("a session is made of a login with a password", "mpctl --server HOST:PORT --login USER login session add")
	}
	a, err := s.me(c)
	if err != nil || c.DryRun {
		return out, err
	}
	token, hash := auth.NewToken()
	var raw [8]byte
	rand.Read(raw[:])
	now := time.Now()
	t := &model.Token{Name: sessionPrefix + hex.EncodeToString(raw[:]), User: a.Name, Source: a.Source, Hash: hash, Session: true, Created: now.Unix(),
		Expires: now.Add(time.Duration(max(in.Minutes, 1)) * time.Minute).Unix()}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		var own []*model.Token
		for x, err := range state.Tokens.All(tx, sessionPrefix) {
			if err != nil {
				return err
			}
			if x.Session && x.User == t.User && x.Source == t.Source {
				own = append(own, x)
			}
		}
		slices.SortFunc(own, func(x, y *model.Token) int { return int(x.Expires - y.Expires) })
		for len(own) >= maxSessions {
			if err := state.Tokens.Delete(tx, own[0].Name); err != nil {
				return err
			}
			own = own[1:]
		}
		return state.Tokens.Put(tx, t)
	})
	return api.SessionOut{Token: token, User: a.Name, Expires: stamp(t.Expires)}, err
}

// endSessions ends the sessions of an account that were made before it had a second factor.
func (s *Server) endSessions(ctx context.Context, key string) error {
	return s.mail.State.Update(ctx, func(tx *state.Tx) error { return dropTokens(tx, key, sessionPrefix) })
}

// dropTokens takes an account's tokens and certificates away, those whose names begin with prefix.
func dropTokens(tx *state.Tx, key, prefix string) error {
	for x, err := range state.Tokens.All(tx, prefix) {
		if err != nil {
			return err
		}
		if (x.Session || prefix == "") && model.SourceKey(x.Source, x.User) == key {
			if err := state.Tokens.Delete(tx, x.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
