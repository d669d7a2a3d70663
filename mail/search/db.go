package search

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"modernc.org/sqlite"
)

// version is the form of the index: of tables, tokens and of message.Words and message.Fold behind
// them. Raise it with any of them: indexes of another version are built anew.
const version = 3

// errDamaged says that an index can't be used and must be built anew.
var errDamaged = errors.New("search: the index is damaged or of another version")

const kind = "mailplusd search index"

var schema = []string{
	`CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)`,
	`CREATE TABLE doc (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL UNIQUE, refs INTEGER NOT NULL)`,
	`CREATE TABLE box (id INTEGER PRIMARY KEY, guid BLOB NOT NULL, modseq INTEGER NOT NULL)`,
	`CREATE TABLE place (box INTEGER NOT NULL, chunk INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (box, chunk)) WITHOUT ROWID`,
	`CREATE TABLE word (w BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE dict (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, words BLOB NOT NULL)`,
	`CREATE TABLE seq (id INTEGER PRIMARY KEY, words BLOB NOT NULL)`,
	// The octets of tokens count as they are: all printable ASCII and everything above makes tokens,
	// and what is inserted is folded already.
	`CREATE VIRTUAL TABLE fts USING fts5(subject, sender, recipient, cc, bcc, other, body, content='', contentless_delete=1, detail=column, ` +
		`tokenize="ascii tokenchars '` + strings.NewReplacer(`'`, `''`, `"`, `""`).Replace(asciiPuncts) + `'")`,
}

// openFile opens an index, or makes an empty one; errDamaged when it can't be used.
//
// Commits are not synced to disk, only checkpoints of the write-ahead log are: a loss of power may
// lose the last commits, which is no harm, but can't damage the database.
func openFile(path string, cjk bool) (*sql.DB, error) {
	_, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=cache_size(-4096)&_pragma=journal_size_limit(8388608)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	if fresh {
		err = create(db, cjk)
	} else {
		err = check(db, cjk)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

func create(db *sql.DB, cjk bool) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range schema {
		if _, err := tx.Exec(s); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`INSERT INTO about VALUES ('kind', ?), ('form', ?)`, kind, form(cjk)); err != nil {
		return err
	}
	return tx.Commit()
}

// form is what has to agree for an index to be used.
func form(cjk bool) string { return fmt.Sprintf("%d cjk=%t", version, cjk) }

func check(db *sql.DB, cjk bool) error {
	var k, f string
	err := db.QueryRow(`SELECT (SELECT value FROM about WHERE key = 'kind'), (SELECT value FROM about WHERE key = 'form')`).Scan(&k, &f)
	if err != nil {
		if isFull(err) {
			return err
		}
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if k != kind || f != form(cjk) {
		return fmt.Errorf("%w: it has form %q, this mailplusd makes %q", errDamaged, f, form(cjk))
	}
	return nil
}

// Result codes of SQLite that matter here.
const (
	sqliteError   = 1
	sqliteCorrupt = 11
	sqliteFull    = 13
	sqliteNotADB  = 26
)

func codeOf(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isDamage tells whether an error says that the index is not whole.
func isDamage(err error) bool {
	c := codeOf(err)
	return c == sqliteCorrupt || c == sqliteNotADB || errors.Is(err, errDamaged) || errors.Is(err, errPlaces) ||
		c == sqliteError && strings.Contains(err.Error(), "no such ") // table, column
}

func isFull(err error) bool { return codeOf(err) == sqliteFull }

// removeFile removes an index with its log.
func removeFile(path string) error {
	var all error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}
