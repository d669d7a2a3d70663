package maillog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Limits of one Batch.
const (
	maxBatch       = 2000
	maxBatchOctets = 512 << 10
)

// Batch is a piece of a node's own log for the other node, oldest first.
type Batch struct {
	Log    string  // names the database: a new one counts from the beginning
	Events []Event // with IDs that grow
}

// Own gives this node's own events after an ID, some of them when there are many. The log must
// be the one that ID is of; otherwise it begins at the beginning.
func (l *Log) Own(ctx context.Context, log string, after int64) (Batch, error) {
	b := Batch{Log: l.id}
	if log != l.id {
		after = 0
	}
	l.Sync()
	rows, err := l.db.QueryContext(ctx, `SELECT `+columns+` FROM event WHERE id > ? AND node = '' ORDER BY id LIMIT ?`, after, maxBatch)
	if err != nil {
		return b, err
	}
	defer rows.Close()
	for octets := 0; octets < maxBatchOctets && rows.Next(); {
		var e Event
		if err := e.scan(rows); err != nil {
			return b, err
		}
		octets += 128 + len(e.MessageID) + len(e.Sender) + len(e.Recipient) + len(e.Subject) + len(e.Reason)
		b.Events = append(b.Events, e)
	}
	return b, rows.Err()
}

// Position tells up to where a node's log has been taken over.
func (l *Log) Position(node string) (log string, after int64, err error) {
	err = l.db.QueryRow(`SELECT log, last FROM peer WHERE node = ?`, node).Scan(&log, &after)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return log, after, err
}

// Take stores a piece of another node's log under its name, each event once.
func (l *Log) Take(node string, b Batch) error {
	if node == "" || b.Log == "" {
		return errors.New("mail log: a piece of a log without a name")
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	log, last, err := l.Position(node)
	if err != nil {
		return err
	}
	if log != b.Log {
		last = 0
	}
	fresh := b.Events[:0:0]
	for _, e := range b.Events {
		if e.ID > last {
			last, e.Node = e.ID, node
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 && log == b.Log {
		return nil
	}
	err = l.insert(fresh, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO peer VALUES (?,?,?) ON CONFLICT (node) DO UPDATE SET log = excluded.log, last = excluded.last`, node, b.Log, last)
		return err
	})
	if err == nil {
		l.tell(fresh)
	}
	return err
}

// upgrade brings a database from an older version to this one: version 1 knew one node only, version
// 2 nothing of TLS. Each step is stored whole or not at all.
func upgrade(db *sql.DB, from int) error {
	for v := from; v < schemaVersion; v++ {
		column := []string{1: "node", 2: "tls"}[v]
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		_, err = tx.Exec(`ALTER TABLE event ADD COLUMN ` + column + ` TEXT NOT NULL DEFAULT ''`)
		if err == nil {
			_, err = tx.Exec(`UPDATE about SET value = ? WHERE key = 'version'`, fmt.Sprint(v+1))
		}
		if err = errors.Join(err, tx.Commit()); err != nil {
			return err
		}
	}
	return nil
}

// scan reads the columns of an event.
func (e *Event) scan(rows *sql.Rows) error {
	var at int64
	err := rows.Scan(&e.ID, &at, &e.Type, &e.TraceID, &e.MessageID, &e.Sender, &e.Recipient, &e.Subject, &e.Size, &e.Status, &e.ClientIP, &e.Remote, &e.Code, &e.Reason, &e.Node, &e.TLS)
	e.Time = time.Unix(0, at)
	return err
}

const columns = `id,time,type,trace,message_id,sender,recipient,subject,size,status,client,remote,code,reason,node,tls`

// Pull is how the other node's log comes here.
type Pull func(ctx context.Context) error

// SetPull says how to bring what the other node has logged here; nil: there is no other node.
func (l *Log) SetPull(p Pull) { l.pull.Store(&p) }

// Refresh brings what the other node has logged up to now here. An error says that its latest
// lines may be missing.
func (l *Log) Refresh(ctx context.Context) error {
	p := l.pull.Load()
	if p == nil || *p == nil {
		return nil
	}
	if err := (*p)(ctx); err != nil {
		return fmt.Errorf("the other node's latest lines may be missing: %w", err)
	}
	return nil
}
