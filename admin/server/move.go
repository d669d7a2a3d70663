package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/feed"
	"mailplusd/admin/job"
	"mailplusd/admin/mailfile"
	"mailplusd/admin/op"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// maxMoveList bounds the password list, and the alias file.
const maxMoveList = 32 << 20

// move is a previous server's data on its way in (R2.27, A.03).
type move struct {
	s  *Server
	c  *Call
	p  *job.Progress
	in *api.SetupFromMailServerIn

	passwd, shadow, aliases string
	accounts                []mailfile.Account
	lines                   []aliasLine
	begun                   bool
	rows                    []api.MoveRow // of accounts and aliases
	imports                 map[string]*importer
	order                   []string
	current                 string
	failed                  int
}

// setupFromMailServer makes the system with its accounts and aliases, all or nothing, and then takes in
// the mail, message by message. Repeated, it goes on where it was.
func (s *Server) setupFromMailServer(ctx context.Context, c *Call, in *api.SetupFromMailServerIn, r *feed.Reader, p *job.Progress) (map[string]int, error) {
	m := &move{s: s, c: c, p: p, in: in, imports: map[string]*importer{}}
	defer m.drop()
	if err := takeFeed(ctx, r, m.take); err != nil {
		return nil, err
	}
	if err := m.begin(ctx); err != nil {
		return nil, err
	}
	return m.finish(ctx)
}

func (m *move) take(ctx context.Context, h *feed.Head, r io.Reader) error {
	if h.Part == "" {
		if err := m.begin(ctx); err != nil {
			return err
		}
		return m.message(ctx, h, r)
	}
	if m.begun {
		return op.Errorf(op.Usage, "the part %.20s comes behind the mail", h.Part)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxMoveList+1))
	if err != nil {
		return err
	}
	if len(b) > maxMoveList {
		return op.Errorf(op.Usage, "%s has more than %d MB", h.Name, maxMoveList>>20)
	}
	switch h.Part {
	case "passwd":
		m.passwd = string(b)
	case "shadow":
		m.shadow = string(b)
	case "aliases":
		m.aliases = string(b)
	default:
		return op.Errorf(op.Usage, "%.20q is no part of a move", h.Part)
	}
	return nil
}

// begin reads the lists and makes the system, before the first message.
func (m *move) begin(ctx context.Context) error {
	if m.begun {
		return nil
	}
	m.begun = true
	var err error
	var passed int
	if m.accounts, passed, err = mailfile.ParseAccounts(m.passwd, m.shadow); err != nil {
		return op.Errorf(op.Usage, "the password list can't be read: %v", err)
	}
	if len(m.accounts) == 0 {
		return op.Errorf(op.Usage, "the password list names nobody (%d accounts of the system were passed over)", passed)
	}
	if m.lines, err = parseAliases(strings.NewReader(m.aliases)); err != nil {
		return op.Errorf(op.Usage, "the alias file can't be read: %v", err)
	}
	if err := m.hash(ctx); err != nil {
		return err
	}
	if err := m.directory(ctx); err != nil {
		return err
	}
	for _, r := range m.rows {
		if r.Result == "failed" {
			m.failed++
		}
		if err := m.c.Emit(r); err != nil {
			return err
		}
	}
	return nil
}

// hash turns passwords in clear into hashes and checks the others.
func (m *move) hash(ctx context.Context) error {
	errs := make([]error, len(m.accounts))
	parallel(len(m.accounts), func(i int) {
		a := &m.accounts[i]
		if a.Clear != "" && ctx.Err() == nil {
			a.Hash, errs[i] = login.Hash([]byte(a.Clear))
			a.Clear = ""
		}
		if a.Hash == "" {
			return
		}
		if err := login.ValidateHash(a.Hash); err != nil {
			a.Hash, a.Note = "", "its password can't be verified here: "+err.Error()
		}
	})
	return errors.Join(errs...)
}

