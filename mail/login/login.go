// Package login decides who may log in: it compares passwords (argon2id, or bcrypt from
// elsewhere) or has a directory do so, slows guessing down and locks addresses out.
package login

import (
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"mailplusd/mail/model"
)

// Service is what a login is for.
type Service string

// The services.
const (
	IMAP       Service = "imap"
	POP3       Service = "pop3"
	SMTP       Service = "smtp"
	Submission Service = "smtp" // one permission for both
	Admin      Service = "self-service"
)

// Errors of Authenticate. Clients are told no more than that it failed.
var (
	ErrUnknown     = errors.New("no such account")
	ErrPassword    = errors.New("wrong password")
	ErrDisabled    = errors.New("the account is disabled")
	ErrInactive    = errors.New("the account is not activated")
	ErrUnsupported = errors.New("the account's name is not supported")
	ErrDenied      = errors.New("the account may not use this service")
	ErrNotLocal    = errors.New("the account may use this service only from the local network")
	ErrTemporary   = errors.New("accounts can't be checked at the moment")
	ErrLocked      = errors.New("locked out after too many wrong passwords")
)

// IsTemporary tells whether trying again later may work without a change of password.
func IsTemporary(err error) bool { return errors.Is(err, ErrTemporary) }

// Attempt is one try to log in.
type Attempt struct {
	Service   Service
	Remote    netip.Addr
	TLS       bool
	Mechanism string
	User      string // account name or any of its addresses
	Password  []byte
}

// Account is who has logged in.
type Account struct {
	ID        model.AccountID
	Name      string
	Admin     bool
	Addresses []string
}

// Credential is what the directory knows of an account.
type Credential struct {
	AccountID                            model.AccountID
	Name, Hash                           string
	Enabled, Activated, Supported, Admin bool
	Addresses                            []string
	Denied                               []Service // by the account's own settings
	Policy                               string    // name of the policy that counts
	PolicyDenied                         []Service // what it doesn't allow
	LANOnly                              []Service // what it allows from the local network only
	// Check asks the directory that the account is of; nil: Hash decides. An error says that it
	// could not be asked. Also set with ErrUnknown, so that the answer takes as long.
	Check func(ctx context.Context, password []byte) (bool, error)
	// Remember is how long a right password is remembered for when the directory can't be
	// asked; 0: not at all.
	Remember time.Duration
}

// Directory finds accounts; ErrUnknown when there is none.
type Directory interface {
	Lookup(ctx context.Context, name string) (Credential, error)
}

// Policy is how guessing is slowed down.
type Policy struct {
	MaxFailures int
	Window      time.Duration
	LockTime    time.Duration
	MinPassword int
}

// Options of New.
type Options struct {
	Directory Directory
	Policy    func() Policy
	Local     func(netip.Addr) bool // is of the local network; nil: no address is
	Share     func(Event)           // is told of what other nodes are to Learn; it must not wait. nil: nobody
	Logger    *slog.Logger
	Now       func() time.Time
}

// Login checks logins for every service.
type Login struct {
	o     Options
	slots chan struct{} // hashing takes 19 MB each
	asks  chan struct{} // of directories
	kept  map[string]remembered
	key   [32]byte // of the cache: never leaves the process
	mu    sync.Mutex
	cache map[string][32]byte
	fails map[string]*failures
	order *list.List
}

const (
	maxCache   = 20_000
	maxFails   = 50_000
	hashAtOnce = 4
	askAtOnce  = 64
)

// New makes a Login.
func New(o Options) *Login {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Login{o: o, slots: make(chan struct{}, hashAtOnce), cache: map[string][32]byte{}, kept: map[string]remembered{}, asks: make(chan struct{}, askAtOnce), fails: map[string]*failures{}, order: list.New()}
	rand.Read(l.key[:])
	return l
}

// Authenticate compares a login with the directory. A wrong password counts against the
// client's address for that account; too many lock it out, and only it: the owner at
// another address isn't touched (I.14).
func (l *Login) Authenticate(ctx context.Context, a Attempt) (*Account, error) {
	name := model.FoldName(a.User)
	c, err := l.o.Directory.Lookup(ctx, name)
	unknown := errors.Is(err, ErrUnknown)
	if err != nil && !unknown {
		return nil, err
	}
	if !unknown && c.Name != "" {
		name = c.Name // guesses count together, by whatever name and address they are made
	}
	if err := l.locked(name, a.Remote); err != nil {
		return nil, err
	}
	ok, err := l.matches(ctx, &c, unknown, a.Password)
	if err != nil {
		return nil, err
	}
	switch {
	case unknown:
		err = ErrUnknown
	case !ok:
		err = ErrPassword
	}
	if err != nil {
		l.tell(Event{Kind: Failed, Key: lockKey(name, a.Remote)})
		return nil, err
	}
	if l.succeeded(lockKey(name, a.Remote)) {
		l.share(Event{Kind: Succeeded, Key: lockKey(name, a.Remote)})
	}
	return l.admit(&c, &a)
}

// matches compares a password with what is known of the account, or has the directory do so.
func (l *Login) matches(ctx context.Context, c *Credential, unknown bool, password []byte) (bool, error) {
	if c.Check != nil {
		return l.ask(ctx, c, password)
	}
	hash := c.Hash
	if unknown || hash == "" {
		hash = dummyHash // costs the same time
	}
	ok, err := l.verify(ctx, c.Name, hash, password)
	return ok && c.Hash != "", err
}

