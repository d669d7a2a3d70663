package keeper

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/certs/acme"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/vault"
)

// Secrets of the settings are sealed for these uses.
const (
	EABSecret = "cert.acme.eab-key"
	DNSSecret = "cert.acme.dns-key"
)

func accountUse(directory string) string { return "ACME account " + directory }

// maxBackoff bounds the wait after a failure.
const maxBackoff = 12 * time.Hour

// backoff is the wait after so many failures in a row.
func backoff(failures int, first time.Duration) time.Duration {
	d := first
	for ; failures > 1 && d < maxBackoff; failures-- {
		d *= 2
	}
	return min(d, maxBackoff)
}

// Start orders a certificate, whether or not the caller waits for what comes of it. An attempt that
// has begun at or after since is the one.
func (k *Keeper) Start(name string, since time.Time) <-chan error {
	done := make(chan error, 1)
	if err := k.Context.Err(); err != nil {
		done <- err
		return done
	}
	k.Go(func() { done <- k.Order(k.Context, name, since) })
	return done
}

// Order orders a certificate now and stores what comes of it. An attempt that has begun at or
// after since counts as this one: it has only waited for it. It is for the node that acts.
func (k *Keeper) Order(ctx context.Context, name string, since time.Time) error {
	return k.order(ctx, name, func(e *Entry) (done bool, err error) {
		if is := e.Issued; is != nil && !since.IsZero() && is.Tried >= since.UnixNano() {
			if is.Error != "" {
				err = errors.New(is.Error)
			}
			return true, err
		}
		return false, nil
	})
}

// orderDue orders a certificate if it still is to be ordered.
func (k *Keeper) orderDue(ctx context.Context, name string) error {
	return k.order(ctx, name, func(e *Entry) (bool, error) {
		at := due(e)
		return at.IsZero() || at.After(k.Now()), nil
	})
}

