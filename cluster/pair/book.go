package pair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// bookFormat is the version of ha-state.json.
const bookFormat = 1

// bookName is the file, in the data directory.
const bookName = "ha-state.json"

// Book keeps the Facts in a small file that can be read before the log is opened.
type Book struct {
	// NoRoom, when set, is called when the disk was full: if it has made room, it says so, and the
	// facts are written again. It is set before the first Update.
	NoRoom func() bool

	name  string
	mu    sync.Mutex
	facts Facts
	fault error
	ended chan struct{} // closed with fault
}

type bookFile struct {
	Format int   `json:"format"`
	Facts  Facts `json:"facts"`
}

// OpenBook reads dir's Facts; a directory without them is a single node's.
func OpenBook(dir string) (*Book, error) {
	b := &Book{name: filepath.Join(dir, bookName), facts: Facts{State: Single}, ended: make(chan struct{})}
	raw, err := os.ReadFile(b.name)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pair: %w", err)
	}
	var f bookFile
	if err := json.Unmarshal(raw, &f); err != nil || f.Format < 1 {
		return nil, fmt.Errorf("pair: %s is damaged: if the other node serves, stop this one, move its data directory away and join again (mpctl ha create); if not, restore a backup", b.name)
	}
	if f.Format > bookFormat {
		return nil, fmt.Errorf("pair: %s has format %d, this program knows %d; start the newer program that wrote it", b.name, f.Format, bookFormat)
	}
	if err := f.Facts.History.Validate(); err != nil {
		return nil, fmt.Errorf("pair: %s: %w", b.name, err)
	}
	b.facts = f.Facts
	return b, nil
}

// Failed is closed when the facts can't be written any more: the node must end. Fault says why.
func (b *Book) Failed() <-chan struct{} { return b.ended }

// Fault is nil until then.
func (b *Book) Fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault
}

// Facts gives a copy.
func (b *Book) Facts() Facts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.facts.clone()
}

// Update changes the facts; they are on disk when it returns without an error. An error of
// change leaves them as they were. After a failed write nobody knows what is on disk: every
// later one fails, too, and the node must be started anew.
func (b *Book) Update(change func(*Facts) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil {
		return b.fault
	}
	next := b.facts.clone()
	if err := change(&next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(bookFile{Format: bookFormat, Facts: next}, "", "  ")
	if err != nil {
		return fmt.Errorf("pair: %w", err)
	}
	raw = append(raw, '\n')
	err = Replace(b.name, raw)
	if errors.Is(err, syscall.ENOSPC) && b.NoRoom != nil && b.NoRoom() {
		err = Replace(b.name, raw) // the old file is untouched until a whole one takes its place
	}
	if err != nil {
		b.fault = fmt.Errorf("pair: %s can't be written, restart the node: %w", b.name, err)
		close(b.ended)
		return b.fault
	}
	b.facts = next
	return nil
}

// Replace writes a file so that after a crash it is the old one or the new one.
func Replace(name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
