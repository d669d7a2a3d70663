package mailfile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Source is mail in files: a path and the mailboxes below it.
type Source struct {
	path   string
	format string
	boxes  []box
	Size   int64 // octets of all files, for progress; 0 when they were not counted
}

// box is one mailbox of a source.
type box struct {
	name string // empty: that of the path itself
	path string
}

// Open looks at a path and finds the mailboxes below it. format is one of the formats, or empty to
// find out. The names of mailboxes come from directories and files below path; the path itself is
// the mailbox with the empty name.
func Open(path, format string) (*Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s := &Source{path: path, format: format}
	if format == "" {
		if s.format, err = detect(path, st); err != nil {
			return nil, err
		}
	}
	switch {
	case !st.IsDir() && s.format == Maildir:
		return nil, fmt.Errorf("%s is a file, a Maildir is a directory", path)
	case !st.IsDir():
		s.boxes = []box{{path: path}}
	case s.format == Maildir:
		err = s.findMaildirs()
	default:
		err = s.findFiles()
	}
	if err == nil && len(s.boxes) == 0 {
		err = fmt.Errorf("%s: %w", path, ErrUnknown)
	}
	return s, err
}

// Format is the one that was given or found.
func (s *Source) Format() string { return s.format }

// Mailboxes names those that were found.
func (s *Source) Mailboxes() []string {
	out := make([]string, len(s.boxes))
	for i, b := range s.boxes {
		out[i] = b.name
	}
	return out
}

func detect(path string, st fs.FileInfo) (string, error) {
	if !st.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		head := make([]byte, 5)
		if _, err := io.ReadFull(f, head); err == nil && string(head) == "From " {
			return Mbox, nil
		}
		return EML, nil
	}
	format := ""
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && isMaildir(p):
			format = Maildir
		case d.Type().IsRegular() && hasSuffix(p, ".eml"):
			format = EML
		case d.Type().IsRegular() && hasSuffix(p, ".mbox"):
			format = Mbox
		default:
			return nil
		}
		return fs.SkipAll
	})
	if err == nil && format == "" {
		err = fmt.Errorf("%s: %w", path, ErrUnknown)
	}
	return format, err
}

func isMaildir(path string) bool {
	for _, sub := range []string{"cur", "new"} {
		if st, err := os.Stat(filepath.Join(path, sub)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// findMaildirs finds Maildirs in directories below one another, and folders in the way of
// Maildir++ (".Archive.2020" beside cur and new).
func (s *Source) findMaildirs() error {
	return filepath.WalkDir(s.path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		if base := d.Name(); base == "cur" || base == "new" || base == "tmp" {
			return fs.SkipDir
		}
		if isMaildir(p) {
			rel, err := filepath.Rel(s.path, p)
			if err != nil {
				return err
			}
			s.boxes = append(s.boxes, box{maildirName(rel), p})
		}
		return nil
	})
}

func maildirName(rel string) string {
	if rel == "." {
		return ""
	}
	levels := strings.Split(filepath.ToSlash(rel), "/")
	var out []string
	for _, l := range levels {
		if folders, ok := strings.CutPrefix(l, "."); ok {
			for f := range strings.SplitSeq(folders, ".") {
				out = append(out, fromUTF7(f))
			}
			continue
		}
		out = append(out, unescape(l))
	}
	return strings.Join(out, "/")
}

// findFiles finds .mbox files, each a mailbox, or directories with .eml files.
func (s *Source) findFiles() error {
	suffix := "." + s.format
	return filepath.WalkDir(s.path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !hasSuffix(p, suffix) {
			return err
		}
		b := box{path: p}
		if s.format == EML {
			b.path = filepath.Dir(p)
		}
		rel, err := filepath.Rel(s.path, b.path)
		if err != nil {
			return err
		}
		if s.format == Mbox {
			rel = rel[:len(rel)-len(suffix)]
		}
		if rel != "." {
			levels := strings.Split(filepath.ToSlash(rel), "/")
			for i, l := range levels {
				levels[i] = unescape(l)
			}
			b.name = strings.Join(levels, "/")
		}
		if !slices.ContainsFunc(s.boxes, func(o box) bool { return o.path == b.path }) {
			s.boxes = append(s.boxes, b)
		}
		return nil
	})
}

func hasSuffix(path, suffix string) bool {
	return len(path) >= len(suffix) && strings.EqualFold(path[len(path)-len(suffix):], suffix)
}

// Count adds up the octets of all files.
func (s *Source) Count() {
	for _, b := range s.boxes {
		dirs := []string{b.path}
		if s.format == Maildir {
			dirs = []string{filepath.Join(b.path, "cur"), filepath.Join(b.path, "new")}
		}
		for _, dir := range dirs {
			list, err := os.ReadDir(dir)
			if err != nil {
				if st, err := os.Stat(dir); err == nil {
					s.Size += st.Size()
				}
				continue
			}
			for _, e := range list {
				if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
					s.Size += info.Size()
				}
			}
		}
	}
}

