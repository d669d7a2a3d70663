package state

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mailplusd/mail/model"
)

func mustDo(t testing.TB, s *State, ops ...Operation) {
	t.Helper()
	if err := s.Do(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
}

// alone makes s the forced branch of node b, whose settings belong to a.
func alone(t testing.TB, s *State, epoch uint64) {
	t.Helper()
	mustDo(t, s, EpochStart{Epoch: epoch, Owner: "b", Node: 1, Forced: true, Phase: PhaseSolo, SettingsOwner: "a", Reason: "a is silent"})
}

func testPair() *model.Pair {
	key := func(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }
	return &model.Pair{Cluster: "c", LeaseMS: 3000, Arbiter: model.Arbiter{Mode: model.ArbiterManual}, Sharing: model.Sharing{Mode: model.SharingBalanced},
		Nodes: []model.PairNode{
			{ID: "a", Addrs: []string{"192.0.2.1:1"}, Key: key('a'), Role: model.RolePrimary},
			{ID: "b", Number: 1, Addrs: []string{"192.0.2.2:1"}, Key: key('b'), Role: model.RoleSecondary},
		},
		VIPs: []model.VIP{{Prefix: netip.MustParsePrefix("192.0.2.9/24"), Interface: "eth0"}}}
}

func TestForcedEpochMakesSettingsReadOnly(t *testing.T) {
	// covers: R11.61 R11.64
	s, d := open(t)
	ctx := context.Background()
	user := &model.User{ID: 1, Name: "u", Hash: "old"}
	if err := s.Update(ctx, func(tx *Tx) error { return Users.Put(tx, user) }); err != nil {
		t.Fatal(err)
	}
	mustDo(t, s, EpochStart{Epoch: 1, Owner: "a", Phase: PhasePair})
	change := func() error {
		return s.ChangeSettings(ctx, func(m *model.Settings) error { return m.Set("delivery.max-hops", "31") })
	}
	// The original primary alone: settings stay changeable.
	mustDo(t, s, PairSet{Epoch: 1, Phase: PhaseSolo, Owner: "a"})
	if err := change(); err != nil {
		t.Fatalf("the primary alone: %v", err)
	}
	alone(t, s, 2)
	err := change()
	if !errors.Is(err, ErrReadOnly) || err.Error() != "settings are read-only until node a is repaired or removed (mpctl ha remove a)" {
		t.Fatalf("err = %v", err)
	}
	// Every table of settings, whatever class the proposer claims.
	for _, tab := range tables {
		rows := Rows{Class: ClassUser, Put: []RowPut{{Key: []byte{spaceRow, tab.id(), 'x'}, Value: []byte{0xa0}}}}
		err := s.Do(ctx, []Operation{rows})
		if readOnly := errors.Is(err, ErrReadOnly); readOnly != (tab.class() == ClassSettings) {
			t.Errorf("table %s: %v", tab.name(), err)
		}
		del := Rows{Class: ClassUser, Delete: [][]byte{{spaceRow, tab.id(), 'x'}}}
		if err := s.Do(ctx, []Operation{del}); errors.Is(err, ErrReadOnly) != (tab.class() == ClassSettings) {
			t.Errorf("table %s, delete: %v", tab.name(), err)
		}
	}
	// The user's own password, and no more.
	own := func(fn func(*model.User)) error {
		return s.Update(ctx, func(tx *Tx) error {
			u := *user
			fn(&u)
			tx.Own()
			return Users.Put(tx, &u)
		})
	}
	if err := own(func(u *model.User) { u.Hash = "new" }); err != nil {
		t.Errorf("own password: %v", err)
	}
	if err := own(func(u *model.User) { u.Hash, u.Admin = "new", true }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("own password and the administrator's right: %v", err)
	}
	// Mail goes on, and so does the pair.
	deliver(t, s, 1, 1)
	if err := s.Update(ctx, func(tx *Tx) error { return StorePair(tx, testPair()) }); err != nil {
		t.Errorf("pair: %v", err)
	}
	// A restart doesn't forget.
	mustDo(t, s, PairSet{Epoch: 2, Phase: PhaseSolo, SettingsOwner: "a"})
	if _, ro := s.Regime().ReadOnly(); !ro {
		t.Fatal("not read-only any more")
	}
	// `ha remove a`: b owns the settings.
	mustDo(t, s, PairSet{Epoch: 2, Phase: PhaseSingle, SettingsOwner: "b"})
	if err := change(); err != nil {
		t.Fatalf("after removal: %v", err)
	}
	history, err := s.History()
	if err != nil || len(history) != 2 || history[1].Owner != "b" || !history[1].Forced {
		t.Fatalf("%+v %v", history, err)
	}
	again, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Apply(d.log); err != nil {
		t.Fatal(err)
	}
	if *again.Regime() != *s.Regime() {
		t.Fatalf("%+v, %+v", again.Regime(), s.Regime())
	}
}

func TestForcedEpochSkipsAhead(t *testing.T) {
	s, _ := open(t)
	inbox := deliver(t, s, 1, 1).Local[0].Mailbox
	before, _ := s.Mailbox(inbox)
	alone(t, s, 5)
	for i, want := range []model.UID{before.UIDNext + 2*skipUIDs, before.UIDNext + 2*skipUIDs + 1} {
		if p := deliver(t, s, byte(2+i), 1).Local[0]; p.UID != want || p.ModSeq <= before.HighestModSeq+skipModSeq || p.UIDValidity != before.UIDValidity {
			t.Fatalf("%+v, want UID %d", p, want)
		}
	}
	var made MailboxCreated
	if err := s.Do(context.Background(), []Operation{MailboxCreate{Account: 1, Name: "new"}}, &made); err != nil {
		t.Fatal(err)
	}
	if made.Mailbox.ID>>idBlock != 2*5+1 {
		t.Fatalf("mailbox %x is in the block of somebody else", uint64(made.Mailbox.ID))
	}
	if err := s.Do(context.Background(), []Operation{EpochStart{Epoch: 5, Owner: "a", Phase: PhaseSolo}}); !errors.Is(err, ErrConflict) {
		t.Fatalf("an epoch twice: %v", err)
	}
}

func TestFeatureLevel(t *testing.T) {
	s, d := open(t)
	ctx := context.Background()
	levelOf[KindCounter] = 2
	defer delete(levelOf, KindCounter)
	if err := s.Do(ctx, []Operation{Counter{Name: "n", Add: 1}}); !errors.Is(err, ErrLevel) || d.index != 0 {
		t.Fatalf("proposed above the level: %v", err)
	}
	mustDo(t, s, RaiseLevel{Level: 1})
	if err := s.Do(ctx, []Operation{RaiseLevel{Level: FeatureLevel + 1}}); !errors.Is(err, ErrNewer) {
		t.Fatalf("a level that nobody knows: %v", err)
	}
}
