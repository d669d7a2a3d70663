package mail

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"mailplusd/mail/remote/mtasts"
	"mailplusd/mail/state/statetest"
)

// TestSTSPoliciesAreKept: what one node has fetched the other one knows, until it ends.
func TestSTSPoliciesAreKept(t *testing.T) {
	st, _ := statetest.Open(t)
	s := &Server{State: st, leading: func() bool { return true }, log: slog.New(slog.DiscardHandler)}
	ctx := context.Background()
	now := time.Unix(1e9, 0)
	store := stsStore{s}
	if e, err := store.Load("one.test"); e != nil || err != nil {
		t.Fatal(e, err)
	}
	for domain, age := range map[string]int{"one.test": 86400, "two.test": 10} {
		if err := store.Save(ctx, mtasts.Entry{Domain: domain, ID: "1", Text: fmt.Sprintf("version: STSv1\nmode: enforce\nmx: a.b\nmax_age: %d\n", age), Fetched: now.Unix()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.TrimSTSPolicies(ctx, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if e, err := store.Load("one.test"); err != nil || e == nil || e.ID != "1" || e.Fetched != now.Unix() {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := store.Load("two.test"); e != nil || err != nil {
		t.Errorf("ended, and still there: %+v %v", e, err)
	}
}
