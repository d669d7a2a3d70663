package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
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
	db       *pebble.DB
	dir      string
	log      *slog.Logger
	applied  atomic.Uint64
	forced   atomic.Uint64 // forced epoch in force: mailboxes skip ahead at their first change
	bus      *bus
	settings settingsCache
	rows     atomic.Uint64 // index of the last entry with Rows

	applyMu   sync.Mutex
	work      apply
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
}

// maxCachedMailboxes bounds the rows kept in memory for Apply.
const maxCachedMailboxes = 20_000

// Open opens or makes the database in o.Dir.
func Open(o Options) (*State, error) {
	s := &State{
		dir: o.Dir, log: o.Logger, node: o.Node, now: o.Now, bus: newBus(),
		mailboxes: map[model.MailboxID]*model.Mailbox{},
	}
	s.inboxes = map[model.AccountID]model.MailboxID{}
	s.work.mailboxes = map[model.MailboxID]*model.Mailbox{}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Cache == 0 {
		o.Cache = 32 << 20
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	cache := pebble.NewCache(o.Cache)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache:              cache,
		DisableWAL:         true,
		Merger:             refMerger,
		MemTableSize:       16 << 20,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLogger{s.log},
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(o.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("state: open %s: %w", o.Dir, err)
	}
	s.db = db
	if err := s.load(); err != nil {
		db.Close()
		return nil, err
	}
	s.seq.Store(uint64(s.now().UnixNano()))
	return s, nil
}

// load reads what is kept in memory and checks the format.
func (s *State) load() error {
	number := func(key []byte) (uint64, error) {
		v, err := getCopy(s.db, key)
		if err != nil || len(v) != 8 {
			return 0, err
		}
		return binary.BigEndian.Uint64(v), nil
	}
	applied, err := number(keyApplied)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	format, err := number(keyFormat)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	switch {
	case format > Format:
		return fmt.Errorf("state: %s has format %d, this program knows %d: %w; start the newer mailplusd, or restore a backup", s.dir, format, Format, ErrNewer)
	case format == 0:
		if err := s.db.Set(keyFormat, be64(nil, Format), pebble.NoSync); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	forced, err := number(keyEpoch)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	s.applied.Store(applied)
	s.forced.Store(forced)
	return nil
}

// SetProposer introduces the replicated log. It must be called before the first Propose.
func (s *State) SetProposer(p Proposer) { s.proposer = p }

// Applied is the index of the last applied entry.
func (s *State) Applied() uint64 { return s.applied.Load() }

// Flush makes everything applied durable.
func (s *State) Flush() error { return s.db.Flush() }

// Checkpoint writes a copy to dir, which must not exist, by hard links.
func (s *State) Checkpoint(dir string) error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.db.Checkpoint(dir)
}

// Restore replaces the state by the checkpoint in dir, which it takes over.
func (s *State) Restore(dir string) error {
	return errors.New("state: restore of a checkpoint needs a restart: stop, and put " + dir + " in place of " + filepath.Base(s.dir))
}

// Close flushes and closes the database.
func (s *State) Close() error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	err := s.db.Flush()
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	return err
}

// settingsAllowed refuses settings on a node that is not their owner.
func (s *State) settingsAllowed(a *apply) error {
	v, err := a.get(keyOwner)
	if err != nil {
		return err
	}
	if len(v) == 8 && a.entry.Epoch != 0 && binary.BigEndian.Uint64(v) != a.entry.Epoch {
		return ErrReadOnly
	}
	return nil
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

// opID names the next entry of this node.
func (s *State) opID() (id OpID) {
	binary.BigEndian.PutUint16(id[:], s.node)
	binary.BigEndian.PutUint64(id[8:], s.seq.Add(1))
	return id
}

// clock gives the entry's time: the wall clock, but never going back.
func (s *State) clock() int64 {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	if t := s.now().UnixNano(); t > s.lastTime {
		s.lastTime = t
	} else {
		s.lastTime++
	}
	return s.lastTime
}

// Do proposes operations as one entry and waits until they are applied here. Each
// result is decoded into the value of the same place in out; nil skips it. The error
// is a refusal of this package, or the proposer's.
func (s *State) Do(ctx context.Context, ops []Operation, out ...any) error {
	e := Entry{ID: s.opID(), Time: s.clock(), Ops: make([]Op, 0, len(ops))}
	for _, op := range ops {
		o, err := NewOp(op)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		e.Ops = append(e.Ops, o)
	}
	data, err := EncodeEntry(&e)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	raw, _, err := s.proposer.Propose(ctx, data)
	if err != nil {
		return err
	}
	return decodeResult(raw, out)
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
