package search

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"mailplusd/mail/model"
)

// user is one account's index.
type user struct {
	id   model.AccountID
	path string
	last atomic.Int64 // counts up with each use, over all users

	broken atomic.Bool // it is asked nothing until it is built anew

	mu   sync.RWMutex // held for reading while db is in use
	db   *sql.DB      // nil: closed
	made bool         // db was open once
	cjk  bool         // of db, also when it is closed again

	// snapMu orders the beginning of reading and the end of writing, so that a reader knows which
	// mailboxes of what he reads were compared with the state, and with which generation of it.
	snapMu  sync.Mutex
	checked map[model.MailboxID]uint64 // generation of the state, plus one
	cleared int                        // how often checked was emptied

	countMu sync.Mutex
	count   Count
}

// Count is how far an account's index is.
type Count struct {
	Messages int64 // in all mailboxes
	Indexed  int64
	Skipped  int64 // larger than MaxBody, or with a body that can't be read; SEARCH looks into them
	Known    bool  // the numbers are there: the index was compared with the mailboxes since the start
}

func (u *user) setCount(fn func(*Count)) {
	u.countMu.Lock()
	fn(&u.count)
	u.countMu.Unlock()
}

func (u *user) getCount() Count {
	u.countMu.Lock()
	defer u.countMu.Unlock()
	return u.count
}

// errNoIndex says that an account has no index yet.
var errNoIndex = errors.New("search: there is no index yet")

func fileOf(dir string, id model.AccountID) string {
	return filepath.Join(dir, strconv.FormatUint(uint64(id), 10)+".db")
}

// use calls fn with an account's open index. make: one that isn't there is made, and what is
// damaged is built anew from nothing.
func (ix *Index) use(u *user, make bool, fn func(*sql.DB) error) error {
	cjk := ix.o.Config().CJK
	for {
		if !make && u.broken.Load() {
			return errNoIndex
		}
		u.mu.RLock()
		if u.db != nil && u.cjk == cjk {
			u.last.Store(ix.tick.Add(1))
			err := fn(u.db)
			u.mu.RUnlock()
			return err
		}
		u.mu.RUnlock()
		if err := ix.open(u, make, cjk); err != nil {
			return err
		}
	}
}

func (ix *Index) open(u *user, make, cjk bool) error {
	ix.evict(u)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.db != nil && u.cjk == cjk {
		return nil
	}
	if u.db != nil {
		u.closeLocked(ix)
	}
	if ix.closed.Load() {
		return errNoIndex
	}
	if !make {
		if _, err := os.Stat(u.path); err != nil {
			return errNoIndex
		}
	}
	db, err := openFile(u.path, cjk)
	if isDamage(err) {
		ix.o.Logger.Warn("a search index is built anew", "account", u.id, "why", err)
		if err := removeFile(u.path); err != nil {
			return err
		}
		u.setCount(func(c *Count) { c.Indexed = 0 })
		if !make {
			ix.Touch(u.id)
			return errNoIndex
		}
		db, err = openFile(u.path, cjk)
	}
	if err != nil {
		return err
	}
	u.db, u.made, u.cjk = db, true, cjk
	u.last.Store(ix.tick.Add(1))
	ix.opened.Add(1)
	u.forget()
	return nil
}

// forget makes every mailbox be compared with the state again.
func (u *user) forget() {
	u.snapMu.Lock()
	u.checked = map[model.MailboxID]uint64{}
	u.cleared++
	u.snapMu.Unlock()
}

func (u *user) closeLocked(ix *Index) {
	if u.db == nil {
		return
	}
	if err := u.db.Close(); err != nil {
		ix.o.Logger.Warn("a search index was not closed cleanly", "account", u.id, "err", err)
	}
	u.db = nil
	ix.opened.Add(-1)
}

// evict closes the index that was not used for the longest time while too many are open. An index
// that is in use stays.
func (ix *Index) evict(but *user) {
	for ix.opened.Load() >= int64(ix.o.MaxOpen) {
		var oldest *user
		for _, u := range ix.all() {
			if u == but || !u.mu.TryLock() {
				continue
			}
			if u.db != nil && (oldest == nil || u.last.Load() < oldest.last.Load()) {
				if oldest != nil {
					oldest.mu.Unlock()
				}
				oldest = u
				continue
			}
			u.mu.Unlock()
		}
		if oldest == nil {
			return
		}
		oldest.closeLocked(ix)
		oldest.mu.Unlock()
	}
}

// discard removes an account's index from the disk.
func (ix *Index) discard(u *user) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closeLocked(ix)
	u.setCount(func(c *Count) { *c = Count{} })
	return removeFile(u.path)
}

// snapshot is an index at one moment.
type snapshot struct {
	tx      *sql.Tx
	gen     uint64
	checked bool // its places of the mailbox are what the state of gen says
	cleared int
}

// begin starts reading; the caller rolls tx back.
func (u *user) begin(ctx context.Context, db *sql.DB, box model.MailboxID, gen uint64) (*snapshot, error) {
	u.snapMu.Lock()
	defer u.snapMu.Unlock()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM box WHERE id = ?`, int64(box)).Scan(&n); err != nil { // the first read is the moment
		tx.Rollback()
		return nil, err
	}
	return &snapshot{tx, gen, u.checked[box] == gen+1, u.cleared}, nil
}

// vouch notes that a mailbox's places were compared with the state.
func (u *user) vouch(box model.MailboxID, v *snapshot) {
	u.snapMu.Lock()
	defer u.snapMu.Unlock()
	if u.cleared == v.cleared {
		u.checked[box] = v.gen + 1
	}
}

// sound leaves out the places of messages that are not what they were when they were indexed: the
// state may have been replaced by one of another history, in which the UID is another message's.
func (ix *Index) sound(u *user, v *snapshot, box model.MailboxID, list []place) ([]place, error) {
	if v.checked || len(list) == 0 {
		return list, nil
	}
	kept, at, bad := list[:0], 0, false
	_, err := ix.o.Source.View(box, 1, 1<<32-1, func(m *model.MessageState) bool {
		for at < len(list) && list[at].uid < m.UID {
			at++ // expunged meanwhile
		}
		if at < len(list) && list[at].uid == m.UID {
			if list[at].body == bodyMark(m.Body) {
				kept = append(kept, list[at])
			} else {
				bad = true
			}
			at++
		}
		return true
	})
	if err != nil {
		return nil, nil // the mailbox is gone: nothing is known about its messages
	}
	if !bad {
		u.vouch(box, v)
	} else {
		ix.Touch(u.id)
	}
	return kept, nil
}
