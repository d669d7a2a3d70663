package server

import (
	"context"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/exchange"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) importExchangeScript(context.Context, *Call, *op.None) (api.ExchangeScriptOut, error) {
	return api.ExchangeScriptOut{Text: exchange.Script}, nil
}

// parseExchange reads what ExchangeConfigExport.ps1 wrote.
func parseExchange(text string) (*exchange.Export, error) {
	file, err := exchange.Parse(text)
	if err != nil {
		return nil, op.Errorf(op.Usage, "this is no export of Exchange settings; nothing was changed: %v", err).With("mpctl import exchange-script > " + exchange.ScriptFile)
	}
	return file, nil
}

// importExchange takes over settings of Exchange, all of them in one transaction (R3.67–R3.71).
func (s *Server) importExchange(ctx context.Context, c *Call, in *api.ImportExchangeIn) (rows []api.ExchangeRow, err error) {
	file, err := parseExchange(in.Text)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	_, err = s.changeSettingsIn(ctx, c, func(tx *state.Tx, set *model.Settings) error {
		p := &exchangePlan{tx: tx, set: set, now: now, file: file}
		err := p.run()
		rows = p.rows
		c.Diff(p.diff...)
		return err
	})
	if err != nil {
		return nil, err
	}
	warnExchange(c, rows)
	return rows, nil
}

// setupFromExchange makes a system with settings of Exchange (R2.28, R3.66).
func (s *Server) setupFromExchange(ctx context.Context, c *Call, in *api.SetupFromExchangeIn) ([]api.ExchangeRow, error) {
	file, err := parseExchange(in.Text)
	if err != nil {
		return nil, err
	}
	if in.Domain == "" {
		for _, o := range file.All("AcceptedDomain") {
			if o.On("Default") {
				in.Domain = o.Value("DomainName")
			}
		}
	}
	if in.Domain == "" {
		return nil, op.Errorf(op.Usage, "the file names no default accepted domain: give --domain")
	}
	su, set, err := s.planSetUp(ctx, &api.SetupNewIn{Domain: in.Domain, Hostname: in.Hostname, Interface: in.Interface, Resolver: in.Resolver, Admin: in.Admin, Password: in.Password})
	if err != nil {
		return nil, err
	}
	def, now := model.DefaultSettings(), time.Now()
	first := []api.ExchangeRow{}
	for _, d := range model.DiffSettings(&def, set) {
		first = append(first, api.ExchangeRow{Section: exchangeSetUp, Result: api.ExchangeSet, Setting: d.Field, Old: d.Old, New: d.New})
	}
	if in.Admin != "" {
		first = append(first, api.ExchangeRow{Section: exchangeSetUp, Result: api.ExchangeSet, Setting: "administrator", New: in.Admin})
	}
	var rows []api.ExchangeRow
	work := func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		p := &exchangePlan{tx: tx, set: set, now: now, file: file, resolvers: len(in.Resolver) > 0}
		if err := p.run(); err != nil {
			return err
		}
		rows = append(first[:len(first):len(first)], p.rows...)
		c.diff = nil
		for _, r := range rows {
			if r.Result == api.ExchangeSet {
				c.Diff(op.FieldDiff{Field: r.Setting, Old: r.Old, New: r.New})
			}
		}
		if err := s.mail.Listeners.Probe(set); err != nil {
			return err
		}
		return state.StoreSettings(tx, set)
	}
	if c.DryRun {
		err := s.mail.State.Try(func(tx *state.Tx) error {
			if err := setUpRows(tx, set, now, nil); err != nil {
				return err
			}
			return work(tx)
		})
		warnExchange(c, rows)
		return rows, err
	}
	_, err = SetUpSystem(ctx, s.mail.State, su, now, func(tx *state.Tx) error {
		if err := work(tx); err != nil {
			return err
		}
		return s.putEvent(tx, c)
	})
	if err != nil {
		return nil, err
	}
	c.logged = true
	warnExchange(c, rows)
	s.warnDNS(ctx, c, set)
	return rows, nil
}

// warnExchange tells what is left to do by hand.
func warnExchange(c *Call, rows []api.ExchangeRow) {
	left := 0
	for _, r := range rows {
		if r.Result == api.ExchangeLeft {
			left++
		}
		if r.Setting == "relay trusted server" && r.Result == api.ExchangeSet {
			c.Warn("%s may send mail to everybody without login; mpctl relay trusted delete takes that back", r.New)
		}
	}
	if left > 0 {
		c.Warn("%d of %d settings of Exchange are not taken over; the list says why", left, len(rows))
	}
}