// directory stores set-up, accounts and aliases in one transaction.
func (m *move) directory(ctx context.Context) error {
	in, now := m.in, time.Now()
	su := SetUp{Domain: in.Domain, Hostname: in.Hostname, Interface: in.Interface, Resolvers: in.Resolver, Services: DefaultServices()}
	admin := slices.IndexFunc(m.accounts, func(a mailfile.Account) bool {
		return in.Admin != "" && model.FoldName(a.Name) == model.FoldName(in.Admin)
	})
	if in.Admin != "" && admin < 0 {
		if in.Password == "" {
			return op.Errorf(op.Usage, "%s is not in the password list: give the administrator a password with --password-file", in.Admin)
		}
		var err error
		su.Admin = in.Admin
		if su.AdminHash, err = m.s.hashPassword(in.Admin, []byte(in.Password)); err != nil {
			return err
		}
	}
	work := func(tx *state.Tx) error { return m.adopt(tx, admin, now) }
	have := m.s.mail.State.Current().System
	switch domain := asciiDomain(in.Domain); {
	case have.SetUp != 0 && have.Domain != domain:
		return refused("this system is set up already, for "+have.Domain, "mpctl setup show")
	case have.SetUp != 0:
		return m.s.change(ctx, m.c, work)
	}
	set, err := su.Plan()
	if err != nil {
		return err
	}
	if err := writable(m.s.data); err != nil {
		return refused(fmt.Sprintf("%s is not writable: %v", m.s.data, err), "")
	}
	if err := m.s.mail.Listeners.Probe(set); err != nil {
		return err
	}
	m.rows = append(m.rows, api.MoveRow{Kind: "set-up", Name: set.System.Domain, Result: "moved", Note: "as " + set.System.Hostname})
	if m.c.DryRun {
		return m.s.mail.State.Try(func(tx *state.Tx) error {
			if err := setUpRows(tx, set, now, nil); err != nil {
				return err
			}
			if err := firstAdmin(tx, su, now); err != nil {
				return err
			}
			return work(tx)
		})
	}
	first := len(m.rows)
	if _, err = SetUpSystem(ctx, m.s.mail.State, su, now, func(tx *state.Tx) error {
		m.rows = m.rows[:first]
		if err := work(tx); err != nil {
			return err
		}
		return m.s.putEvent(tx, m.c)
	}); err != nil {
		return err
	}
	m.c.logged = true
	m.c.Warn("publish the DNS records (mpctl domain dns-records %s), then mpctl check all", set.System.Domain)
	return nil
}

// adopt adds the accounts and aliases that are not there yet. admin is the place of the first
// administrator among the accounts; -1: he is none of them.
func (m *move) adopt(tx *state.Tx, admin int, now time.Time) error {
	m.rows = slices.DeleteFunc(m.rows, func(r api.MoveRow) bool { return r.Kind == "account" || r.Kind == "alias" })
	seats, err := newSeatCount(tx)
	if err != nil {
		return err
	}
	d, err := getDomain(tx, m.in.Domain)
	if err != nil {
		return err
	}
	for i := range m.accounts {
		m.rows = append(m.rows, m.account(tx, d, seats, &m.accounts[i], i == admin, now))
	}
	m.rows = append(m.rows, m.aliasRows(tx, d, now)...)
	return nil
}

func (m *move) account(tx *state.Tx, d *model.Domain, seats *seatCount, a *mailfile.Account, admin bool, now time.Time) api.MoveRow {
	row := api.MoveRow{Kind: "account", Name: a.Name, Result: "moved"}
	var notes []string
	if a.Hash == "" {
		notes = append(notes, cmp.Or(a.Note, "it has no password")+"; set one: mpctl user passwd "+model.FoldName(a.Name)+" --password-file FILE")
	}
	err := tx.Sub(func() error {
		n := newUser{Name: a.Name, DisplayName: a.FullName, Hash: a.Hash, Activate: seats.take(a.Name, false) == nil}
		if admin {
			n.Groups = []string{model.Administrators}
		}
		if !n.Activate {
			notes = append(notes, fmt.Sprintf("not activated, all %d seats are used: mpctl license add KEY --accept-terms, then mpctl account activate %s", seats.pic.Seats, model.FoldName(a.Name)))
		}
		_, err := addUser(tx, n, now)
		if err != nil && n.Activate {
			seats.used--
		}
		return err
	})
	switch {
	case err == nil:
		row.Note = strings.Join(notes, "; ")
	case explain(err).Code == op.Exists:
		row.Result = "exists"
	default:
		row.Result, row.Note = "failed", err.Error()
	}
	return row
}

