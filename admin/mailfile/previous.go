package mailfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Previous is what another mail server has left in a directory: a password list, an alias file, and
// Maildirs.
//
//	passwd       password list, NAME:HASH[:…]; also users
//	shadow       the hashes, when passwd says x
//	aliases      Postfix alias file
//	mail/NAME    Maildir of an account; also mail/DOMAIN/NAME, homes/NAME or NAME, and in any of them Maildir or .Maildir
type Previous struct {
	Passwd, Shadow, Aliases string // contents; empty: there is no such file
	Accounts                []Account
	Maildirs                map[string]string // by account
	Orphans                 []string          // Maildirs of nobody
}

// maxListFile bounds each of the files.
const maxListFile = 32 << 20

// OpenPrevious looks at a directory. domain is that of the accounts' addresses.
func OpenPrevious(dir, domain string) (*Previous, error) {
	p := &Previous{Maildirs: map[string]string{}}
	var err error
	if p.Passwd, err = listFile(dir, "passwd", "users"); err != nil {
		return nil, err
	}
	if p.Passwd == "" {
		return nil, fmt.Errorf("%s has no password list: a file passwd or users with lines NAME:HASH", dir)
	}
	if p.Shadow, err = listFile(dir, "shadow"); err != nil {
		return nil, err
	}
	if p.Aliases, err = listFile(dir, "aliases"); err != nil {
		return nil, err
	}
	if p.Accounts, _, err = ParseAccounts(p.Passwd, p.Shadow); err != nil {
		return nil, fmt.Errorf("the password list: %w", err)
	}
	return p, p.find(dir, domain)
}

func listFile(dir string, names ...string) (string, error) {
	for _, n := range names {
		f, err := os.Open(filepath.Join(dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || st.IsDir() {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, maxListFile+1))
		if err != nil {
			return "", err
		}
		if len(b) > maxListFile {
			return "", fmt.Errorf("%s has more than %d MB", f.Name(), maxListFile>>20)
		}
		return string(b), nil
	}
	return "", nil
}

// find gives each account its Maildir, and those that are left over.
func (p *Previous) find(dir, domain string) error {
	names := map[string]bool{}
	for _, a := range p.Accounts {
		names[strings.ToLower(a.Name)] = true
	}
	for _, root := range []string{filepath.Join(dir, "mail", domain), filepath.Join(dir, "mail"), filepath.Join(dir, "homes"), dir} {
		list, err := os.ReadDir(root)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			path := maildirIn(filepath.Join(root, e.Name()))
			name := strings.ToLower(e.Name())
			switch {
			case path == "":
			case names[name] && p.Maildirs[name] == "":
				p.Maildirs[name] = path
			default:
				p.Orphans = append(p.Orphans, path)
			}
		}
	}
	slices.Sort(p.Orphans)
	return nil
}

// maildirIn finds the Maildir of a home directory; empty: there is none.
func maildirIn(home string) string {
	for _, sub := range []string{"Maildir", ".Maildir", ""} {
		if path := filepath.Join(home, sub); isMaildir(path) {
			return path
		}
	}
	return ""
}
