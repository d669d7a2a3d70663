// Package maillog keeps what happened to messages: one Event per decision, in a SQLite
// database of this node. In a pair each node also keeps what the other one has logged, so that
// either shows everything, and the log outlives a node. Emit never holds up mail; the writer takes what has gathered in one
// transaction. The database is a ring: the oldest rows go (I.64).
package maillog

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // driver
)

// Statuses of the mail log (R10.71). Resent is known to filters and never written (R10.78).
const (
	Received = "received"
	Sent     = "sent"
	Resent   = "resent"
	Bounced  = "bounced"
)

// Types of events that are not lines of the mail log.
const (
	Rejected = "rejected"
	Deferred = "deferred"
	Held     = "held" // in the queue, by a rule
)

// Event is one decision about one message.
type Event struct {
	ID        int64     `json:"id"`
	Time      time.Time `json:"time"`
	Type      string    `json:"type"`
	TraceID   string    `json:"trace_id"`
	MessageID string    `json:"message_id"`
	Sender    string    `json:"sender"`
	Recipient string    `json:"recipient"`
	Subject   string    `json:"subject"`
	Size      int64     `json:"size"`
	Status    string    `json:"status"` // one of the four; empty for other events
	ClientIP  string    `json:"client"`
	Remote    string    `json:"remote"` // host that took or refused it
	Code      int       `json:"code"`
	Reason    string    `json:"reason"`
	TLS       string    `json:"tls"`  // of mail to other servers: how it was protected, TLS version and cipher
	Node      string    `json:"node"` // whose log it comes from; empty: this node's own
}

// Emitter takes events.
type Emitter interface{ Emit(Event) }

// Options of Open.
type Options struct {
	Path    string
	MaxRows int64 // 0: 4,000,000
	Logger  *slog.Logger
}

// Log is the mail log of one node.
type Log struct {
	o       Options
	db      *sql.DB
	in      chan Event
	flush   chan chan struct{}
	done    chan struct{}
	wg      sync.WaitGroup
	dropped atomic.Int64
	mu      sync.Mutex
	follow  map[chan Event]struct{}
	counts  map[string]int64

	id      string     // names the database (Batch.Log)
	version int        // of a file that is only read and left as it is; 0: today's
	writing sync.Mutex // one transaction that writes at a time
	pull    atomic.Pointer[Pull]
}

const schemaVersion = 3

const schema = `
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, trace TEXT NOT NULL, message_id TEXT NOT NULL,
  sender TEXT NOT NULL, recipient TEXT NOT NULL, subject TEXT NOT NULL, size INTEGER NOT NULL, status TEXT NOT NULL,
  client TEXT NOT NULL, remote TEXT NOT NULL, code INTEGER NOT NULL, reason TEXT NOT NULL, node TEXT NOT NULL DEFAULT '', tls TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS event_time ON event(time);
CREATE INDEX IF NOT EXISTS event_sender ON event(sender);
CREATE INDEX IF NOT EXISTS event_recipient ON event(recipient);
CREATE INDEX IF NOT EXISTS event_message ON event(message_id);
CREATE INDEX IF NOT EXISTS event_trace ON event(trace);
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS peer (node TEXT PRIMARY KEY, log TEXT NOT NULL, last INTEGER NOT NULL);
`

