// Package keeper looks after the certificates of the system: it loads what the state holds into
// the keyring of its node, orders and renews those that come from an ACME server, and says what
// the administrator has to know about them.
//
// Settings and outcomes are rows (model.Certificate, IssuedCert, ACMEAccount, ACMEChallenge), keys
// are sealed in them. In a pair the node that acts orders, for both; either serves, and answers the
// challenges of an ACME server. See docs/design/certificates.md.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailplusd/mail/certs"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/vault"
)

// Keeper is of one node.
type Keeper struct {
	State   *state.State
	Vault   *vault.Vault
	Ring    *certs.Keyring
	Leading func() bool
	Log     *slog.Logger
	Now     func() time.Time
	Context context.Context // ends with the node
	Go      func(func())    // runs what the node waits for when it ends
	// Apply opens and closes listeners as Ports says.
	Apply func()
	// Serving tells whether the node listens on a port, or why it can't.
	Serving func(port int) (bool, error)
	// Settle waits until the other node has done what follows from the changes so far; nil: there is none.
	Settle func(context.Context)

	loading sync.Mutex
	loaded  loadedOf
	good    map[string]certs.Certificate // what could be opened last
	missing bool                         // a key is not on this node yet

	ordering sync.Mutex           // one order at a time
	told     map[string]time.Time // when the log got a warning
}

// loadedOf is what the keyring was loaded from.
type loadedOf struct {
	rows, issued, generation uint64
	keys                     string
}

// Use is what the key of a certificate is sealed for.
func Use(name string) string { return "certificate " + name }

// Seal seals a key for the state.
func (k *Keeper) Seal(name string, keyPEM []byte) (string, error) {
	return k.Vault.Seal(Use(name), string(keyPEM))
}

// Entry is a certificate with what the state knows of it.
type Entry struct {
	*model.Certificate
	Issued *model.IssuedCert // of CertACME, after the first attempt
	Chain  string            // PEM; empty: none yet
	sealed string            // its key
	Info   certs.Info        // of Chain
	Err    error             // Chain can't be read
}

// All gives every certificate by name.
func All(r state.Reader) ([]Entry, error) {
	rows, err := state.Certificates.List(r, "")
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(rows))
	for _, c := range rows {
		e, err := entry(r, c)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Get gives one certificate. Error: state.ErrNotFound.
func Get(r state.Reader, name string) (Entry, error) {
	c, err := state.Certificates.Get(r, name)
	if err != nil {
		return Entry{}, err
	}
	return entry(r, c)
}

func entry(r state.Reader, c *model.Certificate) (Entry, error) {
	e := Entry{Certificate: c, Chain: c.Cert, sealed: c.Key}
	if c.Source == model.CertACME {
		is, err := state.IssuedCerts.Get(r, c.Name)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return e, err
		}
		if e.Issued = is; is != nil && is.Cert != "" { // until then, what it replaces
			e.Chain, e.sealed = is.Cert, is.Key
		}
	}
	if e.Chain != "" {
		e.Info, e.Err = certs.Read([]byte(e.Chain))
	}
	return e, nil
}

// open gives the certificate with its key in clear. Errors: those of vault.Unseal.
func (k *Keeper) open(e *Entry) (certs.Certificate, error) {
	c := certs.Certificate{Name: e.Name, CertPEM: []byte(e.Chain), KeyPEM: []byte(e.sealed)}
	if vault.IsSealed(e.sealed) {
		key, err := k.Vault.Unseal(Use(e.Name), e.sealed)
		if err != nil {
			return c, err
		}
		c.KeyPEM = []byte(key)
	}
	return c, nil
}

// Readable tells why this node can't serve with a certificate; nil: it can.
func (k *Keeper) Readable(e *Entry) error {
	if e.Err != nil {
		return fmt.Errorf("it can't be read: %w", e.Err)
	}
	_, err := k.open(e)
	return err
}

