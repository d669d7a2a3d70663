package mail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// DirectorySecret is what the password of the binding is sealed for.
const DirectorySecret = "directory ldap"

// bound is the client of the directory that is bound.
type bound struct {
	mu      sync.Mutex
	version uint64
	conf    *model.LDAP // nil: none is bound
	client  *ldap.Client
	syncing sync.Mutex // one at a time
}

// Bound gives the binding to a directory and its client; nil when there is none.
func (s *Server) Bound() (*model.LDAP, *ldap.Client, error) {
	b := &s.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	version := s.State.RowsVersion()
	if b.version == version && version != 0 {
		return b.conf, b.client, nil
	}
	conf, err := directory.Bound(s.State)
	if err != nil {
		return nil, nil, err
	}
	if conf == nil {
		b.conf, b.client, b.version = nil, nil, version
		return nil, nil, nil
	}
	if b.conf == nil || !sameBinding(b.conf, conf) {
		secret, err := s.Vault.Unseal(DirectorySecret, conf.Password)
		if err != nil {
			return conf, nil, fmt.Errorf("the password of the directory can't be read: %w; set it again with mpctl directory %s set --bind-password-file FILE", err, DirectoryNoun(conf.Source))
		}
		b.client = s.DirectoryClient(conf, secret)
	}
	b.conf, b.version = conf, version
	return b.conf, b.client, nil
}

// DirectoryClient makes a client for a binding that asks the DNS servers of the settings.
func (s *Server) DirectoryClient(conf *model.LDAP, secret string) *ldap.Client {
	c := ldap.New(*conf, secret)
	c.Resolvers = func() []string { return s.State.Current().Network.Resolvers }
	return c
}

// DirectoryNoun is how mpctl directory calls a source.
func DirectoryNoun(source string) string {
	if source == model.SourceDomain {
		return "ad"
	}
	return "ldap"
}

func sameBinding(a, b *model.LDAP) bool {
	x, err := state.Marshal(a)
	if err != nil {
		return false
	}
	y, err := state.Marshal(b)
	return err == nil && string(x) == string(y)
}

// credential completes what login must know of an account of the directory; acc is nil when
// there is none of that name.
func (s *Server) credential(c *login.Credential, acc *directory.Account) {
	conf, client, err := s.Bound()
	if err == nil && client == nil {
		err = errors.New("no directory is bound")
	}
	if err != nil {
		c.Check = func(context.Context, []byte) (bool, error) { return false, err }
		return
	}
	who := client.Nobody()
	if acc != nil {
		who = ldap.Who{DN: acc.DN, Name: acc.Name, GUID: acc.GUID}
	}
	c.Remember = time.Duration(conf.CacheMinutes) * time.Minute
	c.Check = func(ctx context.Context, password []byte) (bool, error) {
		v, err := client.CheckPassword(ctx, who, password)
		if err == nil && v.Why != "" {
			s.log.Info("the directory refuses a login", "account", who.Name, "why", v.Why)
		}
		return v.Right, err
	}
}

// ErrNoDirectory says that none is bound.
var ErrNoDirectory = errors.New("no directory is bound")

// SyncDirectory reads the bound directory and makes the accounts follow it. How it ended is kept in the state,
// for both nodes of a pair.
func (s *Server) SyncDirectory(ctx context.Context, force bool) (*directory.Synced, error) {
	s.bound.syncing.Lock()
	defer s.bound.syncing.Unlock()
	conf, client, err := s.Bound()
	if err == nil && conf == nil {
		return nil, ErrNoDirectory
	}
	var out *directory.Synced
	now := time.Now()
	if err == nil {
		var e *ldap.Entries
		if e, err = client.Fetch(ctx); err == nil {
			out, err = directory.Sync(ctx, s.State, conf.Source, e, force, now)
		}
	}
	if conf == nil {
		return nil, err
	}
	if uerr := s.noteSync(ctx, conf.Source, out, err, now); err == nil {
		err = uerr
	}
	return out, err
}

// noteSync stores how a synchronisation ended. The same failure again is not a change.
func (s *Server) noteSync(ctx context.Context, source string, out *directory.Synced, failed error, now time.Time) error {
	return s.State.Update(context.WithoutCancel(ctx), func(tx *state.Tx) error {
		if has, err := state.Directories.Has(tx, source); err != nil || !has {
			return err // unbound meanwhile
		}
		if failed == nil {
			return state.DirectoryStates.Put(tx, &out.DirectoryState)
		}
		st, err := state.DirectoryStates.Get(tx, source)
		if errors.Is(err, state.ErrNotFound) {
			st, err = &model.DirectoryState{Source: source}, nil
		}
		if err != nil || st.Error == failed.Error() {
			return err
		}
		st.Error, st.Tried = failed.Error(), now.Unix()
		return state.DirectoryStates.Put(tx, st)
	})
}

const (
	syncLook  = 20 * time.Second // how often the time of the next synchronisation is looked at
	syncAgain = time.Minute      // after a failure
)

// followDirectory synchronises when it is time, on the node that leads.
func (s *Server) followDirectory() {
	t := time.NewTicker(syncLook)
	defer t.Stop()
	var failed time.Time
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			if now.Sub(failed) < syncAgain || !s.syncDue(now) {
				continue
			}
			out, err := s.SyncDirectory(s.ctx, false)
			switch {
			case err == nil && (out.Added > 0 || out.Changed > 0 || len(out.Lost) > 0 || len(out.Renamed) > 0):
				s.log.Info("directory synchronised", "users", out.Users, "added", out.Added, "changed", out.Changed, "gone", len(out.Lost), "renamed", len(out.Renamed))
			case err != nil && s.ctx.Err() == nil:
				failed = now
				s.log.Error("directory not synchronised", "err", err)
			}
		}
	}
}

// syncDue tells whether this node has to synchronise now.
func (s *Server) syncDue(now time.Time) bool {
	if !s.leading() || s.State.Current().System.Source == model.SourceLocal {
		return false
	}
	conf, _, err := s.Bound()
	if err != nil || conf == nil {
		return err != nil
	}
	st, err := state.DirectoryStates.Get(s.State, conf.Source)
	return err != nil || now.Sub(time.Unix(st.Done, 0)) >= time.Duration(conf.SyncMinutes)*time.Minute
}
