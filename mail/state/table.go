package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"

	"github.com/cockroachdb/pebble/v2"
)

// Table is a table of rows of one noun. tables.go names every one.
type Table[T any] struct {
	ID      byte   // part of the key: never reuse
	Name    string // for messages and exports
	Key     func(*T) string
	Indexes []Index[T]
	Class   RowClass
}

// Index finds rows by something else than their key.
type Index[T any] struct {
	ID     byte
	Values func(*T) []string // the values under which a row is found
	Unique bool              // a value belongs to one row
}

// Reader is anything that rows can be read from: the State itself or a Tx.
type Reader interface {
	// open gives what to read from, and what to release afterwards.
	open() (pebble.Reader, *handle)
	read(key []byte, version uint64)
}

func (s *State) open() (pebble.Reader, *handle) {
	h := s.acquire()
	return h, h
}
func (s *State) read([]byte, uint64) {}

func (t *Table[T]) rowKey(key string) []byte {
	return append([]byte{spaceRow, t.ID}, key...)
}

func (t *Table[T]) indexKey(ix *Index[T], value, key string) []byte {
	b := append([]byte{spaceIndex, t.ID, ix.ID}, value...)
	b = append(b, 0)
	if ix.Unique {
		return b
	}
	return append(b, key...)
}

// Get reads a row; ErrNotFound when there is none.
func (t *Table[T]) Get(r Reader, key string) (*T, error) {
	rd, h := r.open()
	defer h.release()
	v, err := getCopy(rd, t.rowKey(key))
	if err != nil {
		return nil, err
	}
	row, version, err := t.decode(v)
	r.read(t.rowKey(key), version)
	return row, err
}

func (t *Table[T]) decode(v []byte) (*T, uint64, error) {
	if len(v) < 8 {
		return nil, 0, ErrNotFound
	}
	row := new(T)
	if err := decMode.Unmarshal(v[8:], row); err != nil {
		return nil, 0, fmt.Errorf("table %s: %w", t.Name, err)
	}
	return row, binary.BigEndian.Uint64(v), nil
}

// Has tells whether there is a row under key.
func (t *Table[T]) Has(r Reader, key string) (bool, error) {
	_, err := t.Get(r, key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// All gives the rows whose key starts with prefix, in the order of their keys. In a
// transaction it also makes sure that the table doesn't change meanwhile.
func (t *Table[T]) All(r Reader, prefix string) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		t.noteTable(r)
		lower := t.rowKey(prefix)
		rd, h := r.open()
		defer h.release()
		it, err := rd.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			row, _, err := t.decode(it.Value())
			if !yield(row, err) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}

// Back gives every row, the one with the highest key first.
func (t *Table[T]) Back(r Reader) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		t.noteTable(r)
		lower := t.rowKey("")
		rd, h := r.open()
		defer h.release()
		it, err := rd.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
		if err != nil {
			yield(nil, err)
			return
		}
		defer it.Close()
		for it.Last(); it.Valid(); it.Prev() {
			row, _, err := t.decode(it.Value())
			if !yield(row, err) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(nil, err)
		}
	}
}

