package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func pack(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := newArchive(dir, 7, 1)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := a.writeTo(&b); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != a.size {
		t.Fatalf("stream of %d octets was announced as %d", b.Len(), a.size)
	}
	return b.Bytes()
}

// Every tree of files arrives as it was, and the length of the stream is known before.
func TestArchiveRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		files := rapid.MapOf(rapid.StringMatching(`[a-z]{1,8}(/[A-Z0-9.]{1,30}x)?`), rapid.SliceOfN(rapid.Byte(), 0, 1500)).Draw(rt, "files")
		for name := range files {
			if dir, _, deep := strings.Cut(name, "/"); deep {
				delete(files, dir) // a name can't be a file and a directory
			}
		}
		stream := pack(t, files)
		dir := t.TempDir()
		m, err := unpack(bytes.NewReader(stream), dir)
		if err != nil {
			rt.Fatal(err)
		}
		if m.Applied != 7 || len(m.Files) != len(files) {
			rt.Fatalf("manifest %+v", m)
		}
		for name, data := range files {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, data) {
				rt.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func TestArchiveRefusesDamage(t *testing.T) {
	good := pack(t, map[string][]byte{"a": bytes.Repeat([]byte("x"), 1000), "b": []byte("y")})
	flipped := bytes.Clone(good)
	flipped[600] ^= 1
	newer := func(format int) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		m, _ := json.Marshal(manifest{Format: format})
		w.WriteHeader(header(manifestName, int64(len(m))))
		w.Write(m)
		w.Close()
		return b.Bytes()
	}
	member := func(h tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&h)
		w.Close()
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		stream []byte
		want   string
	}{
		"changed content":  {flipped, "a has not arrived"},
		"cut":              {good[:len(good)-3000], ""},
		"no manifest":      {append(bytes.Clone(good[:1536]), make([]byte, 1024)...), "without its manifest"},
		"newer":            {newer(archiveFormat + 1), "upgrade this node"},
		"format 0":         {newer(0), "its manifest"},
		"outside":          {member(tar.Header{Name: "../x", Typeflag: tar.TypeReg}), "not possible"},
		"absolute":         {member(tar.Header{Name: "/x", Typeflag: tar.TypeReg}), "not possible"},
		"link":             {member(tar.Header{Name: "x", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}), "unexpected member"},
		"device":           {member(tar.Header{Name: "x", Typeflag: tar.TypeChar}), "unexpected member"},
		"empty":            {nil, "without its manifest"},
		"noise":            {bytes.Repeat([]byte("noise"), 400), "state stream"},
		"manifest as path": {member(tar.Header{Name: "./" + manifestName, Typeflag: tar.TypeReg}), "not possible"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(bytes.NewReader(c.stream), t.TempDir())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := unpack(bytes.NewReader(newer(99)), t.TempDir()); !errors.Is(err, ErrNewer) {
		t.Errorf("newer format: %v", err)
	}
}

func TestArchiveRefusesWhatTarCantCarry(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, strings.Repeat("n", 101)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newArchive(dir, 0, 0); err == nil {
		t.Error("a name of 101 octets was taken")
	}
	dir = t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if _, err := newArchive(dir, 0, 0); err == nil {
		t.Error("a symbolic link was taken")
	}
}

// FuzzUnpack: no stream writes outside the directory or is taken without a manifest that
// fits.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, map[string][]byte{"a": []byte("x"), "d/b": nil}))
	f.Add([]byte("noise"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		m, err := unpack(io.LimitReader(bytes.NewReader(stream), 1<<20), dir)
		if err == nil {
			for _, file := range m.Files {
				if st, err := os.Stat(filepath.Join(dir, file.Name)); err != nil || st.Size() != file.Size {
					t.Errorf("%+v accepted: %v", file, err)
				}
			}
		}
		if in, err := os.ReadDir(top); err != nil || len(in) != 1 {
			t.Errorf("something was written outside: %v %v", in, err)
		}
	})
}
