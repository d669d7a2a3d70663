package view

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"

	"pgregory.net/rapid"
)

type boxes struct{ *state.State }

func (b boxes) MailboxByID(id model.MailboxID) (model.Mailbox, error) { return b.Mailbox(id) }

func do(t testing.TB, s *state.State, op state.Operation, out any) {
	t.Helper()
	if err := s.Do(context.Background(), []state.Operation{op}, out); err != nil {
		t.Fatal(err)
	}
}

func added(n int) (out []state.AppendItem) {
	for i := range n {
		out = append(out, state.AppendItem{Body: model.BodyID{byte(i)}, Size: int64(i), Meta: []byte("m")})
	}
	return out
}

// text is everything of a view that a session can see.
func text(v *View) (out []string) {
	for i := range v.Messages {
		m := &v.Messages[i]
		if !m.Gone {
			out = append(out, fmt.Sprint(m.UID, m.Flags, m.Size, m.Date, m.ModSeq, m.Keywords()))
		}
	}
	return append(out, fmt.Sprint(v.modseq, v.Mailbox.UIDNext))
}

// TestImagesAreLikeReading: whatever happens, a view opened from an image that others share is the
// one that is read afresh, and what one session does to its view no other sees.
func TestImagesAreLikeReading(t *testing.T) {
	defer func(n int, small uint32) { cacheMessages, cacheSmallest = n, small }(cacheMessages, cacheSmallest)
	cacheMessages, cacheSmallest = 60, 5
	s, _ := statetest.Open(t)
	account := model.AccountID(0)
	rapid.Check(t, func(t *rapid.T) {
		account++
		var cache Cache
		var ids []model.MailboxID
		for i := range 3 {
			var m state.MailboxCreated
			if err := s.Do(context.Background(), []state.Operation{state.MailboxCreate{Account: account, Name: fmt.Sprint("b", i)}}, &m); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, m.Mailbox.ID)
		}
		var open []*View
		pick := func() model.MailboxID { return rapid.SampledFrom(ids).Draw(t, "box") }
		uids := func() []model.UID {
			return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) model.UID { return model.UID(rapid.Uint32Range(1, 30).Draw(t, "uid")) }), 1, 6, rapid.ID[model.UID]).Draw(t, "uids")
		}
		apply := func(op state.Operation) {
			if err := s.Do(context.Background(), []state.Operation{op}); err != nil {
				t.Fatal(err)
			}
		}
		read := func(id model.MailboxID) *View {
			v, err := new(Cache).Open(boxes{s}, model.Mailbox{ID: id}, true)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(*rapid.T) { apply(state.Append{Mailbox: pick(), Items: added(rapid.IntRange(1, 10).Draw(t, "n"))}) },
			"flag": func(*rapid.T) {
				apply(state.SetFlags{Mailbox: pick(), UIDs: uids(), Mode: state.FlagsAdd, Flags: model.FlagSeen, Keywords: []string{fmt.Sprint("k", rapid.IntRange(0, 2).Draw(t, "k"))}})
			},
			"expunge": func(*rapid.T) { apply(state.Expunge{Mailbox: pick(), UIDs: uids()}) },
			"open": func(*rapid.T) {
				id := pick()
				row, err := s.Mailbox(id)
				if err != nil {
					t.Fatal(err)
				}
				v, err := cache.Open(boxes{s}, row, false)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := text(v), text(read(id)); !slices.Equal(got, want) {
					t.Fatalf("opened %v, there is %v", got, want)
				}
				open = append(open, v)
			},
			"poll": func(*rapid.T) {
				if len(open) == 0 {
					return
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "view")
				others := make([][]string, len(open))
				for k, v := range open {
					others[k] = text(v)
				}
				if _, err := open[i].Poll(rapid.Bool().Draw(t, "expunge")); err != nil {
					t.Fatal(err)
				}
				for k, v := range open {
					if k != i && !slices.Equal(text(v), others[k]) {
						t.Fatalf("a poll of view %d has changed view %d", i, k)
					}
				}
				if got, want := text(open[i]), text(read(open[i].Mailbox.ID)); !slices.Equal(got, want) {
					t.Fatalf("after a poll %v, there is %v", got, want)
				}
			},
			"": func(*rapid.T) {
				total := 0
				for e := cache.lru.Front(); e != nil; e = e.Next() {
					total += e.Value.(*image).counted
				}
				if total != cache.total || total > cacheMessages || len(cache.images) != cache.lru.Len() {
					t.Fatalf("%d messages counted, %d kept in %d images", cache.total, total, cache.lru.Len())
				}
			},
		})
	})
}

// TestImagesAreShared: sessions on an unchanged mailbox have one list between them.
func TestImagesAreShared(t *testing.T) {
	s, _ := statetest.Open(t)
	var m state.MailboxCreated
	do(t, s, state.MailboxCreate{Account: 1, Name: "a"}, &m)
	do(t, s, state.Append{Mailbox: m.Mailbox.ID, Items: added(int(cacheSmallest))}, nil)
	row, err := s.Mailbox(m.Mailbox.ID)
	if err != nil {
		t.Fatal(err)
	}
	var cache Cache
	a, err := cache.Open(boxes{s}, row, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cache.Open(boxes{s}, row, false)
	if err != nil {
		t.Fatal(err)
	}
	if &a.Messages[0] != &b.Messages[0] {
		t.Error("two lists")
	}
	if a.CountRecent() != len(a.Messages) || b.CountRecent() != 0 {
		t.Errorf("%d and %d are recent", a.CountRecent(), b.CountRecent())
	}
	if n := a.Unrecorded(); n != row.UIDNext {
		t.Errorf("unrecorded %d", n)
	}
}
