package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of the database's layout. A database of a higher version is
// refused; a lower one is brought up by a step in Open.
const Format = 1

// Proposer brings an entry into the replicated log and waits until this node has
// applied it. The result is what Apply gave.
type Proposer interface {
	Propose(ctx context.Context, entry []byte) (result []byte, index uint64, err error)
}

// State is the replicated state of one node.
type State struct {
	db         atomic.Pointer[handle]
	dir        string
	cacheSize  int64
	fs         vfs.FS
	log        *slog.Logger
	onFault    func(error)
	applied    atomic.Uint64
	appliedAt  atomic.Int64 // time of the newest applied entry
	regime     atomic.Pointer[Regime]
	generation atomic.Uint64
	bus        *bus
	due        dueFeed
	settings   settingsCache
	rows       atomic.Uint64  // rises with every entry that has Rows, and with Restore
	wg         sync.WaitGroup // closing of replaced databases

	applyMu   sync.Mutex
	work      apply
	once      onceWindow // under applyMu
	cacheMu   sync.Mutex
	mailboxes map[model.MailboxID]*model.Mailbox
	inboxes   map[model.AccountID]model.MailboxID // under applyMu: INBOX never changes its ID

	proposer Proposer
	node     uint16
	seq      atomic.Uint64
	clockMu  sync.Mutex
	lastTime int64
	now      func() time.Time
}

// Options of Open.
type Options struct {
	Dir    string
	Node   uint16 // number of this node in the pair: part of every OpID
	Logger *slog.Logger
	Cache  int64            // octets of pebble's block cache; 0: 32 MiB
	Now    func() time.Time // nil: time.Now

	// OnFault is told of each write that has failed. A full disk is tried again until there is room, after
	// anything else nobody knows what is on the disk. nil: it is only logged.
	OnFault func(error)
	// NoRoom is called before a write that found no room is tried again: it may make some.
	NoRoom func()

	fs vfs.FS // of tests that need no disk; nil: the disk
}

// maxCachedMailboxes bounds the rows kept in memory for Apply.
const maxCachedMailboxes = 20_000