// Read gives every message of every mailbox. What can't be read is given with its error, and the
// rest goes on; an error of take ends it.
func (s *Source) Read(take Take) error {
	for _, b := range s.boxes {
		var err error
		switch s.format {
		case Mbox:
			err = readMboxFile(b, take)
		case Maildir:
			err = readMaildir(b, take)
		default:
			err = readEMLs(b, take)
		}
		var f *fault
		if errors.As(err, &f) {
			err = take(Item{Mailbox: b.name, Name: b.path}, nil, f.error)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fault is an error of a source, as against one of take.
type fault struct{ error }

func readMboxFile(b box, take Take) error {
	f, err := os.Open(b.path)
	if err != nil {
		return &fault{err}
	}
	defer f.Close()
	var stop error
	err = readMbox(f, b.name, b.path, func(it Item, r io.Reader, err error) error {
		stop = take(it, r, err)
		return stop
	})
	if err != nil && stop == nil {
		err = &fault{err}
	}
	return err
}

// maildirFlags are the letters behind ":2," and what they mean.
var maildirFlags = map[byte]string{'D': `\Draft`, 'F': `\Flagged`, 'P': "$Forwarded", 'R': `\Answered`, 'S': `\Seen`, 'T': `\Deleted`}

func readMaildir(b box, take Take) error {
	words := dovecotKeywords(b.path)
	var names []string
	for _, sub := range []string{"cur", "new"} {
		list, err := os.ReadDir(filepath.Join(b.path, sub))
		if err != nil {
			return &fault{err}
		}
		for _, e := range list {
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(sub, e.Name()))
			}
		}
	}
	slices.SortFunc(names, byDelivery)
	for _, name := range names {
		it := Item{Mailbox: b.name, Flags: flagsOf(filepath.Base(name), words)}
		if err := readFile(it, filepath.Join(b.path, name), take); err != nil {
			return err
		}
	}
	return nil
}

// byDelivery orders the files of a Maildir by the seconds with which their names begin, then by name.
func byDelivery(a, b string) int {
	a, b = filepath.Base(a), filepath.Base(b)
	seconds := func(s string) (n int64) {
		digits, _, _ := strings.Cut(s, ".")
		n, _ = strconv.ParseInt(digits, 10, 64)
		return n
	}
	return cmp.Or(cmp.Compare(seconds(a), seconds(b)), cmp.Compare(a, b))
}

func flagsOf(name string, words map[byte]string) (flags []string) {
	i := strings.LastIndex(name, "2,")
	if i < 1 || !strings.ContainsRune(":;!", rune(name[i-1])) {
		return nil
	}
	for _, c := range []byte(name[i+2:]) {
		f := maildirFlags[c]
		if f == "" {
			f = words[c]
		}
		if f != "" && !slices.Contains(flags, f) {
			flags = append(flags, f)
		}
	}
	return flags
}

// dovecotKeywords reads which keyword a letter stands for in a Maildir of Dovecot.
func dovecotKeywords(dir string) map[byte]string {
	f, err := os.Open(filepath.Join(dir, keywordsFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	out := map[byte]string{}
	sc := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for sc.Scan() {
		var n int
		var word string
		if _, err := fmt.Sscanf(sc.Text(), "%d %s", &n, &word); err == nil && n >= 0 && n < 26 && isKeyword(word) {
			out[byte('a'+n)] = word
		}
	}
	return out
}

const keywordsFile = "dovecot-keywords"

func readEMLs(b box, take Take) error {
	st, err := os.Stat(b.path)
	if err != nil {
		return &fault{err}
	}
	if !st.IsDir() {
		return readFile(Item{Mailbox: b.name}, b.path, take)
	}
	list, err := os.ReadDir(b.path)
	if err != nil {
		return &fault{err}
	}
	for _, e := range list {
		if e.Type().IsRegular() && hasSuffix(e.Name(), ".eml") {
			if err := readFile(Item{Mailbox: b.name}, filepath.Join(b.path, e.Name()), take); err != nil {
				return err
			}
		}
	}
	return nil
}

// readFile gives the one message of a file; it arrived when the file was last changed.
func readFile(it Item, path string, take Take) error {
	it.Name = path
	f, err := os.Open(path)
	if err != nil {
		return take(it, nil, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return take(it, nil, err)
	}
	it.Date = st.ModTime()
	return take(it, newCRLF(f), nil)
}
