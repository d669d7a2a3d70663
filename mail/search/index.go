package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// Limits of the work in the background.
const (
	MaxBody     = 32 << 20 // octets of a message; larger ones are not indexed, SEARCH looks into them
	batchCount  = 64       // messages of one transaction
	batchOctets = 4 << 20
	gatherTime  = 300 * time.Millisecond // from a change to the work on it, so that several are done at once
	retryTime   = 5 * time.Minute        // after a fault
	maxPause    = 2 * time.Second        // between two transactions
)

// Source is what the index reads of mail/store.
type Source interface {
	Mailboxes(account model.AccountID) ([]model.Mailbox, error)
	View(id model.MailboxID, from, to model.UID, fn func(*model.MessageState) bool) (model.Mailbox, error)
	Changes(id model.MailboxID, since uint64) (state.Changes, error)
	Generation() uint64
	Body(id model.BodyID) (*segment.Body, error)
}

// Config is what the settings say at the moment.
type Config struct {
	On  bool // keep indexes at all
	CJK bool // with single Chinese, Japanese and Korean characters
	CPU int  // share of one processor that building takes, in percent; 0 means 100
}

// Options of New.
type Options struct {
	Dir     string
	Source  Source
	Feed    func() *state.Feed
	Users   func() ([]model.AccountID, error) // whose mail is to be indexed
	Config  func() Config
	MaxOpen int // databases open at a time; 0: 32
	Logger  *slog.Logger
}

// Index is the full-text indexes of this node.
type Index struct {
	o      Options
	tick   atomic.Int64
	opened atomic.Int64
	closed atomic.Bool

	gather   time.Duration
	maxWords int // the constant, but in tests

	mu     sync.Mutex
	users  map[model.AccountID]*user
	queue  map[model.AccountID]bool // to be worked on; true: from nothing
	busy   model.AccountID          // worked on
	faults map[model.AccountID]string
	poke   chan struct{}
	moved  chan struct{} // closed and replaced whenever something has changed
}

