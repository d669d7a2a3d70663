package mail

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/remote/mtasts"
	"mailplusd/mail/state"
)

// newSTS makes what knows other domains' MTA-STS policies; client looks names up.
func (s *Server) newSTS(client *remote.Client) *mtasts.Cache {
	fetcher := &mtasts.Fetcher{Roots: s.roots, Dial: client.DialHost}
	return &mtasts.Cache{TXT: client.TXT, Fetch: fetcher.Fetch, Store: stsStore{s}, Log: s.log, Now: time.Now}
}

// stsPolicy gives a domain's policy, unless MTA-STS is switched off.
func (s *Server) stsPolicy(cache *mtasts.Cache) func(context.Context, string) (*mtasts.Policy, error) {
	return func(ctx context.Context, domain string) (*mtasts.Policy, error) {
		if !s.State.Current().Queue.MTASTS {
			return nil, nil
		}
		return cache.Get(ctx, domain)
	}
}

// stsStore keeps policies in the replicated state: a node that takes over must not send in clear
// what the other one would not have.
type stsStore struct{ s *Server }

func (st stsStore) Load(domain string) (*mtasts.Entry, error) {
	row, err := state.STSPolicies.Get(st.s.State, domain)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &mtasts.Entry{Domain: row.Domain, ID: row.ID, Text: row.Text, Fetched: row.Fetched}, nil
}

func (st stsStore) Save(ctx context.Context, e mtasts.Entry) error {
	p, err := mtasts.ParsePolicy([]byte(e.Text))
	if err != nil {
		return err
	}
	row := &model.STSPolicy{Domain: e.Domain, ID: e.ID, Text: e.Text, Fetched: e.Fetched, Until: e.Fetched + int64(p.MaxAge/time.Second)}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return st.s.State.Update(ctx, func(tx *state.Tx) error { return state.STSPolicies.Put(tx, row) })
}

// maxSTSPolicies bounds the policies that are kept.
const maxSTSPolicies = 5000

// TrimSTSPolicies removes policies that don't hold any more, and those that end first when there
// are too many. The node that acts does it, for both.
func (s *Server) TrimSTSPolicies(ctx context.Context, now time.Time) error {
	if !s.leading() {
		return nil
	}
	all, err := state.STSPolicies.List(s.State, "")
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *model.STSPolicy) int { return int(min(max(b.Until-a.Until, -1), 1)) })
	var old []string
	for i, p := range all {
		if p.Until < now.Unix() || i >= maxSTSPolicies {
			old = append(old, p.Domain)
		}
	}
	const batch = 200
	for len(old) > 0 {
		n := min(batch, len(old))
		if err := s.State.Update(ctx, func(tx *state.Tx) error {
			for _, d := range old[:n] {
				if err := state.STSPolicies.Delete(tx, d); err != nil && !errors.Is(err, state.ErrNotFound) {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		old = old[n:]
	}
	return nil
}

// ownSTS gives the policy file of a domain hosted here; nil: it has none.
func (s *Server) ownSTS(domain string) []byte {
	pic, err := s.Directory.Now()
	if err != nil || pic.Domains[domain] == nil {
		return nil
	}
	text, _ := pic.Domains[domain].STSPolicy(s.State.Current().System.Hostname)
	return text
}