// Open opens or makes the database.
func Open(o Options) (*Log, error) {
	if o.MaxRows == 0 {
		o.MaxRows = 4_000_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	db, err := openDB("file:" + o.Path + "?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(schema); err != nil {
		db.Close()
		return nil, fmt.Errorf("mail log %s: %w", o.Path, err)
	}
	if err := checkVersion(db, o.Path); err != nil {
		db.Close()
		return nil, err
	}
	var id string
	if err := db.QueryRow(`SELECT value FROM about WHERE key='id'`).Scan(&id); err != nil {
		db.Close()
		return nil, fmt.Errorf("mail log %s: %w", o.Path, err)
	}
	l := &Log{o: o, db: db, id: id, in: make(chan Event, 65536), flush: make(chan chan struct{}), done: make(chan struct{}), follow: map[chan Event]struct{}{}, counts: map[string]int64{}}
	l.wg.Add(1)
	go l.write()
	return l, nil
}

func openDB(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

func checkVersion(db *sql.DB, path string) error {
	if _, err := db.Exec(`INSERT OR IGNORE INTO about VALUES ('kind','mailplusd mail log'),('version',?),('id',lower(hex(randomblob(8))))`, fmt.Sprint(schemaVersion)); err != nil {
		return fmt.Errorf("mail log %s: %w", path, err)
	}
	var v int
	if err := db.QueryRow(`SELECT value FROM about WHERE key='version'`).Scan(&v); err != nil {
		return fmt.Errorf("mail log %s: %w", path, err)
	}
	if v > schemaVersion {
		return fmt.Errorf("mail log %s has version %d, this mailplusd knows %d: it was written by a newer version", path, v, schemaVersion)
	}
	if v < schemaVersion {
		if err := upgrade(db, v); err != nil {
			return fmt.Errorf("mail log %s: %w", path, err)
		}
	}
	return nil
}

// OpenFile opens another database for reading, after a check that it is one and whole.
func OpenFile(path string) (*Log, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := openDB("file:" + path + "?mode=ro")
	if err != nil {
		return nil, err
	}
	var kind, ok string
	var version int
	err = db.QueryRow(`SELECT value FROM about WHERE key='kind'`).Scan(&kind)
	if err == nil {
		err = db.QueryRow(`SELECT value FROM about WHERE key='version'`).Scan(&version)
	}
	if err == nil {
		err = db.QueryRow(`PRAGMA quick_check(1)`).Scan(&ok)
	}
	if err != nil || kind != "mailplusd mail log" || ok != "ok" {
		db.Close()
		return nil, fmt.Errorf("%s is no mail log database, or a damaged one", path)
	}
	return &Log{db: db, version: version, done: make(chan struct{}), follow: map[chan Event]struct{}{}}, nil
}

// Emit takes an event and returns at once. When the writer can't keep up, events are
// dropped and counted.
func (l *Log) Emit(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case l.in <- e:
	default:
		l.dropped.Add(1)
	}
}

// write stores events in batches.
func (l *Log) write() {
	defer l.wg.Done()
	for {
		var batch []Event
		var ack chan struct{}
		select {
		case e := <-l.in:
			batch = append(batch, e)
		case ack = <-l.flush:
		case <-l.done:
			l.store(l.drain(nil))
			return
		}
		l.store(l.drain(batch))
		if ack != nil {
			close(ack)
		}
	}
}

func (l *Log) drain(batch []Event) []Event {
	for len(batch) < 5000 {
		select {
		case e := <-l.in:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

func (l *Log) store(batch []Event) {
	if n := l.dropped.Swap(0); n > 0 {
		l.o.Logger.Warn("mail log could not keep up", "dropped", n)
	}
	if len(batch) == 0 {
		return
	}
	l.writing.Lock()
	err := l.insert(batch, nil)
	l.writing.Unlock()
	if err != nil {
		l.o.Logger.Error("mail log not written", "events", len(batch), "err", err)
	}
	l.mu.Lock()
	for _, e := range batch {
		l.counts[e.Type]++
	}
	l.mu.Unlock()
	l.tell(batch)
}

// tell gives events to those who follow.
func (l *Log) tell(batch []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range batch {
		for ch := range l.follow {
			select {
			case ch <- e:
			default: // a follower that doesn't read misses lines, nobody waits for it
			}
		}
	}
}

// insert stores events, and what also adds, in one transaction.
func (l *Log) insert(batch []Event, also func(*sql.Tx) error) error {
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	st, err := tx.Prepare(`INSERT INTO event(time,type,trace,message_id,sender,recipient,subject,size,status,client,remote,code,reason,node,tls) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`)
	if err != nil {
		return err
	}
	var last int64
	for _, e := range batch {
		res, err := st.Exec(e.Time.UnixNano(), e.Type, e.TraceID, e.MessageID, e.Sender, e.Recipient, e.Subject, e.Size, e.Status, e.ClientIP, e.Remote, e.Code, e.Reason, e.Node, e.TLS)
		if err != nil {
			return err
		}
		last, _ = res.LastInsertId()
	}
	if also != nil {
		if err := also(tx); err != nil {
			return err
		}
	}
	if last%1000 < int64(len(batch)) {
		if _, err := tx.Exec(`DELETE FROM event WHERE id <= ?`, last-l.o.MaxRows); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Sync waits until everything emitted so far is in the database.
func (l *Log) Sync() {
	if l.flush == nil {
		return
	}
	ack := make(chan struct{})
	select {
	case l.flush <- ack:
		<-ack
	case <-l.done:
	}
}

// Counts gives the number of events of each type since the start.
func (l *Log) Counts() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int64{}
	for k, v := range l.counts {
		out[k] = v
	}
	return out
}

// Close stores what was emitted and closes the database.
func (l *Log) Close() error {
	select {
	case <-l.done:
		return nil
	default:
		close(l.done)
	}
	l.wg.Wait()
	return l.db.Close()
}

// Filter says which events are wanted. Texts match as parts, in any letter case.
type Filter struct {
	Since, Until                               time.Time
	Sender, Recipient, Subject, MessageID, Any string
	Trace, Status, Type                        string
	All                                        bool // other events too, not only lines of the mail log
	Limit                                      int  // 0: 100
	OldestFirst                                bool
}

// Query gives matching events, the newest first.
func (l *Log) Query(ctx context.Context, f Filter) ([]Event, error) {
	l.Sync()
	where, args := f.where()
	if f.Limit <= 0 {
		f.Limit = 100
	}
	order := "DESC"
	if f.OldestFirst {
		order = "ASC"
	}
	cols := columns
	if l.version == 1 {
		cols = strings.Replace(cols, ",node", ",''", 1)
	}
	if l.version == 1 || l.version == 2 {
		cols = strings.Replace(cols, ",tls", ",''", 1)
	}
	rows, err := l.db.QueryContext(ctx, `SELECT `+cols+` FROM event`+where+` ORDER BY time `+order+`, id `+order+` LIMIT ?`, append(args, f.Limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Event
	for rows.Next() {
		var e Event
		if err := e.scan(rows); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

func (f *Filter) where() (string, []any) {
	var conds []string
	var args []any
	add := func(cond string, a ...any) { conds, args = append(conds, cond), append(args, a...) }
	part := func(col, v string) {
		if v != "" {
			add(col+` LIKE ? ESCAPE '\'`, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(v)+"%")
		}
	}
	if !f.Since.IsZero() {
		add("time >= ?", f.Since.UnixNano())
	}
	if !f.Until.IsZero() {
		add("time < ?", f.Until.UnixNano())
	}
	part("sender", f.Sender)
	part("recipient", f.Recipient)
	part("subject", f.Subject)
	part("message_id", f.MessageID)
	if f.Any != "" {
		like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Any) + "%"
		add(`(sender LIKE ? ESCAPE '\' OR recipient LIKE ? ESCAPE '\' OR subject LIKE ? ESCAPE '\' OR message_id LIKE ? ESCAPE '\')`, like, like, like, like)
	}
	if f.Trace != "" {
		add("trace = ?", f.Trace)
	}
	if f.Status != "" {
		add("status = ?", f.Status)
	} else if !f.All && f.Type == "" {
		add("status <> ''")
	}
	if f.Type != "" {
		add("type = ?", f.Type)
	}
	if len(conds) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(conds, " AND "), args
}

// Follow gives matching events as they happen, until the context ends.
func (l *Log) Follow(ctx context.Context, f Filter, fn func(Event) error) error {
	ch := make(chan Event, 1000)
	l.mu.Lock()
	l.follow[ch] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.follow, ch)
		l.mu.Unlock()
	}()
	for {
		select {
		case e := <-ch:
			if f.match(&e) {
				if err := fn(e); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
			return nil
		}
	}
}

func (f *Filter) match(e *Event) bool {
	has := func(s, part string) bool {
		return part == "" || strings.Contains(strings.ToLower(s), strings.ToLower(part))
	}
	switch {
	case f.Status != "" && f.Status != e.Status, f.Type != "" && f.Type != e.Type, f.Trace != "" && f.Trace != e.TraceID:
		return false
	case !f.All && f.Status == "" && f.Type == "" && e.Status == "":
		return false
	}
	return has(e.Sender, f.Sender) && has(e.Recipient, f.Recipient) && has(e.Subject, f.Subject) && has(e.MessageID, f.MessageID) &&
		has(e.Sender+"\n"+e.Recipient+"\n"+e.Subject+"\n"+e.MessageID, f.Any)
}

// WriteCSV writes events as CSV with a header line.
func WriteCSV(w io.Writer, events []Event) error {
	cw := csv.NewWriter(w)
	err := cw.Write([]string{"message_id", "time", "sender", "recipient", "subject", "size", "status"})
	for _, e := range events {
		err = errors.Join(err, cw.Write([]string{e.MessageID, e.Time.Format(time.RFC3339), e.Sender, e.Recipient, e.Subject, fmt.Sprint(e.Size), e.Status}))
	}
	cw.Flush()
	return errors.Join(err, cw.Error())
}