// Open opens or makes the database in o.Dir.
func Open(o Options) (*State, error) {
	s := &State{
		dir: o.Dir, cacheSize: o.Cache, fs: o.fs, log: o.Logger, onFault: o.OnFault, node: o.Node, now: o.Now, bus: newBus(),
		mailboxes: map[model.MailboxID]*model.Mailbox{},
	}
	s.inboxes = map[model.AccountID]model.MailboxID{}
	s.work.mailboxes = map[model.MailboxID]*model.Mailbox{}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.NoRoom != nil {
		if s.fs == nil {
			s.fs = vfs.Default
		}
		s.fs = vfs.OnDiskFull(s.fs, o.NoRoom)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.cacheSize == 0 {
		s.cacheSize = 32 << 20
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	dir, err := active(o.Dir)
	if err == nil {
		err = s.tidy(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	h, err := s.openDB(dir, dir == o.Dir)
	if err != nil {
		return nil, err
	}
	f, err := s.readFacts(h)
	if err == nil && !f.formatted {
		err = h.db.Set(keyFormat, be64(nil, Format), pebble.NoSync)
	}
	if err != nil {
		h.db.Close()
		return nil, err
	}
	s.db.Store(h)
	s.adoptFacts(f)
	s.seq.Store(uint64(s.now().UnixNano()))
	return s, nil
}

// facts is what is kept in memory of a database.
type facts struct {
	formatted bool
	applied   uint64
	at        int64
	regime    *Regime
	once      onceWindow
}

// readFacts reads them and checks the format.
func (s *State) readFacts(r pebble.Reader) (f facts, err error) {
	fail := func(err error) (facts, error) { return facts{}, fmt.Errorf("state: %w", err) }
	v, err := getCopy(r, keyApplied)
	if err != nil {
		return fail(err)
	}
	if len(v) >= 8 {
		f.applied = binary.BigEndian.Uint64(v)
	}
	if v, err = getCopy(r, keyFormat); err != nil {
		return fail(err)
	}
	if f.formatted = len(v) == 8; f.formatted {
		if format := binary.BigEndian.Uint64(v); format > Format {
			return facts{}, fmt.Errorf("state: %s has format %d, this program knows %d: %w; start the newer mailplusd, or restore a backup", s.dir, format, Format, ErrNewer)
		}
	}
	if f.regime, err = readRegime(r); err != nil {
		return fail(err)
	}
	if f.regime != nil && f.regime.Level > FeatureLevel {
		return facts{}, fmt.Errorf("state: %s is used at feature level %d, this program knows %d: %w; start the newer mailplusd", s.dir, f.regime.Level, FeatureLevel, ErrNewer)
	}
	if f.once, err = readOnce(r); err != nil {
		return fail(err)
	}
	f.at = f.once.Newest
	return f, nil
}

func (s *State) adoptFacts(f facts) {
	s.applied.Store(f.applied)
	s.appliedAt.Store(f.at)
	s.regime.Store(f.regime)
	s.once = f.once
}

// SetProposer introduces the replicated log. It must be called before the first Propose.
func (s *State) SetProposer(p Proposer) { s.proposer = p }

// Applied is the index of the last applied entry.
func (s *State) Applied() uint64 { return s.applied.Load() }

// Flush makes everything applied durable.
func (s *State) Flush() error {
	h := s.acquire()
	defer h.release()
	if h.db == nil {
		return ErrClosed
	}
	return h.db.Flush()
}

// Checkpoint writes a copy to dir, which must not exist, by hard links.
func (s *State) Checkpoint(dir string) error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	h := s.acquire()
	defer h.release()
	if h.db == nil {
		return ErrClosed
	}
	if err := h.db.Flush(); err != nil {
		return err
	}
	return h.db.Checkpoint(dir)
}

// maxClose bounds how long Close waits for readers.
const maxClose = 10 * time.Second

// Close flushes and closes the database when the last reader is done; afterwards every call
// answers ErrClosed.
func (s *State) Close() error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	h := s.db.Swap(closedHandle)
	if h.db == nil {
		return nil
	}
	err := h.db.Flush()
	h.release()
	done := make(chan struct{})
	go func() { // ends with the last reader, at the latest with the process
		<-h.done
		if cerr := h.db.Close(); err == nil {
			err = cerr
		}
		s.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(maxClose)
	defer t.Stop()
	select {
	case <-done:
		return err
	case <-t.C:
		return errors.New("state: somebody still reads; closed without waiting for him")
	}
}

func (s *State) loadMailbox(r pebble.Reader, id model.MailboxID) (*model.Mailbox, error) {
	s.cacheMu.Lock()
	m := s.mailboxes[id]
	s.cacheMu.Unlock()
	if m != nil {
		cp := *m
		return &cp, nil
	}
	v, closer, err := r.Get(mailboxKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	m = new(model.Mailbox)
	return m, decMode.Unmarshal(v, m)
}

func (s *State) cacheMailbox(id model.MailboxID, m *model.Mailbox) {
	s.cacheMu.Lock()
	defer s.cacheMu.Unlock()
	if m == nil {
		delete(s.mailboxes, id)
		return
	}
	if len(s.mailboxes) >= maxCachedMailboxes {
		clear(s.mailboxes)
	}
	s.mailboxes[id] = m
}

func decodeResult(raw []byte, out []any) error {
	var res result
	if err := decMode.Unmarshal(raw, &res); err != nil {
		return fmt.Errorf("state: result: %w", err)
	}
	if res.Code != "" {
		return errorOf(res.Code, res.Text)
	}
	for i, o := range out {
		if o == nil || i >= len(res.Ops) {
			continue
		}
		if err := decMode.Unmarshal(res.Ops[i], o); err != nil {
			return fmt.Errorf("state: result %d: %w", i, err)
		}
	}
	return nil
}

// pebbleLogger sends pebble's words to slog: errors only, the rest at debug.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(f string, a ...any)  { l.log.Debug("pebble: " + fmt.Sprintf(f, a...)) }
func (l pebbleLogger) Errorf(f string, a ...any) { l.log.Error("pebble: " + fmt.Sprintf(f, a...)) }
func (l pebbleLogger) Fatalf(f string, a ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(f, a...))
	os.Exit(1)
}
