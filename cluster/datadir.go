package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Format is the version of the data directory's layout that this program writes. It
// goes up by one when an older program could misread what is written.
const Format = 1

const formatFile = "format.json"

// format is the content of format.json.
type format struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
}

// lockDir makes sure that one process uses dir. The lock ends with the file or the
// process, however it ends.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cluster: lock %s: %w", name, err)
		}
		buf := make([]byte, 32)
		k, _ := f.ReadAt(buf, 0)
		owner := strings.TrimSpace(string(buf[:k]))
		if owner == "" {
			owner = "unknown"
		}
		return nil, fmt.Errorf("%w: %s is held by process %s; stop it first", ErrLocked, dir, owner)
	}
	pid := strconv.AppendInt(nil, int64(os.Getpid()), 10)
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt(append(pid, '\n'), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return f, nil
}

// checkFormat refuses a directory that this program can't or must not use, and marks a
// new one.
func checkFormat(dir, id string) error {
	name := filepath.Join(dir, formatFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = json.Marshal(format{Format: Format, Node: id})
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		return writeDurable(name, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	var f format
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 {
		return fmt.Errorf("cluster: %s is damaged: restore a backup of this directory, or remove the directory and join the cluster again", name)
	}
	if f.Format > Format {
		return fmt.Errorf("%w: %s has format %d, this program knows formats up to %d; start the newer program that wrote it, or restore a backup made before the upgrade",
			ErrNewer, dir, f.Format, Format)
	}
	if f.Node != id {
		return fmt.Errorf("%w: %s belongs to node %q, not to %q; give the node its old ID, or another directory", ErrMismatch, dir, f.Node, id)
	}
	return nil
}

// writeDurable replaces a file so that after a crash it is the old one or the new one.
func writeDurable(name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
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
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("cluster: write %s: %w", name, err)
	}
	return nil
}

// syncDir makes renames and removals in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
