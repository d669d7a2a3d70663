package clustertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mailplusd/cluster"
)

// FSM is a state machine that keeps every entry in order. Like the real one it has no
// journal: what was not flushed is gone after a crash. Its files never change once
// written.
type FSM struct {
	base string

	mu      sync.Mutex
	dir     string // base/<CURRENT>
	entries []Kept
	flushed int // entries in files
	files   int
	applied uint64
	fail    error
	// Applies counts calls of Apply, Restores those of Restore.
	applies, restores int
}

// Kept is an entry that the FSM has applied.
type Kept struct {
	Index, Term uint64
	Data        string
}

// Epoch is the epoch of the entry's term.
func (k Kept) Epoch() uint64 { return cluster.EpochOf(k.Term) }

var _ cluster.FSM = (*FSM)(nil)

// OpenFSM reads what an earlier FSM has flushed below dir.
func OpenFSM(dir string) (*FSM, error) {
	f := &FSM{base: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cur, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	if errors.Is(err, fs.ErrNotExist) {
		cur = []byte("0")
		if err = os.MkdirAll(filepath.Join(dir, "0"), 0o700); err == nil {
			err = os.WriteFile(filepath.Join(dir, "CURRENT"), cur, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	f.dir = filepath.Join(dir, string(cur))
	return f, f.load()
}

func (f *FSM) load() error {
	files, err := os.ReadDir(f.dir) // sorted by name
	if err != nil {
		return err
	}
	f.entries, f.applied, f.files = nil, 0, len(files)
	for _, de := range files {
		b, err := os.ReadFile(filepath.Join(f.dir, de.Name()))
		if err != nil {
			return err
		}
		for len(b) > 0 {
			if len(b) < 20 {
				return errors.New("clustertest: short record")
			}
			k := Kept{Index: binary.BigEndian.Uint64(b), Term: binary.BigEndian.Uint64(b[8:])}
			n := int(binary.BigEndian.Uint32(b[16:]))
			k.Data = string(b[20 : 20+n])
			b = b[20+n:]
			f.entries = append(f.entries, k)
			f.applied = k.Index
		}
	}
	f.flushed = len(f.entries)
	return nil
}

// Apply keeps the entries; the result of each is its place in the sequence, from 1.
func (f *FSM) Apply(entries []cluster.Entry) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applies++
	if f.fail != nil {
		return nil, f.fail
	}
	out := make([][]byte, len(entries))
	for i, e := range entries {
		if e.Index <= f.applied {
			return nil, fmt.Errorf("clustertest: entry %d delivered after %d", e.Index, f.applied)
		}
		f.entries = append(f.entries, Kept{Index: e.Index, Term: e.Term, Data: string(e.Data)})
		f.applied = e.Index
		out[i] = binary.BigEndian.AppendUint64(nil, uint64(len(f.entries)))
	}
	return out, nil
}

// Fail makes every later Apply fail with err.
func (f *FSM) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Applied is the index of the last entry.
func (f *FSM) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// Flush writes the entries since the last flush to a new file.
func (f *FSM) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flush()
}

func (f *FSM) flush() error {
	if f.flushed == len(f.entries) {
		return nil
	}
	var b []byte
	for _, k := range f.entries[f.flushed:] {
		b = binary.BigEndian.AppendUint64(b, k.Index)
		b = binary.BigEndian.AppendUint64(b, k.Term)
		b = binary.BigEndian.AppendUint32(b, uint32(len(k.Data)))
		b = append(b, k.Data...)
	}
	name := filepath.Join(f.dir, fmt.Sprintf("%08d", f.files))
	if err := os.WriteFile(name+".tmp", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	f.files++
	f.flushed = len(f.entries)
	return nil
}

// Checkpoint links all files into dir.
func (f *FSM) Checkpoint(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.flush(); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, de := range files {
		if err := os.Link(filepath.Join(f.dir, de.Name()), filepath.Join(dir, de.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Restore moves dir below base and makes it the current state.
func (f *FSM) Restore(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restores++
	name := fmt.Sprintf("r%d", time.Now().UnixNano())
	if err := os.Rename(dir, filepath.Join(f.base, name)); err != nil {
		return err
	}
	tmp := filepath.Join(f.base, "CURRENT.tmp")
	if err := os.WriteFile(tmp, []byte(name), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(f.base, "CURRENT")); err != nil {
		return err
	}
	f.dir = filepath.Join(f.base, name)
	return f.load()
}

// Entries gives a copy of the sequence.
func (f *FSM) Entries() []Kept {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.entries)
}

// Restores says how often a received state was taken over since OpenFSM.
func (f *FSM) Restores() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restores
}

// Applies says how often Apply was called since OpenFSM.
func (f *FSM) Applies() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applies
}
