package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// aliasLine is one alias of a Postfix alias file.
type aliasLine struct {
	Line    int
	Name    string
	Members []string
}

// parseAliases reads a Postfix alias file (aliases(5)): `name: member, member`, comments
// with #, a line that starts with white space continues the one before.
func parseAliases(r io.Reader) ([]aliasLine, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxAliasLine)
	var out []aliasLine
	n := 0
	for sc.Scan() {
		n++
		line := strings.TrimPrefix(sc.Text(), "\ufeff")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(out) == 0 {
				return nil, fmt.Errorf("line %d continues nothing", n)
			}
			last := &out[len(out)-1]
			last.Members = append(last.Members, splitMembers(line)...)
			continue
		}
		name, rest, ok := cutName(line)
		if !ok {
			return nil, fmt.Errorf("line %d: %.60q is not `name: member, member`", n, line)
		}
		if out = append(out, aliasLine{Line: n, Name: name, Members: splitMembers(rest)}); len(out) > maxAliasLines {
			return nil, fmt.Errorf("more than %d aliases", maxAliasLines)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return out, nil
}

// cutName splits at the colon that ends the name; the name may be quoted.
func cutName(line string) (name, rest string, ok bool) {
	if strings.HasPrefix(line, `"`) {
		end := strings.Index(line[1:], `"`)
		if end < 0 {
			return "", "", false
		}
		name, rest = line[1:1+end], strings.TrimSpace(line[2+end:])
		rest, ok = strings.CutPrefix(rest, ":")
		return name, rest, ok && name != ""
	}
	name, rest, ok = strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	return name, rest, ok && name != ""
}

func splitMembers(s string) []string {
	var out []string
	for _, m := range strings.Split(s, ",") {
		if m = strings.Trim(strings.TrimSpace(m), `"`); m != "" {
			out = append(out, m)
		}
	}
	return out
}

// exportAlias writes an alias as a line of a Postfix alias file: groups are expanded,
// users become their addresses in the domain, nested aliases keep their names (A.57).
func exportAlias(p *directory.Picture, a *model.Alias) string {
	var members []string
	add := func(s string) {
		if !slices.Contains(members, s) {
			members = append(members, s)
		}
	}
	user := func(name string) {
		if u := p.User(name); u != nil {
			add(addressIn(u, a.Domain))
		}
	}
	for _, m := range a.Members {
		switch m.Kind {
		case model.AliasUser:
			user(m.Value)
		case model.AliasGroup:
			for _, u := range p.Members(m.Value) {
				user(u)
			}
		default:
			add(m.Value)
		}
	}
	return a.Name + ": " + strings.Join(members, ", ")
}

// addressIn is a user's address in a domain, or his name when he has none there.
func addressIn(u *directory.Account, domain string) string {
	for _, a := range u.Addresses {
		if strings.HasSuffix(a, "@"+domain) {
			return a
		}
	}
	return u.Name
}

// aliasImport imports what is new; what exists is left as it is and listed (R8.64). Aliases may
// name others that come later in the file, so it goes over what fails for that until nothing more helps.
func (s *Server) aliasImport(ctx context.Context, c *Call, in *api.AliasImportIn) ([]api.AliasImportRow, error) {
	lines, err := parseAliases(strings.NewReader(in.Text))
	if err != nil {
		return nil, op.Errorf(op.Usage, "the alias file can't be read: %v", err)
	}
	rows := make([]api.AliasImportRow, len(lines))
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Domain)
		if err != nil {
			return err
		}
		for progress := true; progress; {
			progress = false
			for i, l := range lines {
				if r := rows[i].Result; r == "imported" || r == "exists" || r == "left" {
					continue
				}
				if other := otherDomain(tx, d, l.Name); other != "" { // an export of all domains in one file
					rows[i] = api.AliasImportRow{Line: l.Line, Name: l.Name, Result: "left", Error: "is of " + other + "; mpctl domain alias import " + other}
					continue
				}
				err := tx.Sub(func() error { _, e := addAlias(tx, d, l.Name, l.Members, time.Now()); return e })
				rows[i] = api.AliasImportRow{Line: l.Line, Name: l.Name, Result: "imported"}
				if err == nil {
					progress = true
					continue
				}
				e := explain(err)
				rows[i].Result, rows[i].Error = "failed", e.Error()
				if e.Code == op.Exists {
					rows[i].Result = "exists"
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	failed := 0
	for _, r := range rows {
		if r.Result == "failed" {
			failed++
		}
	}
	if failed > 0 {
		return rows, op.Errorf(op.Partial, "%d of %d aliases were not imported", failed, len(rows))
	}
	return rows, nil
}

// otherDomain gives the hosted domain that an alias with a whole address belongs to; empty when it
// is d, or none.
func otherDomain(tx *state.Tx, d *model.Domain, name string) string {
	_, domain, ok := model.SplitAddress(name)
	if !ok {
		return ""
	}
	other, err := getDomain(tx, asciiDomain(domain))
	if err != nil || other.Name == d.Name {
		return ""
	}
	return other.Name
}

func (s *Server) aliasExport(_ context.Context, _ *Call, in *api.AliasExportIn) (api.AliasExport, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return api.AliasExport{}, err
	}
	pic, err := directory.Draw(s.mail.State, time.Now())
	if err != nil {
		return api.AliasExport{}, err
	}
	var b strings.Builder
	for a, err := range state.Aliases.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return api.AliasExport{}, err
		}
		b.WriteString(exportAlias(pic, a) + "\n")
	}
	return api.AliasExport{Text: b.String()}, nil
}
