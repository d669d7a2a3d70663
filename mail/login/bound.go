package login

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// remembered is a password that a directory has said is right.
type remembered struct {
	hash  string // argon2id
	until time.Time
}

// ask has the directory of an account compare a password. When it can't be asked and the account
// allows it, a password that was right a short time ago still is; otherwise the login fails for
// the moment, which counts against nobody.
func (l *Login) ask(ctx context.Context, c *Credential, password []byte) (bool, error) {
	if len(password) == 0 || len(password) > maxPassword {
		return false, nil
	}
	select {
	case l.asks <- struct{}{}:
		defer func() { <-l.asks }()
	case <-ctx.Done():
		return false, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
	}
	key := strconv.FormatUint(uint64(c.AccountID), 10)
	ok, err := c.Check(ctx, password)
	switch {
	case err == nil && ok:
		return true, l.remember(ctx, key, c, password)
	case err == nil:
		l.forget(key)
		return false, nil
	case ctx.Err() == nil && l.recall(ctx, key, c, password):
		l.o.Logger.Warn("the directory can't be asked; the password was right a short time ago", "account", c.Name, "err", err)
		return true, nil
	}
	return false, fmt.Errorf("%w: %w", ErrTemporary, err)
}

// remember keeps a right password's hash in memory for the account's time.
func (l *Login) remember(ctx context.Context, key string, c *Credential, password []byte) error {
	if c.Remember <= 0 {
		l.forget(key)
		return nil
	}
	until := l.o.Now().Add(c.Remember)
	l.mu.Lock()
	old, have := l.kept[key]
	l.mu.Unlock()
	if have {
		if ok, err := l.verify(ctx, "directory "+key, old.hash, password); err != nil {
			return err
		} else if !ok {
			have = false
		}
	}
	if !have {
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		hash, err := Hash(password)
		<-l.slots
		if err != nil {
			return err
		}
		old.hash = hash
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= maxCache {
		clear(l.kept)
	}
	l.kept[key] = remembered{old.hash, until}
	return nil
}

func (l *Login) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, key)
}

// recall tells whether a password was right within the account's time.
func (l *Login) recall(ctx context.Context, key string, c *Credential, password []byte) bool {
	l.mu.Lock()
	old, have := l.kept[key]
	l.mu.Unlock()
	if !have || c.Remember <= 0 || l.o.Now().After(old.until) {
		return false
	}
	ok, err := l.verify(ctx, "directory "+key, old.hash, password)
	return err == nil && ok
}