// aliasRows adds aliases; one may name another that comes later in the file.
func (m *move) aliasRows(tx *state.Tx, d *model.Domain, now time.Time) []api.MoveRow {
	rows := make([]api.MoveRow, len(m.lines))
	for progress := true; progress; {
		progress = false
		for i, l := range m.lines {
			if rows[i].Result == "moved" || rows[i].Result == "exists" {
				continue
			}
			rows[i] = api.MoveRow{Kind: "alias", Name: l.Name, Result: "moved"}
			err := tx.Sub(func() error { _, e := addAlias(tx, d, l.Name, l.Members, now); return e })
			switch {
			case err == nil:
				progress = true
			case explain(err).Code == op.Exists:
				rows[i].Result = "exists"
			default:
				rows[i].Result, rows[i].Note = "failed", err.Error()
			}
		}
	}
	return rows
}

// message takes in one message of an account.
func (m *move) message(ctx context.Context, h *feed.Head, r io.Reader) error {
	name := model.FoldName(h.User)
	im := m.imports[name]
	if name != m.current {
		if err := m.flush(ctx); err != nil {
			return err
		}
		m.current = name
	}
	if im == nil {
		im = &importer{s: m.s, c: m.c, p: m.p, rows: map[string]*api.ImportRow{}, boxes: map[string]*importBox{}, tell: m.tell(name)}
		if a := m.s.accountOf(name); a != nil {
			im.account = a.ID
		} else if !m.c.DryRun {
			m.failed++
			return m.c.Emit(api.MoveRow{Kind: "message", Name: h.Name, Result: "failed", Note: "there is no account " + name})
		}
		m.imports[name] = im
		m.order = append(m.order, name)
	}
	return im.take(ctx, h, r)
}

// tell gives the rows of an account's import as those of the move.
func (m *move) tell(name string) func(api.ImportRow) error {
	return func(r api.ImportRow) error {
		row := api.MoveRow{Kind: "mailbox", Name: name + "/" + r.Mailbox, Result: r.Result, Messages: r.Imported, There: r.Duplicates, Failed: r.Failed, Size: r.Size}
		switch r.Result {
		case "failed":
			row = api.MoveRow{Kind: "message", Name: r.Message, Result: "failed", Note: r.Error}
		case "imported":
			row.Result = "moved"
		}
		return m.c.Emit(row)
	}
}

func (m *move) flush(ctx context.Context) error {
	if im := m.imports[m.current]; im != nil {
		return im.flush(ctx)
	}
	return nil
}

func (m *move) drop() {
	for _, im := range m.imports {
		im.drop()
	}
}

// finish reports each mailbox and says whether something was left behind.
func (m *move) finish(ctx context.Context) (map[string]int, error) {
	sum := map[string]int{}
	if err := m.flush(ctx); err != nil {
		return nil, err
	}
	for _, r := range m.rows {
		sum[r.Kind+" "+r.Result]++
	}
	for _, name := range m.order {
		each, err := m.imports[name].finish()
		for k, n := range each {
			sum["messages "+k] += n
		}
		if err != nil && !isPartial(err) {
			return sum, err
		}
	}
	if n := m.failed + sum["messages failed"]; n > 0 {
		return sum, op.Errorf(op.Partial, "%d accounts, aliases or messages were not moved; what is named above as failed", n)
	}
	return sum, nil
}