// Load brings the keyring up to date with the rows.
func (k *Keeper) Load() error {
	k.loading.Lock()
	defer k.loading.Unlock()
	from := loadedOf{
		rows: k.State.TableVersion(state.Certificates.ID), issued: k.State.TableVersion(state.IssuedCerts.ID),
		generation: k.State.Generation(), keys: k.Vault.Digest(),
	}
	if from == k.loaded && k.good != nil {
		return nil
	}
	all, err := All(k.State)
	if err != nil {
		return err
	}
	good := map[string]certs.Certificate{}
	missing, def := false, ""
	var errs error
	for i := range all {
		e := &all[i]
		if e.Chain == "" {
			continue
		}
		c, err := k.open(e)
		if err != nil {
			missing = missing || errors.Is(err, vault.ErrNoKey)
			errs = errors.Join(errs, fmt.Errorf("certificate %s: %w", e.Name, err))
			old, had := k.good[e.Name]
			if !had {
				continue
			}
			c = old // better the one of before than none
		}
		good[e.Name] = c
		if e.Default {
			def = e.Name
		}
	}
	k.good, k.loaded, k.missing = good, from, missing
	list := make([]certs.Certificate, 0, len(good))
	for _, name := range slices.Sorted(maps.Keys(good)) {
		list = append(list, good[name])
	}
	return errors.Join(errs, k.Ring.Load(list, def))
}

func (k *Keeper) incomplete() bool {
	k.loading.Lock()
	defer k.loading.Unlock()
	return k.missing
}

const (
	keySoon  = time.Second // until the other node's keys are looked for again
	idleStep = time.Hour   // longest pause: clocks are set, too
)

// Run orders what is due, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	w := k.State.WatchTopic(state.TopicRows)
	defer w.Close()
	for {
		wait := k.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-w.C():
		case <-time.After(wait):
		}
	}
}

// step does what is due and tells for how long nothing is.
func (k *Keeper) step(ctx context.Context) time.Duration {
	wait := idleStep
	if k.incomplete() {
		wait = keySoon
		if err := k.Load(); err == nil {
			k.Log.Info("the keys of all certificates are here now")
		}
	}
	if !k.Leading() {
		return min(wait, 5*time.Second) // nothing tells when that changes
	}
	if _, ro := k.State.Regime().ReadOnly(); !ro {
		if err := k.sealKeys(ctx); err != nil && ctx.Err() == nil {
			k.Log.Error("keys of certificates are not sealed", "err", err)
		}
	}
	k.forgetChallenges(ctx)
	all, err := All(k.State)
	if err != nil {
		k.Log.Error("certificates can't be read", "err", err)
		return time.Minute
	}
	k.tell(k.warnings(all))
	for i := range all {
		at := due(&all[i])
		if at.IsZero() {
			continue
		}
		if d := at.Sub(k.Now()); d > 0 {
			wait = min(wait, d)
			continue
		}
		if err := k.orderDue(ctx, all[i].Name); err != nil && ctx.Err() != nil {
			return 0
		}
		wait = min(wait, keySoon) // look again what that has changed
	}
	return wait
}

// sealKeys seals keys that came into the state in clear: at set-up, or before they were sealed.
func (k *Keeper) sealKeys(ctx context.Context) error {
	all, err := state.Certificates.List(k.State, "")
	if err != nil || !slices.ContainsFunc(all, inClear) {
		return err
	}
	return k.State.Update(ctx, func(tx *state.Tx) error {
		all, err := state.Certificates.List(tx, "")
		if err != nil {
			return err
		}
		for _, c := range all {
			if !inClear(c) {
				continue
			}
			if c.Key, err = k.Seal(c.Name, []byte(c.Key)); err != nil {
				return err
			}
			if err := state.Certificates.Put(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func inClear(c *model.Certificate) bool { return c.Key != "" && !vault.IsSealed(c.Key) }

// due tells when a certificate is to be ordered; zero: never.
func due(e *Entry) time.Time {
	switch {
	case e.Source != model.CertACME:
		return time.Time{}
	case e.Issued != nil && e.Issued.Failures > 0:
		return time.Unix(e.Issued.Next, 0)
	case e.Issued == nil || e.Issued.Cert == "" || e.Err != nil || !sameNames(e.Info.Names, e.Names):
		return time.Unix(e.Created, 0)
	}
	return RenewAt(e.Info)
}

// RenewAt is when an ordered certificate is renewed: when a third of its time is left.
func RenewAt(i certs.Info) time.Time { return i.NotAfter.Add(-i.NotAfter.Sub(i.NotBefore) / 3) }

func sameNames(a, b []string) bool {
	fold := func(l []string) []string {
		out := make([]string, len(l))
		for i, n := range l {
			out[i] = strings.ToLower(n)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(fold(a), fold(b))
}
