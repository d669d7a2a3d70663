package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// activeFile names the directory of the database in force, beside it. Without it the
// database lies in the state's directory itself, as Open made it.
const (
	activeFile = "ACTIVE"
	genPrefix  = "gen-"
)

// Restore replaces the whole state by the checkpoint in dir, which is left as it is. Readers
// go on meanwhile: those that have begun see the old state to their end. Then the caches are
// empty, every watch is woken, and Generation has risen. Applied may be lower than before.
//
// After a crash the state is the old or the new one: the checkpoint's files are linked into
// a directory of their own and made durable, and the rename of ACTIVE is the moment of
// change. What a crash leaves behind is removed by Open.
func (s *State) Restore(dir string) error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	old := s.db.Load()
	if old.db == nil {
		return ErrClosed
	}
	name, err := s.nextGen()
	if err != nil {
		return fmt.Errorf("state: restore: %w", err)
	}
	path := filepath.Join(s.dir, name)
	if err := adopt(dir, path); err != nil {
		os.RemoveAll(path)
		return fmt.Errorf("state: restore: %w", err)
	}
	h, err := s.openDB(path, false)
	if err != nil {
		os.RemoveAll(path)
		return err
	}
	facts, err := s.readFacts(h)
	if err == nil && !facts.formatted {
		err = fmt.Errorf("state: %s holds no state", dir)
	}
	if err == nil {
		err = s.setActive(name)
	}
	if err != nil {
		return errors.Join(err, h.db.Close(), os.RemoveAll(path))
	}
	s.swap(old, h, facts)
	return nil
}

// swap puts h in the place of old and tells everybody.
func (s *State) swap(old, h *handle, f facts) {
	s.cacheMu.Lock()
	clear(s.mailboxes)
	s.db.Store(h)
	s.cacheMu.Unlock()
	clear(s.inboxes)
	s.adoptFacts(f)
	s.generation.Add(1)
	s.rows.Add(1) // behind the swap: who read the old rows finds a version that has passed
	s.wg.Add(1)
	go func() { // ends with the last reader; Close waits for it
		defer s.wg.Done()
		<-old.done
		if err := old.db.Close(); err != nil {
			s.log.Error("the replaced state was not closed cleanly", "dir", old.dir, "err", err)
		}
		s.discard(old.dir)
	}()
	old.release()
	s.due.mu.Lock()
	s.due.list, s.due.lost = nil, true
	s.due.mu.Unlock()
	s.bus.wakeAll()
}

// Generation rises with every Restore. Who keeps something read from the state by
// mod-sequence compares it: after a change, everything must be read anew.
func (s *State) Generation() uint64 { return s.generation.Load() }

// nextGen gives a directory name that doesn't exist yet.
func (s *State) nextGen() (string, error) {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return "", err
	}
	last := 0
	for _, e := range list {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), genPrefix)); err == nil && strings.HasPrefix(e.Name(), genPrefix) {
			last = max(last, n)
		}
	}
	return genPrefix + strconv.Itoa(last+1), nil
}

// active gives the directory of the database in force.
func active(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, activeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if !strings.HasPrefix(name, genPrefix) || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", fmt.Errorf("%s names %q, which is no directory of a state", filepath.Join(dir, activeFile), name)
	}
	return filepath.Join(dir, name), nil
}

// setActive changes the directory in force; durable when it returns.
func (s *State) setActive(name string) error {
	tmp := filepath.Join(s.dir, activeFile+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, activeFile)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// discard removes a database that was replaced.
func (s *State) discard(dir string) {
	var err error
	if dir != s.dir {
		err = os.RemoveAll(dir)
	} else {
		err = sweep(s.dir, func(name string) bool { return ofPebble(name) })
	}
	if err != nil {
		s.log.Warn("old state not removed", "dir", dir, "err", err)
	}
}

// tidy removes what a crash has left: databases that are not in force, and half a Restore.
// The database that Open made lies in s.dir itself, so there only pebble's own files go.
func (s *State) tidy(inForce string) error {
	return sweep(s.dir, func(name string) bool {
		if strings.HasPrefix(name, genPrefix) || name == activeFile+".tmp" {
			return filepath.Join(s.dir, name) != inForce
		}
		return inForce != s.dir && ofPebble(name)
	})
}

func sweep(dir string, old func(name string) bool) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if old(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// ofPebble tells whether pebble makes files of this name.
func ofPebble(name string) bool {
	switch filepath.Ext(name) {
	case ".sst", ".log", ".blob", ".dbtmp":
		return true
	}
	for _, p := range []string{"MANIFEST-", "OPTIONS-", "CURRENT", "LOCK", "marker."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// adopt makes to, a durable copy of the checkpoint from. Tables never change and are linked;
// the small files are copied because an opened database writes to them.
func adopt(from, to string) error {
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range list {
		if !e.Type().IsRegular() || e.Name() == "LOCK" {
			continue
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".sst", ".blob":
			if os.Link(src, dst) == nil {
				if err := syncFile(dst); err != nil {
					return err
				}
				continue
			}
		}
		if err := copyFile(src, dst); err != nil { // also where links are impossible
			return err
		}
	}
	if err := syncDir(to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error { return syncFile(dir) }
