package server

import (
	"context"
	"errors"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func bccRow(b *model.AutoBCC) api.BCCRow {
	return api.BCCRow{Name: b.Name, Domain: b.Domain, Kind: b.Kind, Match: b.Match, To: b.To.String()}
}

func getBCC(r state.Reader, d *model.Domain, name string) (*model.AutoBCC, error) {
	b, err := state.AutoBCCs.Get(r, d.Name+"/"+name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound("auto-BCC rule", name, "mpctl domain autobcc list "+d.Name)
	}
	return b, err
}

// putBCC stores a rule whose target exists.
func putBCC(tx *state.Tx, d *model.Domain, b *model.AutoBCC, to *string) error {
	if to != nil {
		var err error
		if b.To, err = parseMember(tx, d, *to); err != nil {
			return err
		}
	}
	if b.To.Kind == model.AliasGroup {
		return refused("a copy goes to a user, an alias or an address", "mpctl domain alias add "+d.Name+" NAME "+b.To.String())
	}
	if err := b.Validate(); err != nil {
		return err
	}
	return state.AutoBCCs.Put(tx, b)
}

func (s *Server) bccAdd(ctx context.Context, c *Call, in *api.BCCAddIn) (row api.BCCRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Domain)
		if err != nil {
			return err
		}
		all, err := state.AutoBCCs.List(tx, d.Name+"/")
		if err != nil {
			return err
		}
		if len(all) >= model.MaxAutoBCC {
			return refused("the domain has as many rules as it can have", "mpctl domain autobcc list "+d.Name)
		}
		if has, err := state.AutoBCCs.Has(tx, d.Name+"/"+in.Name); err != nil {
			return err
		} else if has {
			return exists("auto-BCC rule", in.Name, "mpctl domain autobcc set "+d.Name+" '"+in.Name+"'")
		}
		b := &model.AutoBCC{Domain: d.Name, Name: in.Name, Kind: in.Kind, Match: in.Match, Created: time.Now().Unix()}
		if err := putBCC(tx, d, b, &in.To); err != nil {
			return err
		}
		row = bccRow(b)
		diffRows(c, nil, row)
		return nil
	})
	return row, err
}

func (s *Server) bccList(_ context.Context, _ *Call, in *api.DomainListIn) ([]api.BCCRow, error) {
	d, err := getDomain(s.mail.State, in.Domain)
	if err != nil {
		return nil, err
	}
	out := []api.BCCRow{}
	for b, err := range state.AutoBCCs.All(s.mail.State, d.Name+"/") {
		if err != nil {
			return nil, err
		}
		if row := bccRow(b); matches(in.Search, row.Name, row.Kind, row.Match, row.To) {
			out = append(out, row)
		}
	}
	return out, nil
}

func (s *Server) bccSet(ctx context.Context, c *Call, in *api.BCCSetIn) (row api.BCCRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Domain)
		if err != nil {
			return err
		}
		b, err := getBCC(tx, d, in.Name)
		if err != nil {
			return err
		}
		before := bccRow(b)
		if assign(&b.Kind, in.Kind); b.Kind == model.BCCAll && in.Match == nil {
			b.Match = ""
		}
		assign(&b.Match, in.Match)
		if in.Rename != nil && *in.Rename != b.Name {
			if has, err := state.AutoBCCs.Has(tx, d.Name+"/"+*in.Rename); err != nil {
				return err
			} else if has {
				return exists("auto-BCC rule", *in.Rename, "mpctl domain autobcc list "+d.Name)
			}
			if err := state.AutoBCCs.Delete(tx, d.Name+"/"+b.Name); err != nil {
				return err
			}
			b.Name = *in.Rename
		}
		if err := putBCC(tx, d, b, in.To); err != nil {
			return err
		}
		row = bccRow(b)
		diffRows(c, before, row)
		return nil
	})
	return row, err
}

func (s *Server) bccDelete(ctx context.Context, c *Call, in *api.BCCIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, in.Domain)
		if err != nil {
			return err
		}
		b, err := getBCC(tx, d, in.Name)
		if err != nil {
			return err
		}
		diffRows(c, bccRow(b), nil)
		return state.AutoBCCs.Delete(tx, d.Name+"/"+b.Name)
	})
}

// renameInBCC leads rules to an alias that has another name now.
func renameInBCC(tx *state.Tx, d *model.Domain, from, to string) error {
	rules, err := state.AutoBCCs.List(tx, d.Name+"/")
	if err != nil {
		return err
	}
	for _, b := range rules {
		if b.To.Kind == model.AliasAlias && b.To.Value == from {
			b.To.Value = to
			if err := state.AutoBCCs.Put(tx, b); err != nil {
				return err
			}
		}
	}
	return nil
}