// admit checks what is not about the password: the account, its own settings, then its policy.
func (l *Login) admit(c *Credential, a *Attempt) (*Account, error) {
	s := a.Service
	switch {
	case !c.Supported:
		return nil, ErrUnsupported
	case !c.Enabled:
		return nil, ErrDisabled
	case !c.Activated && s != Admin:
		return nil, ErrInactive
	}
	switch {
	case slices.Contains(c.Denied, s):
		return nil, fmt.Errorf("%w: %s", ErrDenied, s)
	case slices.Contains(c.PolicyDenied, s):
		return nil, fmt.Errorf("%w: %s, by the policy %s", ErrDenied, s, c.Policy)
	case slices.Contains(c.LANOnly, s) && (l.o.Local == nil || !l.o.Local(a.Remote)):
		return nil, fmt.Errorf("%w: %s, by the policy %s", ErrNotLocal, s, c.Policy)
	}
	return &Account{ID: c.AccountID, Name: c.Name, Admin: c.Admin, Addresses: c.Addresses}, nil
}

// verify compares a password with a hash. What matched before is remembered by a keyed
// digest of hash and password, so that a thousand clients that reconnect don't each cost
// the full hash; a changed password changes the hash and so forgets.
func (l *Login) verify(ctx context.Context, name, hash string, password []byte) (bool, error) {
	mac := hmac.New(sha256.New, l.key[:])
	mac.Write([]byte(hash))
	mac.Write([]byte{0})
	mac.Write(password)
	var sum [32]byte
	mac.Sum(sum[:0])
	l.mu.Lock()
	known, have := l.cache[name]
	l.mu.Unlock()
	if have && hmac.Equal(known[:], sum[:]) {
		return true, nil
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return false, fmt.Errorf("%w: %w", ErrTemporary, ctx.Err())
	}
	ok := Compare(hash, password)
	if ok {
		l.mu.Lock()
		if len(l.cache) >= maxCache {
			clear(l.cache)
		}
		l.cache[name] = sum
		l.mu.Unlock()
	}
	return ok, nil
}

// failures of one address for one account.
type failures struct {
	key   string
	count int
	first time.Time
	until time.Time // locked out
	at    *list.Element
}

func lockKey(name string, ip netip.Addr) string {
	ip = ip.Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64 // a household
	}
	p, _ := ip.Prefix(bits)
	return name + " " + p.String()
}

func (l *Login) locked(name string, ip netip.Addr) error { return l.lockedKey(lockKey(name, ip)) }

func (l *Login) lockedKey(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fails[key]
	if f != nil && l.o.Now().Before(f.until) {
		return fmt.Errorf("%w until %s", ErrLocked, f.until.Format(time.RFC3339))
	}
	return nil
}

func (l *Login) failed(key string) {
	p, now := l.o.Policy(), l.o.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fails[key]
	if f == nil || now.Sub(f.first) > p.Window {
		if f != nil {
			l.order.Remove(f.at)
		}
		f = l.fail(key, now)
	}
	if f.count++; f.count >= p.MaxFailures {
		name, client, _ := cutKey(key)
		f.until, f.count, f.first = now.Add(p.LockTime), 0, now
		l.o.Logger.Warn("locked out", "account", name, "client", client, "until", f.until)
	}
}

// fail begins to count the failures under a key.
func (l *Login) fail(key string, now time.Time) *failures {
	f := &failures{key: key, first: now}
	f.at = l.order.PushBack(f)
	l.fails[key] = f
	for len(l.fails) > maxFails {
		old := l.order.Remove(l.order.Front()).(*failures)
		delete(l.fails, old.key)
	}
	return f
}

// succeeded forgets the failures under a key; it tells whether there were any.
func (l *Login) succeeded(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fails[key]
	if f != nil {
		l.order.Remove(f.at)
		delete(l.fails, key)
	}
	return f != nil
}

// Lock is an address that is locked out for an account.
type Lock struct {
	Key   string // account and network
	Until time.Time
}

// Locks lists the lock-outs in force.
func (l *Login) Locks() []Lock {
	now := l.o.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Lock
	for e := l.order.Front(); e != nil; e = e.Next() {
		if f := e.Value.(*failures); now.Before(f.until) {
			out = append(out, Lock{Key: f.key, Until: f.until})
		}
	}
	return out
}

// Unlock forgets the failures of an account at every address, on all nodes; it tells how
// many this one knew.
func (l *Login) Unlock(name string) int {
	l.share(Event{Kind: Unlocked, Key: name})
	return l.unlock(name)
}

func (l *Login) unlock(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for key, f := range l.fails {
		if len(key) > len(name) && key[:len(name)+1] == name+" " {
			l.order.Remove(f.at)
			delete(l.fails, key)
			n++
		}
	}
	return n
}

// PasswordAllowed tells whether a password may cross a connection: with TLS always, in
// clear as the setting says (A.32).
func PasswordAllowed(setting string, tls bool, ip netip.Addr) bool {
	switch {
	case tls, setting == "always":
		return true
	case setting == "loopback":
		return ip.Unmap().IsLoopback()
	}
	return false
}