// New makes an Index; Run keeps it up to date. The directory is made when it is needed.
func New(o Options) *Index {
	if o.MaxOpen <= 0 {
		o.MaxOpen = 32
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Index{
		o: o, gather: gatherTime, maxWords: maxWords, users: map[model.AccountID]*user{}, queue: map[model.AccountID]bool{}, faults: map[model.AccountID]string{},
		poke: make(chan struct{}, 1), moved: make(chan struct{}),
	}
}

// lookup gives an account that is indexed; nil: it is not.
func (ix *Index) lookup(id model.AccountID) *user {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return ix.users[id]
}

func (ix *Index) all() []*user {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	out := make([]*user, 0, len(ix.users))
	for _, u := range ix.users {
		out = append(out, u)
	}
	return out
}

// tell wakes who waits for progress.
func (ix *Index) tell() {
	ix.mu.Lock()
	close(ix.moved)
	ix.moved = make(chan struct{})
	ix.mu.Unlock()
}

// Touch has an account's index compared with its mailboxes soon.
func (ix *Index) Touch(id model.AccountID) {
	ix.mu.Lock()
	if _, ok := ix.queue[id]; !ok {
		ix.queue[id] = false
	}
	ix.mu.Unlock()
	ix.wake()
}

func (ix *Index) wake() {
	select {
	case ix.poke <- struct{}{}:
	default:
	}
}

// failed deals with an error of an account's index: one that is damaged is built anew.
func (ix *Index) failed(u *user, err error) {
	if !isDamage(err) {
		ix.o.Logger.Error("a search index can't be used", "account", u.id, "err", err)
		return
	}
	ix.o.Logger.Warn("a search index is damaged and is built anew", "account", u.id, "err", err)
	u.broken.Store(true)
	u.setCount(func(c *Count) { c.Indexed, c.Known = 0, false })
	ix.mu.Lock()
	ix.queue[u.id] = true
	ix.mu.Unlock()
	ix.wake()
}

// Run keeps the indexes up to date until ctx ends.
func (ix *Index) Run(ctx context.Context) {
	feed := ix.o.Feed()
	defer feed.Close()
	defer ix.shut()
	ix.refresh(true)
	retry := time.NewTicker(retryTime)
	defer retry.Stop()
	for {
		for ix.step(ctx) {
		}
		select {
		case <-ctx.Done():
			return
		case <-ix.poke:
			continue
		case <-retry.C:
			ix.requeue()
			continue
		case <-feed.C():
		}
		if !wait(ctx, ix.gather) {
			return
		}
		ix.take(feed.Take())
	}
}

// wait waits; false: ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// take queues what a feed has told.
func (ix *Index) take(got state.Fed) {
	if got.Rows || got.All {
		ix.refresh(got.All)
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for id := range got.Accounts {
		if _, waits := ix.queue[id]; ix.users[id] != nil && !waits {
			ix.queue[id] = false
		}
	}
}

// requeue tries again what has failed.
func (ix *Index) requeue() {
	ix.mu.Lock()
	for id := range ix.faults {
		if _, waits := ix.queue[id]; !waits {
			ix.queue[id] = false
		}
	}
	ix.mu.Unlock()
	for _, u := range ix.all() {
		if u.getCount().Skipped > 0 {
			u.forget()
			ix.Touch(u.id)
		}
	}
}

// refresh finds out whose mail is to be indexed, and removes the indexes of everybody else. all:
// every index is to be compared with its mailboxes.
func (ix *Index) refresh(all bool) {
	cfg := ix.o.Config()
	want := map[model.AccountID]bool{}
	if cfg.On {
		list, err := ix.o.Users()
		if err != nil {
			ix.o.Logger.Error("it is not known whose mail is to be indexed", "err", err)
			return
		}
		for _, id := range list {
			want[id] = true
		}
	}
	var gone []*user
	ix.mu.Lock()
	for id, u := range ix.users {
		if !want[id] {
			gone = append(gone, u)
			delete(ix.users, id)
			delete(ix.queue, id)
			delete(ix.faults, id)
		}
	}
	for id := range want {
		u := ix.users[id]
		if u == nil {
			ix.users[id] = &user{id: id, path: fileOf(ix.o.Dir, id), checked: map[model.MailboxID]uint64{}}
		}
		if _, waits := ix.queue[id]; !waits && (u == nil || all || u.formChanged(cfg.CJK)) {
			ix.queue[id] = false
		}
	}
	ix.mu.Unlock()
	for _, u := range gone {
		if err := ix.discard(u); err != nil {
			ix.o.Logger.Error("a search index can't be removed", "account", u.id, "err", err)
		}
	}
	ix.sweep(want)
	ix.tell()
}

// formChanged tells whether an index has another form than the settings ask for. One that was never
// opened is in the queue since it is known.
func (u *user) formChanged(cjk bool) bool {
	if !u.mu.TryRLock() {
		return true
	}
	defer u.mu.RUnlock()
	return u.made && u.cjk != cjk
}

// sweep removes the files of accounts that are not indexed.
func (ix *Index) sweep(want map[model.AccountID]bool) {
	list, err := os.ReadDir(ix.o.Dir)
	if err != nil {
		return
	}
	for _, e := range list {
		name, ok := strings.CutSuffix(e.Name(), ".db")
		id, err := strconv.ParseUint(name, 10, 64)
		if ok && err == nil && !want[model.AccountID(id)] {
			if err := removeFile(filepath.Join(ix.o.Dir, e.Name())); err != nil {
				ix.o.Logger.Error("a search index can't be removed", "file", e.Name(), "err", err)
			}
		}
	}
}

// step works on one account of the queue; false: there is none, or ctx has ended.
func (ix *Index) step(ctx context.Context) bool {
	ix.mu.Lock()
	var u *user
	anew := false
	for id, fromNothing := range ix.queue {
		delete(ix.queue, id)
		if u = ix.users[id]; u != nil {
			anew, ix.busy = fromNothing, id
			break
		}
	}
	ix.mu.Unlock()
	if u == nil || ctx.Err() != nil {
		return false
	}
	err := os.MkdirAll(ix.o.Dir, 0o700)
	if err == nil && anew {
		if err = ix.discard(u); err == nil {
			u.broken.Store(false)
		}
	}
	if err == nil {
		err = ix.sync(ctx, u)
	}
	again := false
	ix.mu.Lock()
	ix.busy = 0
	delete(ix.faults, u.id)
	if err != nil && ctx.Err() == nil {
		again = isDamage(err) && !anew
		ix.faults[u.id] = err.Error()
	}
	removed := ix.users[u.id] != u
	ix.mu.Unlock()
	switch {
	case removed:
		if err := ix.discard(u); err != nil {
			ix.o.Logger.Error("a search index can't be removed", "account", u.id, "err", err)
		}
	case again:
		ix.failed(u, err)
	case errors.Is(err, errStale):
		ix.Touch(u.id)
	case err != nil && ctx.Err() == nil:
		ix.o.Logger.Error("mail can't be indexed, it is tried again later", "account", u.id, "err", err)
	}
	ix.tell()
	return true
}

// shut closes every index.
func (ix *Index) shut() {
	ix.closed.Store(true)
	for _, u := range ix.all() {
		u.mu.Lock()
		u.closeLocked(ix)
		u.mu.Unlock()
	}
}

// Status is an account's index as it is shown.
type Status struct {
	Account model.AccountID
	Count
	State string // Ready, Building, Waiting or Faulty
	Fault string
	Size  int64 // octets on disk
}

// States of an index.
const (
	Ready    = "up to date"
	Building = "indexing"
	Waiting  = "waiting"
	Faulty   = "failed"
)

// Status gives the index of every account that has one, or is to have one.
func (ix *Index) Status() []Status {
	var out []Status
	for _, u := range ix.all() {
		out = append(out, ix.statusOf(u))
	}
	return out
}

func (ix *Index) statusOf(u *user) Status {
	s := Status{Account: u.id, Count: u.getCount(), State: Ready}
	ix.mu.Lock()
	_, waits := ix.queue[u.id]
	fault, failed := ix.faults[u.id]
	switch {
	case ix.busy == u.id:
		s.State = Building
	case failed:
		s.State, s.Fault = Faulty, fault
	case waits || !s.Known:
		s.State = Waiting
	}
	ix.mu.Unlock()
	for _, suffix := range []string{"", "-wal"} {
		if st, err := os.Stat(u.path + suffix); err == nil {
			s.Size += st.Size()
		}
	}
	return s
}

// Reindex builds the indexes of accounts anew and waits until they are up to date. tell is told how
// many of how many messages are done; nil accounts: all.
func (ix *Index) Reindex(ctx context.Context, accounts []model.AccountID, tell func(done, total int64)) error {
	if accounts == nil {
		for _, u := range ix.all() {
			accounts = append(accounts, u.id)
		}
	}
	ix.mu.Lock()
	for _, id := range accounts {
		if u := ix.users[id]; u != nil {
			ix.queue[id] = true
			delete(ix.faults, id)
			u.setCount(func(c *Count) { c.Indexed, c.Known = 0, false })
		}
	}
	ix.mu.Unlock()
	ix.wake()
	for {
		ix.mu.Lock()
		moved := ix.moved
		ix.mu.Unlock()
		var done, total int64
		left, fault := 0, error(nil)
		for _, id := range accounts {
			u := ix.lookup(id)
			if u == nil {
				continue // switched off meanwhile
			}
			s := ix.statusOf(u)
			done, total = done+s.Indexed+s.Skipped, total+s.Messages
			switch s.State {
			case Faulty:
				fault = fmt.Errorf("the index of account %d: %s", id, s.Fault)
			case Building, Waiting:
				left++
			}
		}
		tell(done, total)
		if left == 0 {
			return fault
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
	}
}
