package search

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
)

// count runs a query with one number on alice's database.
func (w *world) count(q string) (n int) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+fileOf(w.dir, alice))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(q).Scan(&n); err != nil {
		w.t.Fatal(q, err)
	}
	return n
}

// documents counts the documents in which a word of one token is.
func (w *world) documents(word string) int {
	return w.count(`SELECT count(*) FROM fts WHERE fts MATCH '"w` + word + `"'`)
}

func (w *world) expunge(name string, uids ...model.UID) {
	w.t.Helper()
	if _, err := w.store.Expunge(context.Background(), state.Expunge{Mailbox: w.box(name).ID, UIDs: uids}); err != nil {
		w.t.Fatal(err)
	}
}

// TestMessagesLeave: what leaves the mailboxes leaves the index, and a body that stays in another
// mailbox stays.
//
// covers: I.21
func TestMessagesLeave(t *testing.T) {
	w := newWorld(t, Config{On: true})
	ctx := context.Background()
	w.add("INBOX", mail("one", "alpha"), mail("two", "beta"), mail("three", "gamma"))
	m, err := w.store.Create(ctx, alice, "Work", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Copy(ctx, state.Copy{From: w.box("INBOX").ID, To: m.ID, UIDs: []model.UID{1, 2}}); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if n := w.count(`SELECT count(*) FROM doc`); n != 3 {
		t.Errorf("%d documents for three bodies in five messages", n)
	}
	w.expunge("INBOX", 1, 3)
	w.settled()
	if a, g := w.documents("alpha"), w.documents("gamma"); a != 1 || g != 0 {
		t.Errorf("alpha has %d documents, want 1 (it is in Work); gamma %d, want 0", a, g)
	}
	if err := w.store.Delete(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if a, b, n := w.documents("alpha"), w.documents("beta"), w.count(`SELECT count(*) FROM box WHERE id = `+fmt.Sprint(m.ID)); a != 0 || b != 1 || n != 0 {
		t.Errorf("after the mailbox was deleted: alpha %d, beta %d, rows of the mailbox %d", a, b, n)
	}
	w.users = nil // the user goes, or is switched off
	w.touchRows()
	w.eventually("the database is gone", func() bool {
		_, err := os.Stat(fileOf(w.dir, alice))
		return errors.Is(err, os.ErrNotExist) && len(w.ix.Status()) == 0
	})
	if _, ok := w.ix.Find(ctx, alice, w.box("INBOX").ID, Text, "beta"); ok {
		t.Error("an index that is switched off still answers")
	}
}

// touchRows changes a row, so that the index asks again whose mail it is to index.
func (w *world) touchRows() {
	w.t.Helper()
	if err := w.state.ChangeSettings(context.Background(), func(s *model.Settings) error { s.Delivery.MaxHops++; return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// TestNotYetIndexed: a message that isn't in the index is a Maybe, never a No.
func TestNotYetIndexed(t *testing.T) {
	w := newWorld(t, Config{On: true})
	w.add("INBOX", mail("one", "alpha"))
	w.settled()
	w.stop()
	w.add("INBOX", mail("two", "alpha again"))
	db := w.ix
	db.closed.Store(false) // the index as it was, while nobody keeps it up to date
	found, ok := db.Find(context.Background(), alice, w.box("INBOX").ID, Text, "alpha")
	if !ok || found.Of(1) != Yes || found.Of(2) != Maybe {
		t.Errorf("%v: %v, %v, want yes and maybe", ok, found.Of(1), found.Of(2))
	}
	db.shut()
	w.start()
	w.settled()
	if found, ok := w.ix.Find(context.Background(), alice, w.box("INBOX").ID, Text, "alpha"); !ok || found.Of(2) != Yes {
		t.Errorf("after a restart: %v, want yes", found.Of(2))
	}
}

// TestDamage: an index that was damaged or is of another version is built anew; no answer of it is used.
func TestDamage(t *testing.T) {
	texts := make([]string, 300)
	for i := range texts {
		texts[i] = mail(fmt.Sprintf("number %d", i), fmt.Sprintf("common word%d %d", i, i*7919))
	}
	for _, c := range []struct {
		name string
		harm func(t *testing.T, path string)
	}{
		{"zeroes", func(t *testing.T, path string) { overwrite(t, path, func(b []byte) { clear(b) }) }},
		{"noise", func(t *testing.T, path string) {
			r := rand.New(rand.NewPCG(1, 2))
			overwrite(t, path, func(b []byte) {
				for i := range b {
					b[i] = byte(r.Uint32())
				}
			})
		}},
		{"cut", func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, st.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"empty", func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}},
		{"version", func(t *testing.T, path string) {
			execute(t, path, `UPDATE about SET value = '0 cjk=false' WHERE key = 'form'`)
		}},
		{"table", func(t *testing.T, path string) { execute(t, path, `DROP TABLE dict`) }},
		{"sequence", func(t *testing.T, path string) { execute(t, path, `UPDATE seq SET words = x'8080'`) }},
		{"dictionary", func(t *testing.T, path string) { execute(t, path, `UPDATE dict SET words = 'x'`) }},
		{"places", func(t *testing.T, path string) { execute(t, path, `UPDATE place SET data = x'00'`) }},
		{"directory", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{On: true})
			w.add("INBOX", texts...)
			w.settled()
			w.stop()
			c.harm(t, fileOf(w.dir, alice))
			w.start()
			for _, n := range []string{"common", "word17", "number 200", "7919", "absent"} {
				w.agree("INBOX", n, asks...)
			}
			w.eventually("sure of every answer", func() bool { // some harm is noticed only when it is met
				sure := 0
				for _, n := range []string{"common", "word17", "7919", "absent", "number 200"} {
					sure += w.agree("INBOX", n, asks[0])
				}
				return sure == 5*len(texts)
			})
		})
	}
}

func execute(t *testing.T, path, q string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(q); err != nil {
		t.Fatal(err)
	}
}

// overwrite changes everything behind the first page.
func overwrite(t *testing.T, path string, fn func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) <= 4096 {
		t.Fatal(len(b), err)
	}
	fn(b[4096:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOtherHistory: after the state was replaced, a UID that is another message now is not answered
// with what it was before.
func TestOtherHistory(t *testing.T) {
	w := newWorld(t, Config{On: true})
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := w.state.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	w.add("INBOX", mail("one", "alpha"), mail("two", "beta"))
	w.settled()
	w.stop()
	if err := w.state.Restore(dir); err != nil {
		t.Fatal(err)
	}
	w.add("INBOX", mail("three", "beta"), mail("two", "beta"))
	w.ix.closed.Store(false)
	found, ok := w.ix.Find(context.Background(), alice, w.box("INBOX").ID, Text, "alpha")
	if !ok || found.Of(1) != Maybe || found.Of(2) != No {
		t.Errorf("%v: %v, %v, want maybe (it is another message now) and no", ok, found.Of(1), found.Of(2))
	}
	w.ix.shut()
	w.start()
	w.settled()
	w.agree("INBOX", "alpha", asks...)
	w.agree("INBOX", "beta", asks...)
	if n := w.documents("alpha"); n != 0 {
		t.Errorf("%d documents of the other history are left", n)
	}
}

// TestFormChanges: another setting builds the index anew.
//
// covers: R7.18
func TestFormChanges(t *testing.T) {
	w := newWorld(t, Config{On: true})
	w.add("INBOX", mail("one", "會議"))
	w.settled()
	if _, ok := w.ix.Find(context.Background(), alice, w.box("INBOX").ID, Text, "會議"); ok {
		t.Error("the index answers for Chinese, which is off")
	}
	w.stop()
	w.cfg.CJK = true
	w.start()
	w.settled()
	if found, ok := w.ix.Find(context.Background(), alice, w.box("INBOX").ID, Text, "會議"); !ok || found.Of(1) != Yes {
		t.Error("no answer for Chinese, which is on now")
	}
}

// TestReindex builds an index anew and counts what is done.
func TestReindex(t *testing.T) {
	w := newWorld(t, Config{On: true})
	texts := make([]string, 3*batchCount+1)
	for i := range texts {
		texts[i] = mail(fmt.Sprint("number ", i), fmt.Sprint("text ", i))
	}
	w.add("INBOX", texts...)
	w.settled()
	var last, total int64
	if err := w.ix.Reindex(context.Background(), nil, func(d, n int64) { last, total = d, n }); err != nil || last != int64(len(texts)) || total != last {
		t.Errorf("%v: %d of %d, want %d", err, last, total, len(texts))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.ix.Reindex(ctx, []model.AccountID{alice}, func(int64, int64) {}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestManyUsers: more accounts than may be open at a time.
func TestManyUsers(t *testing.T) {
	w := newWorld(t, Config{On: true})
	w.stop()
	ctx := context.Background()
	for id := model.AccountID(100); id < 112; id++ {
		if err := w.store.EnsureDefaults(ctx, id); err != nil {
			t.Fatal(err)
		}
		w.users = append(w.users, id)
	}
	w.maxOpen = 3
	w.start()
	w.eventually("every account is done", func() bool {
		ready := 0
		for _, s := range w.ix.Status() {
			if s.State == Ready {
				ready++
			}
		}
		return ready == len(w.users)
	})
	if n := w.ix.opened.Load(); n > 3 {
		t.Errorf("%d databases are open, 3 are allowed", n)
	}
	w.ix.refresh(false) // some row has changed: no reason to open all of them
	w.ix.mu.Lock()
	defer w.ix.mu.Unlock()
	if len(w.ix.queue) != 0 || w.ix.busy != 0 {
		t.Errorf("%d accounts are worked on again without a reason", len(w.ix.queue))
	}
}

// TestEachNodeItsOwn: another node that has applied the same log answers the same from an index that
// it has built by itself.
func TestEachNodeItsOwn(t *testing.T) {
	a := newWorld(t, Config{On: true, CJK: true})
	st, err := state.Open(state.Options{Dir: t.TempDir(), Node: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	a.add("INBOX", mail("one", "alpha 會議"), mail("two", "beta"), mail("three", "alpha beta"))
	a.expunge("INBOX", 2)
	if _, err := st.Apply(a.log.Entries); err != nil {
		t.Fatal(err)
	}
	b := &world{t: t, state: st, bodies: a.bodies, store: store.New(st, a.bodies), cfg: a.cfg, dir: t.TempDir(), users: a.users}
	b.start()
	t.Cleanup(func() { b.stop() })
	a.settled()
	b.settled()
	for _, n := range []string{"alpha", "beta", "會議", "absent", "number"} {
		fa, oka := a.ix.Find(context.Background(), alice, a.box("INBOX").ID, Text, n)
		fb, okb := b.ix.Find(context.Background(), alice, b.box("INBOX").ID, Text, n)
		for _, uid := range []model.UID{1, 3} {
			if !oka || !okb || fa.Of(uid) != fb.Of(uid) || fa.Of(uid) == Maybe {
				t.Errorf("%q of message %d: %v here, %v there", n, uid, fa.Of(uid), fb.Of(uid))
			}
		}
	}
}
