package mtasts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Entry is a policy as it is kept.
type Entry struct {
	Domain  string
	ID      string // of the TXT record that it was fetched for
	Text    string // the policy file
	Fetched int64  // Unix seconds
}

// Store keeps policies over restarts. Load gives nil where there is none.
type Store interface {
	Load(domain string) (*Entry, error)
	Save(ctx context.Context, e Entry) error
}

// How long things hold.
const (
	recheck = 5 * time.Minute // DNS is not asked again before, nor a fetch that failed repeated (RFC 8461 §3.3)
	refresh = 24 * time.Hour  // a policy is fetched again after, even if its ID is the same (RFC 8461 §3.3)
	maxKept = 10_000          // domains remembered
)

// Reasons why there is no policy, as reports call them (RFC 8460 §4.3).
const (
	FetchError    = "sts-policy-fetch-error"
	PolicyInvalid = "sts-policy-invalid"
	WebPKIInvalid = "sts-webpki-invalid"
)

// Failure says that a domain has a record and no policy could be had.
type Failure struct {
	Kind string // FetchError, PolicyInvalid or WebPKIInvalid
	Err  error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Cache knows policies.
type Cache struct {
	TXT   func(ctx context.Context, name string) ([]string, error) // an error: DNS does not answer
	Fetch func(ctx context.Context, domain string) ([]byte, error)
	Store Store
	Log   *slog.Logger
	Now   func() time.Time

	mu   sync.Mutex
	seen map[string]*slot
}

// slot is what is known of a domain; mu is held while it is looked up, so that this happens once.
type slot struct {
	mu     sync.Mutex
	loaded bool
	entry  *Entry
	policy *Policy // of entry; nil: none
	err    error   // why there is no policy though there should be
	until  time.Time
	failed time.Time // of the last fetch that failed
}

// Get gives the policy of a domain; nil: there is none. The error, a *Failure, comes with nil or
// with the policy that is kept, and doesn't hold mail up (RFC 8461 §5.1).
func (c *Cache) Get(ctx context.Context, domain string) (*Policy, error) {
	s := c.slot(domain)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c.Now()
	if now.Before(s.until) && !s.expired(now) {
		return s.result()
	}
	if !s.loaded {
		c.load(s, domain)
	}
	if s.expired(now) {
		s.entry, s.policy = nil, nil
	}
	c.look(ctx, s, domain, now)
	if ctx.Err() == nil {
		s.until = now.Add(recheck)
	}
	return s.result()
}

func (s *slot) result() (*Policy, error) {
	if s.policy == nil || s.policy.Mode == ModeNone {
		return nil, s.err
	}
	return s.policy, s.err
}

func (s *slot) expired(now time.Time) bool {
	return s.entry != nil && now.After(time.Unix(s.entry.Fetched, 0).Add(s.policy.MaxAge))
}

func (c *Cache) slot(domain string) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= maxKept && c.seen[domain] == nil {
		c.seen = map[string]*slot{}
	}
	if c.seen[domain] == nil {
		c.seen[domain] = &slot{}
	}
	return c.seen[domain]
}

// load takes up what was kept before a restart, or by the other node.
func (c *Cache) load(s *slot, domain string) {
	e, err := c.Store.Load(domain)
	if err != nil {
		c.Log.Warn("kept MTA-STS policy can't be read", "domain", domain, "err", err)
		return
	}
	s.loaded = true
	if e == nil {
		return
	}
	if s.policy, err = ParsePolicy([]byte(e.Text)); err != nil {
		s.policy = nil
		return
	}
	s.entry, s.policy.ID = e, e.ID
}

// look asks DNS, and fetches what is new or old.
func (c *Cache) look(ctx context.Context, s *slot, domain string, now time.Time) {
	s.err = nil
	txts, err := c.TXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return // a kept policy holds, or none
	}
	id, err := ParseRecord(txts)
	if errors.Is(err, ErrNone) && s.entry == nil {
		return
	}
	if err != nil {
		if !errors.Is(err, ErrNone) {
			s.err = &Failure{PolicyInvalid, err}
		}
		return
	}
	if s.entry != nil && s.entry.ID == id && now.Before(time.Unix(s.entry.Fetched, 0).Add(refresh)) {
		return
	}
	if now.Before(s.failed.Add(recheck)) {
		return
	}
	s.err = c.fetch(ctx, s, domain, id, now)
	if s.err != nil {
		s.failed = now
		c.Log.Warn("MTA-STS policy can't be had", "domain", domain, "kept", s.entry != nil, "err", s.err)
	}
}

func (c *Cache) fetch(ctx context.Context, s *slot, domain, id string, now time.Time) error {
	raw, err := c.Fetch(ctx, domain)
	if err != nil {
		var f *Failure
		if errors.As(err, &f) {
			return f
		}
		return &Failure{FetchError, fmt.Errorf("the MTA-STS policy of %s can't be fetched: %w", domain, err)}
	}
	p, err := ParsePolicy(raw)
	if err != nil {
		return &Failure{PolicyInvalid, fmt.Errorf("the MTA-STS policy of %s %w", domain, err)}
	}
	p.ID = id
	e := Entry{Domain: domain, ID: id, Text: string(raw), Fetched: now.Unix()}
	s.entry, s.policy, s.failed = &e, p, time.Time{}
	if err := c.Store.Save(ctx, e); err != nil {
		c.Log.Warn("MTA-STS policy not kept; it is fetched again after a restart", "domain", domain, "err", err)
	}
	return nil
}