// order orders when its turn has come, unless done says that nothing is to be done any more.
func (k *Keeper) order(ctx context.Context, name string, done func(*Entry) (bool, error)) error {
	k.ordering.Lock()
	defer k.ordering.Unlock()
	e, err := Get(k.State, name)
	if err != nil {
		return err
	}
	if done, err := done(&e); done {
		return err
	}
	outer := ctx
	ctx, end := k.whileLeading(ctx)
	defer end()
	begun := k.Now()
	if err := k.record(ctx, e.Certificate, func(is *model.IssuedCert) { is.Tried = begun.UnixNano() }); err != nil {
		return err
	}
	issued, err := k.obtain(ctx, &e)
	switch {
	case outer.Err() != nil:
		return outer.Err()
	case ctx.Err() != nil:
		return context.Cause(ctx) // the other node goes on; what it does counts
	}
	if err != nil {
		return errors.Join(err, k.failed(ctx, e.Certificate, err))
	}
	sealed, err := k.Seal(name, issued.KeyPEM)
	if err != nil {
		return err
	}
	err = k.record(ctx, e.Certificate, func(is *model.IssuedCert) {
		is.Cert, is.Key, is.Created = string(issued.CertPEM), sealed, k.Now().Unix()
		is.Failures, is.Next, is.Error = 0, 0, ""
	})
	if err != nil {
		return err
	}
	if info, err := certs.Read(issued.CertPEM); err == nil {
		k.Log.Info("certificate issued", "certificate", name, "for", info.Names, "issuer", info.Issuer, "until", info.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// failed stores why an attempt failed and when the next one is due.
func (k *Keeper) failed(ctx context.Context, c *model.Certificate, why error) error {
	first := time.Duration(k.State.Current().Certs.ACME.RetrySec) * time.Second
	var next time.Time
	var failures int
	err := k.record(context.WithoutCancel(ctx), c, func(is *model.IssuedCert) {
		is.Failures++
		failures = is.Failures
		wait := backoff(is.Failures, first)
		next = k.Now().Add(wait + rand.N(wait/10+1))
		var ae *acme.Error
		if errors.As(why, &ae) && ae.Retry.After(next) {
			next = ae.Retry
		}
		is.Next, is.Error = next.Unix()+1, why.Error()
	})
	if err == nil {
		k.Log.Warn("certificate not issued", "certificate", c.Name, "err", why, "failures", failures, "next", next.Format(time.RFC3339))
	}
	return err
}

var (
	errChanged    = errors.New("the certificate was changed or deleted while it was being ordered")
	errNotLeading = errors.New("this node does not lead any more")
)

// record changes the outcome of a certificate, if it is still ordered as it was.
func (k *Keeper) record(ctx context.Context, c *model.Certificate, change func(*model.IssuedCert)) error {
	return k.State.Update(ctx, func(tx *state.Tx) error {
		now, err := state.Certificates.Get(tx, c.Name)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		if now == nil || now.Source != model.CertACME || !sameNames(now.Names, c.Names) {
			return errChanged
		}
		is, err := state.IssuedCerts.Get(tx, c.Name)
		if errors.Is(err, state.ErrNotFound) {
			is, err = &model.IssuedCert{Name: c.Name}, nil
		}
		if err != nil {
			return err
		}
		change(is)
		return state.IssuedCerts.Put(tx, is)
	})
}

// whileLeading gives a context that ends when this node acts no more.
func (k *Keeper) whileLeading(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			if !k.Leading() {
				cancel(errNotLeading)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// key gives the key of a new certificate: that of the one before, where it is to be kept (RFC 7671
// §8.1), otherwise a new one.
func (k *Keeper) key(e *Entry) (crypto.Signer, []byte, error) {
	if k.State.Current().Certs.ACME.KeepKey && e.Issued != nil && e.Issued.Key != "" {
		text, err := k.Vault.Unseal(Use(e.Name), e.Issued.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("the key that is to be kept can't be read: %w; cert.acme.keep-key=false makes a new one", err)
		}
		key, err := pemKey(text)
		return key, []byte(text), err
	}
	return certs.NewKey()
}

// obtain asks the ACME server.
func (k *Keeper) obtain(ctx context.Context, e *Entry) (c certs.Certificate, err error) {
	ctx, cancel := context.WithTimeout(ctx, acme.Timeout)
	defer cancel()
	set := k.State.Current()
	client := &acme.Client{Settings: set.Certs.ACME, Version: model.Version, Resolvers: set.Network.Resolvers, Log: k.Log}
	a := &client.Settings
	if err := a.Complete(); err != nil {
		return c, err
	}
	for _, s := range []struct {
		use    string
		secret *string
	}{{EABSecret, &a.EABKey}, {DNSSecret, &a.DNSKey}} {
		if *s.secret, err = k.Vault.Unseal(s.use, *s.secret); err != nil {
			return c, fmt.Errorf("the secret %s can't be read: %w; set it again: mpctl cert acme set", s.use, err)
		}
	}
	client.Solver = &rowSolver{k, a}
	if a.Challenge == model.ChallengeDNS {
		client.Solver = acme.NewDNS(a)
	}
	defer client.Close()
	if err := client.Open(ctx); err != nil {
		return c, err
	}
	key, keyPEM, err := k.key(e)
	if err != nil {
		return c, err
	}
	for again := true; ; again = false {
		account, err := k.account(ctx, client)
		if err != nil {
			return c, err
		}
		chain, err := client.Order(ctx, account, key, e.Names)
		var ae *acme.Error
		if again && errors.As(err, &ae) && ae.Account { // the server was set up anew
			if err := k.dropAccount(ctx, a.Directory); err != nil {
				return c, err
			}
			continue
		}
		return certs.Certificate{CertPEM: chain, KeyPEM: keyPEM}, err
	}
}

func (k *Keeper) dropAccount(ctx context.Context, directory string) error {
	return k.State.Update(ctx, func(tx *state.Tx) error {
		err := state.ACMEAccounts.Delete(tx, directory)
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		return err
	})
}

// account gives this system's account at the server, and makes one when there is none.
func (k *Keeper) account(ctx context.Context, client *acme.Client) (acme.Account, error) {
	a := &client.Settings
	row, err := state.ACMEAccounts.Get(k.State, a.Directory)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return acme.Account{}, err
	}
	if row != nil {
		key, err := k.accountKey(row)
		if errors.Is(err, vault.ErrNoKey) {
			return acme.Account{}, fmt.Errorf("the account at the ACME server can't be used: %w", err)
		}
		if err == nil {
			account := acme.Account{Location: row.Location, Key: key}
			if row.Contact == a.Contact || a.Contact == "" {
				return account, nil
			}
			err := client.SetContact(ctx, account)
			var ae *acme.Error
			if err == nil || !errors.As(err, &ae) || !ae.Account {
				row.Contact = a.Contact
				return account, errors.Join(err, k.putAccount(ctx, row))
			}
		}
	}
	key, keyPEM, err := certs.NewKey()
	if err != nil {
		return acme.Account{}, err
	}
	sealed, err := k.Vault.Seal(accountUse(a.Directory), string(keyPEM))
	if err != nil {
		return acme.Account{}, err
	}
	account, err := client.Register(ctx, key)
	if err != nil {
		return acme.Account{}, err
	}
	k.Log.Info("account made at the ACME server", "directory", a.Directory, "account", account.Location)
	return account, k.putAccount(ctx, &model.ACMEAccount{Directory: a.Directory, Contact: a.Contact, Location: account.Location, Key: sealed, Created: k.Now().Unix()})
}

func (k *Keeper) putAccount(ctx context.Context, row *model.ACMEAccount) error {
	return k.State.Update(ctx, func(tx *state.Tx) error { return state.ACMEAccounts.Put(tx, row) })
}

func (k *Keeper) accountKey(row *model.ACMEAccount) (crypto.Signer, error) {
	text, err := k.Vault.Unseal(accountUse(row.Directory), row.Key)
	if err != nil {
		return nil, err
	}
	return pemKey(text)
}

// pemKey reads a key as it is sealed.
func pemKey(text string) (crypto.Signer, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, vault.ErrInvalid
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, vault.ErrInvalid
	}
	return s, nil
}
