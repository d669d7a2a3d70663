package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archiveFormat is the version of the stream that carries a whole state.
const archiveFormat = 1

const (
	manifestName    = "MANIFEST.mailplusd"
	maxManifest     = 16 << 20 // octets
	maxArchiveFiles = 100_000
	maxArchiveName  = 100 // octets: what a tar header holds, so that every header is one block
)

// manifest is the last member of the stream: what must have arrived.
type manifest struct {
	Format  int            `json:"format"`
	Applied uint64         `json:"applied"` // the state has at least this entry
	Epoch   uint64         `json:"epoch"`
	Files   []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// archive streams a checkpoint directory as tar. The directory's files must not change.
type archive struct {
	dir  string
	man  manifest
	size int64
}

// newArchive lists dir. Nothing is read yet, but the size of the stream is known.
func newArchive(dir string, applied, epoch uint64) (*archive, error) {
	a := &archive{dir: dir, man: manifest{Format: archiveFormat, Applied: applied, Epoch: epoch, Files: []manifestFile{}}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := checkName(name); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("cluster: checkpoint holds %s, which is not a file", name)
		}
		a.man.Files = append(a.man.Files, manifestFile{Name: name, Size: info.Size(), SHA256: strings.Repeat("0", 64)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(a.man.Files) > maxArchiveFiles {
		return nil, fmt.Errorf("cluster: checkpoint of %d files", len(a.man.Files))
	}
	m, err := json.Marshal(a.man)
	if err != nil {
		return nil, err
	}
	if len(m) > maxManifest {
		return nil, errors.New("cluster: checkpoint with too many files")
	}
	a.size = tarSize(int64(len(m))) + 1024
	for _, f := range a.man.Files {
		a.size += tarSize(f.Size)
	}
	return a, nil
}

// tarSize is the length of a member: a block for the header and whole blocks of content.
func tarSize(n int64) int64 { return 512 + (n+511)&^511 }

// checkName refuses names that would leave the directory or need a second header.
func checkName(name string) error {
	if len(name) > maxArchiveName || !filepath.IsLocal(name) || name == manifestName || filepath.Clean(name) != name {
		return fmt.Errorf("cluster: file name %q is not possible in a state stream", name)
	}
	return nil
}

// writeTo writes exactly a.size octets.
func (a *archive) writeTo(w io.Writer) error {
	tw := tar.NewWriter(w)
	sum := sha256.New()
	for i := range a.man.Files {
		f := &a.man.Files[i]
		if err := tw.WriteHeader(header(f.Name, f.Size)); err != nil {
			return err
		}
		sum.Reset()
		if err := copyFile(io.MultiWriter(tw, sum), filepath.Join(a.dir, f.Name), f.Size); err != nil {
			return err
		}
		f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	m, err := json.Marshal(a.man)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(header(manifestName, int64(len(m)))); err != nil {
		return err
	}
	if _, err := tw.Write(m); err != nil {
		return err
	}
	return tw.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatGNU}
}

func copyFile(w io.Writer, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(w, io.LimitReader(f, size))
	if err == nil && n != size {
		err = fmt.Errorf("cluster: %s has shrunk", path)
	}
	return err
}

// unpack writes a stream's files into dir, which must be empty, checks them against the
// manifest and makes them durable.
func unpack(r io.Reader, dir string) (*manifest, error) {
	tr := tar.NewReader(r)
	got := map[string]manifestFile{}
	sum := sha256.New()
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil, errors.New("cluster: the state stream ends without its manifest")
		}
		if err != nil {
			return nil, fmt.Errorf("cluster: state stream: %w", err)
		}
		if h.Name == manifestName && h.Typeflag == tar.TypeReg && len(h.PAXRecords) == 0 {
			return finish(tr, h.Size, got, dir)
		}
		if err := checkName(h.Name); err != nil {
			return nil, err
		}
		// No PAX records: they could make a sparse file, of any length, out of a short stream.
		if _, twice := got[h.Name]; twice || h.Typeflag != tar.TypeReg || len(h.PAXRecords) > 0 || len(got) >= maxArchiveFiles {
			return nil, fmt.Errorf("cluster: unexpected member %q in the state stream", h.Name)
		}
		f, err := receiveFile(tr, filepath.Join(dir, h.Name), sum)
		if err != nil {
			return nil, err
		}
		f.Name = h.Name
		got[h.Name] = f
	}
}

func receiveFile(r io.Reader, path string, sum hash.Hash) (manifestFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return manifestFile{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return manifestFile{}, err
	}
	sum.Reset()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return manifestFile{Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

// finish reads the manifest and compares it with what has arrived.
func finish(r io.Reader, size int64, got map[string]manifestFile, dir string) (*manifest, error) {
	if size > maxManifest {
		return nil, errors.New("cluster: the manifest of the state stream is too long")
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("cluster: state stream: %w", err)
	}
	var m manifest
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("cluster: manifest of the state stream: %w", err)
	}
	if m.Format > archiveFormat {
		return nil, fmt.Errorf("%w: the leader sends its state in format %d, this program knows formats up to %d; upgrade this node", ErrNewer, m.Format, archiveFormat)
	}
	if m.Format < 1 || len(m.Files) != len(got) {
		return nil, fmt.Errorf("cluster: the state stream has %d files, its manifest %d", len(got), len(m.Files))
	}
	for _, f := range m.Files {
		if got[f.Name] != f {
			return nil, fmt.Errorf("cluster: %s has not arrived as it was sent", f.Name)
		}
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = syncDir(path)
		}
		return err
	})
	return &m, err
}