// List gathers All.
func (t *Table[T]) List(r Reader, prefix string) ([]*T, error) {
	var out []*T
	for row, err := range t.All(r, prefix) {
		if err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}

func (t *Table[T]) noteTable(r Reader) {
	key := []byte{spaceTableV, t.ID}
	rd, h := r.open()
	defer h.release()
	if v, err := getCopy(rd, key); err == nil {
		r.read(key, number(v))
	}
}

// Find gives the rows with a value in an index.
func (t *Table[T]) Find(r Reader, index byte, value string) ([]*T, error) {
	ix := t.index(index)
	prefix := t.indexKey(ix, value, "")
	var keys []string
	rd, h := r.open()
	defer h.release()
	if ix.Unique {
		v, err := getCopy(rd, prefix)
		if err != nil {
			return nil, err
		}
		r.read(prefix, 0) // unique values are compared by the row they lead to
		if v != nil {
			keys = append(keys, string(v))
		}
	} else {
		t.noteTable(r)
		it, err := rd.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
		if err != nil {
			return nil, err
		}
		for it.First(); it.Valid(); it.Next() {
			keys = append(keys, string(bytes.TrimPrefix(it.Key(), prefix)))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return nil, err
		}
	}
	out := make([]*T, 0, len(keys))
	for _, k := range keys {
		row, err := t.Get(r, k)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}

func (t *Table[T]) index(id byte) *Index[T] {
	for i := range t.Indexes {
		if t.Indexes[i].ID == id {
			return &t.Indexes[i]
		}
	}
	panic(fmt.Sprintf("table %s has no index %d", t.Name, id)) // a programmer's slip, found by any test
}

// Tx reads rows and gathers changes that are stored together, if nothing that was read
// has changed meanwhile.
type Tx struct {
	s       *State
	b       *pebble.Batch // what this transaction has changed, for its own reads
	expect  map[string]uint64
	puts    map[string]RowPut
	deletes map[string]bool
	tables  map[byte]bool
	class   RowClass
	own     bool
	ops     []Operation
	undo    []undone
	h       *handle // that b reads from
	gen     uint64  // Generation when it was begun
}

// Own says that the change is the user's of his own account. Then it is allowed while
// settings are read-only, and the state machine refuses it if it changes more of a user
// than his password.
func (tx *Tx) Own() { tx.own = true }

func (tx *Tx) open() (pebble.Reader, *handle) { return tx.b, nil }

func (tx *Tx) read(key []byte, version uint64) {
	if key[0] == spaceIndex {
		return
	}
	k := string(key)
	if _, own := tx.puts[k]; own || tx.deletes[k] {
		return
	}
	if key[0] == spaceTableV && tx.tables[key[1]] {
		return
	}
	if _, seen := tx.expect[k]; !seen {
		tx.expect[k] = version
	}
}

// Also adds an operation that is applied in the same entry, behind the rows.
func (tx *Tx) Also(op Operation) { tx.ops = append(tx.ops, op) }

// Put stores a row, replacing one with the same key. The caller has validated it.
func (t *Table[T]) Put(tx *Tx, row *T) error {
	key := t.Key(row)
	old, err := t.Get(tx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if old != nil {
		if err := t.unindex(tx, old, key); err != nil {
			return err
		}
	}
	for i := range t.Indexes {
		ix := &t.Indexes[i]
		for _, value := range ix.Values(row) {
			k := t.indexKey(ix, value, key)
			if ix.Unique {
				other, err := getCopy(tx.b, k)
				if err != nil {
					return err
				}
				if other != nil && string(other) != key {
					return refuse(ErrExists, "%s %q belongs to %q already", t.Name, value, other)
				}
				t.noteTable(tx)
			}
			if err := tx.put(RowPut{Key: k, Value: []byte(key), Plain: true}); err != nil {
				return err
			}
		}
	}
	v, err := encMode.Marshal(row)
	if err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	tx.tables[t.ID] = true
	if t.Class == ClassSettings {
		tx.class = ClassSettings
	}
	return tx.put(RowPut{Key: t.rowKey(key), Value: v})
}

// Delete removes a row; ErrNotFound when there is none.
func (t *Table[T]) Delete(tx *Tx, key string) error {
	old, err := t.Get(tx, key)
	if err != nil {
		return err
	}
	tx.tables[t.ID] = true
	if t.Class == ClassSettings {
		tx.class = ClassSettings
	}
	if err := t.unindex(tx, old, key); err != nil {
		return err
	}
	return tx.del(t.rowKey(key))
}

func (t *Table[T]) unindex(tx *Tx, row *T, key string) error {
	for i := range t.Indexes {
		ix := &t.Indexes[i]
		for _, value := range ix.Values(row) {
			if err := tx.del(t.indexKey(ix, value, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) put(p RowPut) error {
	k := string(p.Key)
	if err := tx.remember(p.Key); err != nil {
		return err
	}
	delete(tx.deletes, k)
	tx.puts[k] = p
	value := p.Value
	if !p.Plain {
		value = append(be64(nil, 0), p.Value...)
	}
	return tx.b.Set(p.Key, value, nil)
}

func (tx *Tx) del(key []byte) error {
	k := string(key)
	if err := tx.remember(key); err != nil {
		return err
	}
	delete(tx.puts, k)
	tx.deletes[k] = true
	return tx.b.Delete(key, nil)
}

// maxTries bounds how often Update runs fn again after a conflict.
const maxTries = 16

// Update runs fn and stores what it changed, all or nothing. When somebody else changed
// something that fn has read, fn runs again. fn must not have other effects.
func (s *State) Update(ctx context.Context, fn func(*Tx) error, out ...any) error {
	for range maxTries {
		err := s.update(ctx, fn, out)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// Try runs fn like Update and throws its changes away: a dry run.
func (s *State) Try(fn func(*Tx) error) error {
	tx, err := s.begin()
	if err != nil {
		return err
	}
	defer tx.end()
	return fn(tx)
}

func (s *State) begin() (*Tx, error) {
	gen := s.Generation()
	h := s.acquire()
	if h.db == nil {
		return nil, ErrClosed
	}
	return &Tx{
		s: s, b: h.db.NewIndexedBatch(), class: ClassUser, h: h, gen: gen,
		expect: map[string]uint64{}, puts: map[string]RowPut{}, deletes: map[string]bool{}, tables: map[byte]bool{},
	}, nil
}

func (tx *Tx) end() {
	tx.b.Close()
	tx.h.release()
}

func (s *State) update(ctx context.Context, fn func(*Tx) error, out []any) error {
	tx, err := s.begin()
	if err != nil {
		return err
	}
	ops, out, err := tx.gather(fn, out)
	if err != nil || len(ops) == 0 {
		return err
	}
	if tx.gen != s.Generation() {
		return ErrConflict // a version means nothing in another history
	}
	return s.Do(ctx, ops, out...)
}

// gather runs fn and makes its changes operations.
func (tx *Tx) gather(fn func(*Tx) error, out []any) ([]Operation, []any, error) {
	defer tx.end()
	if err := fn(tx); err != nil {
		if tx.stale() {
			err = ErrConflict // what fn says may come of having read half before and half behind another change
		}
		return nil, nil, err
	}
	var ops []Operation
	if len(tx.puts)+len(tx.deletes) > 0 {
		rows := Rows{Class: tx.class}
		if tx.own {
			rows.Class = ClassUser
		}
		for k, v := range tx.expect {
			rows.Expect = append(rows.Expect, Expect{Key: []byte(k), Version: v})
		}
		for _, p := range tx.puts {
			rows.Put = append(rows.Put, p)
		}
		for k := range tx.deletes {
			rows.Delete = append(rows.Delete, []byte(k))
		}
		for t := range tx.tables {
			rows.Tables = append(rows.Tables, t)
		}
		ops = append(ops, rows)
		out = append([]any{nil}, out...)
	}
	return append(ops, tx.ops...), out, nil
}

// stale tells whether something that was read has changed meanwhile.
func (tx *Tx) stale() bool {
	for k, version := range tx.expect {
		v, err := getCopy(tx.h.db, []byte(k))
		if err != nil {
			return false
		}
		var now uint64
		if len(v) >= 8 {
			now = binary.BigEndian.Uint64(v)
		}
		if now != version {
			return true
		}
	}
	return false
}

// Base reads the tables as they were before this transaction.
func (tx *Tx) Base() Reader { return tx.s }

// Sub runs fn; when it fails, what it has changed is taken back and the transaction goes on
// without it.
func (tx *Tx) Sub(fn func() error) error {
	saved := *tx
	tx.puts, tx.deletes, tx.tables = maps.Clone(tx.puts), maps.Clone(tx.deletes), maps.Clone(tx.tables)
	tx.undo = nil
	err := fn()
	if err == nil {
		tx.undo = append(saved.undo, tx.undo...)
		return nil
	}
	for i := len(tx.undo) - 1; i >= 0; i-- { // the batch has no way back: write the old values over
		u := tx.undo[i]
		var uerr error
		if u.had {
			uerr = tx.b.Set(u.key, u.old, nil)
		} else {
			uerr = tx.b.Delete(u.key, nil)
		}
		if uerr != nil {
			return uerr
		}
	}
	tx.puts, tx.deletes, tx.tables, tx.ops, tx.class, tx.own, tx.undo = saved.puts, saved.deletes, saved.tables, saved.ops, saved.class, saved.own, saved.undo
	return err
}

// undone is a value as it was before a write of this transaction.
type undone struct {
	key, old []byte
	had      bool
}

func (tx *Tx) remember(key []byte) error {
	old, err := getCopy(tx.b, key)
	if err != nil {
		return err
	}
	tx.undo = append(tx.undo, undone{key: key, old: old, had: old != nil})
	return nil
}
