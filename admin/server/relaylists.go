package server

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// trustedNetworks lists what the trusted list lets send without login.
func (s *Server) trustedNetworks() (out []string) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil
	}
	for _, p := range pic.Trusted {
		out = append(out, p.String())
	}
	return out
}

func trustedRow(t *model.TrustedServer) api.TrustedRow {
	network := t.Network
	if p, err := netip.ParsePrefix(network); err == nil && p.IsSingleIP() {
		network = p.Addr().String()
	}
	return api.TrustedRow{Name: t.Name, Network: network}
}

func getTrusted(r state.Reader, name string) (*model.TrustedServer, error) {
	return getRow(r, state.TrustedServers, "trusted server", name, "mpctl relay trusted list")
}

func (s *Server) trustedAdd(ctx context.Context, c *Call, in *api.TrustedAddIn) (row api.TrustedRow, err error) {
	t := &model.TrustedServer{Name: in.Name, Network: in.Network, Created: time.Now().Unix()}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.TrustedServers.Has(tx, t.Name); err != nil {
			return err
		} else if has {
			return exists("trusted server", t.Name, "mpctl relay trusted set '"+t.Name+"'")
		}
		if err := t.Validate(); err != nil {
			return err
		}
		row = trustedRow(t)
		diffRows(c, nil, row)
		return state.TrustedServers.Put(tx, t)
	})
	if d := s.mail.State.Current().Delivery; err == nil && d.AuthEnabled && d.SenderMatch && !d.SkipTrusted { // R7.103
		c.Warn("mail from %s may be refused: its senders belong to no login; mpctl delivery auth set --skip-match-trusted on lets it pass", row.Network)
	}
	return row, err
}

func (s *Server) trustedList(_ context.Context, _ *Call, in *api.ListIn) ([]api.TrustedRow, error) {
	out := []api.TrustedRow{}
	for t, err := range state.TrustedServers.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if matches(in.Search, t.Name, t.Network) {
			out = append(out, trustedRow(t))
		}
	}
	return out, nil
}

func (s *Server) trustedSet(ctx context.Context, c *Call, in *api.TrustedSetIn) (row api.TrustedRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		t, err := getTrusted(tx, in.Name)
		if err != nil {
			return err
		}
		before := trustedRow(t)
		assign(&t.Network, in.Network)
		if err := renameRow(tx, state.TrustedServers, &t.Name, in.Rename, "trusted server", "mpctl relay trusted list"); err != nil {
			return err
		}
		if err := t.Validate(); err != nil {
			return err
		}
		row = trustedRow(t)
		diffRows(c, before, row)
		return state.TrustedServers.Put(tx, t)
	})
	return row, err
}

// renameRow frees a row's name for another one, which nobody may have.
func renameRow[T any](tx *state.Tx, t *state.Table[T], name, to *string, what, list string) error {
	if to == nil || *to == *name {
		return nil
	}
	if has, err := t.Has(tx, *to); err != nil {
		return err
	} else if has {
		return exists(what, *to, list)
	}
	if err := t.Delete(tx, *name); err != nil {
		return err
	}
	*name = *to
	return nil
}

func (s *Server) trustedDelete(ctx context.Context, c *Call, in *api.TrustedIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		t, err := getTrusted(tx, in.Name)
		if err != nil {
			return err
		}
		diffRows(c, trustedRow(t), nil)
		return state.TrustedServers.Delete(tx, in.Name)
	})
}

func relayDomainRow(d *model.RelayDomain) api.RelayDomainRow {
	return api.RelayDomainRow{Name: d.Name, Domain: d.Domain}
}

func getRelayDomain(r state.Reader, name string) (*model.RelayDomain, error) {
	return getRow(r, state.RelayDomains, "relay domain", name, "mpctl relay domain list")
}

// putRelayDomain stores a domain that is neither hosted here nor in the list twice.
func putRelayDomain(tx *state.Tx, d *model.RelayDomain) error {
	d.Domain = asciiDomain(d.Domain)
	if err := d.Validate(); err != nil {
		return err
	}
	if _, err := getDomain(tx, d.Domain); err == nil {
		return refused(d.Domain+" is hosted here: its mail stays", "mpctl domain list")
	}
	all, err := state.RelayDomains.List(tx, "")
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(all, func(o *model.RelayDomain) bool { return o.Domain == d.Domain && o.Name != d.Name }); i >= 0 {
		return refused(d.Domain+" is in the list already, as "+all[i].Name, "mpctl relay domain list")
	}
	return state.RelayDomains.Put(tx, d)
}

func (s *Server) relayDomainAdd(ctx context.Context, c *Call, in *api.RelayDomainAddIn) (row api.RelayDomainRow, err error) {
	d := &model.RelayDomain{Name: in.Name, Domain: in.Domain, Created: time.Now().Unix()}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.RelayDomains.Has(tx, d.Name); err != nil {
			return err
		} else if has {
			return exists("relay domain", d.Name, "mpctl relay domain set '"+d.Name+"'")
		}
		if err := putRelayDomain(tx, d); err != nil {
			return err
		}
		row = relayDomainRow(d)
		diffRows(c, nil, row)
		return nil
	})
	if err == nil && !c.DryRun {
		c.Warn("check that its mail comes here and finds its own server: mpctl check relay-domain %s", row.Domain)
	}
	s.warnRelayed(c, func(_ *model.TLSPolicy, domain string) bool { return err == nil && domain == row.Domain })
	return row, err
}

func (s *Server) relayDomainList(_ context.Context, _ *Call, in *api.ListIn) ([]api.RelayDomainRow, error) {
	out := []api.RelayDomainRow{}
	for d, err := range state.RelayDomains.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if matches(in.Search, d.Name, d.Domain) {
			out = append(out, relayDomainRow(d))
		}
	}
	return out, nil
}

func (s *Server) relayDomainSet(ctx context.Context, c *Call, in *api.RelayDomainSetIn) (row api.RelayDomainRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getRelayDomain(tx, in.Name)
		if err != nil {
			return err
		}
		before := relayDomainRow(d)
		assign(&d.Domain, in.Domain)
		if err := renameRow(tx, state.RelayDomains, &d.Name, in.Rename, "relay domain", "mpctl relay domain list"); err != nil {
			return err
		}
		if err := putRelayDomain(tx, d); err != nil {
			return err
		}
		row = relayDomainRow(d)
		diffRows(c, before, row)
		return nil
	})
	s.warnRelayed(c, func(_ *model.TLSPolicy, domain string) bool { return err == nil && domain == row.Domain })
	return row, err
}

func (s *Server) relayDomainDelete(ctx context.Context, c *Call, in *api.RelayDomainIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getRelayDomain(tx, in.Name)
		if err != nil {
			return err
		}
		diffRows(c, relayDomainRow(d), nil)
		return state.RelayDomains.Delete(tx, in.Name)
	})
}
