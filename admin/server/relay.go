package server

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/vault"
)

// asciiHost gives a host name as it is looked up; addresses stay.
func asciiHost(host string) string {
	host = strings.TrimSpace(host)
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return a.String()
	}
	return asciiDomain(host)
}

func (s *Server) relayOut(set *model.Settings) (api.RelayOut, error) {
	r := set.Relay
	rules, err := state.RelayRules.List(s.mail.State, "")
	out := api.RelayOut{Mode: r.Mode, Host: r.Host, Port: r.Port, TLS: r.TLS, Verify: r.Verify, Auth: r.Auth, User: r.User, Password: "not set", Rules: len(rules), DANE: s.daneState(set)}
	if r.Password != "" {
		out.Password = "set"
		if _, uerr := s.mail.Vault.Unseal(mail.RelaySecret, r.Password); errors.Is(uerr, vault.ErrNoKey) {
			out.Password = "not readable on this node"
		}
	}
	return out, err
}

func (s *Server) relayShow(_ context.Context, c *Call, _ *op.None) (api.RelayOut, error) {
	out, err := s.relayOut(s.mail.State.Current())
	if strings.HasPrefix(out.Password, "not readable") {
		c.Warn("this node lacks the key of the relay password; set it again: mpctl relay set --password-file FILE")
	}
	return out, err
}

func (s *Server) relaySet(ctx context.Context, c *Call, in *api.RelaySetIn) (out api.RelayOut, err error) {
	sealed, err := s.mail.Vault.Seal(mail.RelaySecret, string(in.Password))
	if err != nil {
		return out, err
	}
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		r, before := &set.Relay, set.Relay
		assign(&r.Mode, in.Mode)
		if in.Host != nil {
			r.Host = asciiHost(*in.Host)
		}
		assign(&r.Port, in.Port)
		assign(&r.TLS, in.TLS)
		assign(&r.Auth, in.Auth)
		if in.Verify != nil {
			r.Verify = *in.Verify
		} else if r.Host != before.Host || verifies(r.TLS) && !verifies(before.TLS) {
			r.Verify = verifies(r.TLS) // what is set up now is verified; what was there before stays as it is
		}
		assign(&r.User, in.User)
		if sealed != "" {
			r.Password = sealed
		}
		if err := r.Validate(); err != nil {
			return err
		}
		out, err = s.relayOut(set)
		return err
	})
	if err != nil {
		return out, err
	}
	if out.Auth && out.TLS == model.RelayNoTLS {
		c.Warn("the password goes to %s in clear; --tls starttls, require or wrapper protects it", out.Host)
	}
	warnVerify(c, out.TLS, out.Verify, in.Verify)
	if out.Mode == model.RelayMulti && out.Rules == 0 {
		c.Warn("there are no rules yet, so everything goes direct: mpctl relay rule add")
	}
	if out.Mode != model.RelayMulti && out.Rules > 0 && in.Mode != nil {
		c.Warn("the %d rules have no effect in mode %s", out.Rules, out.Mode)
	}
	return out, nil
}

// verifies tells whether a relay's certificate can be verified: only where nothing goes in clear.
func verifies(tls string) bool { return tls == model.RelayRequire || tls == model.RelayWrapper }

// warnVerify tells of what verifying does not protect from.
func warnVerify(c *Call, tls string, verify bool, asked *bool) {
	switch {
	case verify && !verifies(tls) && asked != nil:
		c.Warn("with --tls %s the certificate is not looked at, as the mail would go in clear all the same; --tls require or wrapper", tls)
	case !verify && verifies(tls) && asked != nil:
		c.Warn("anybody on the way can pass for the relay host; mpctl delivery tls ca add NAME --cert FILE trusts who signed its certificate, then --verify on")
	}
}

func (s *Server) ruleRow(r *model.RelayRule) api.RelayRuleRow {
	return api.RelayRuleRow{Name: r.Name, Kind: r.Kind, Host: r.Host, Port: r.Port, TLS: r.TLS, Verify: r.Verify, User: r.User, Address: r.Address, Domain: r.Domain,
		InForce: s.mail.State.Current().Relay.Mode == model.RelayMulti}
}

func getRow[T any](r state.Reader, t *state.Table[T], what, name, list string) (*T, error) {
	row, err := t.Get(r, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, notFound(what, name, list)
	}
	return row, err
}

func getRule(r state.Reader, name string) (*model.RelayRule, error) {
	return getRow(r, state.RelayRules, "relay rule", name, "mpctl relay rule list")
}

// putRule stores a rule that contradicts no other: an address or domain has one host per kind.
func putRule(tx *state.Tx, r *model.RelayRule) error {
	for i, d := range r.Domain {
		r.Domain[i] = asciiDomain(strings.TrimPrefix(d, "@"))
	}
	r.Host = asciiHost(r.Host)
	if err := r.Validate(); err != nil {
		return err
	}
	others, err := state.RelayRules.List(tx, "")
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Name == r.Name || o.Kind != r.Kind {
			continue
		}
		for _, x := range append(slices.Clone(r.Address), r.Domain...) {
			if slices.Contains(o.Address, x) || slices.Contains(o.Domain, x) {
				return refused("the rule "+o.Name+" is for "+r.Kind+" "+x+" already", "mpctl relay rule set '"+o.Name+"' --remove "+x)
			}
		}
	}
	return state.RelayRules.Put(tx, r)
}

func (s *Server) relayRuleAdd(ctx context.Context, c *Call, in *api.RelayRuleAddIn) (row api.RelayRuleRow, err error) {
	r := &model.RelayRule{Name: in.Name, Kind: in.Kind, Host: in.Host, Port: in.Port, TLS: in.TLS, User: in.User, Address: in.Address, Domain: in.Domain, Verify: verifies(in.TLS), Created: time.Now().Unix()}
	assign(&r.Verify, in.Verify)
	if r.Password, err = s.mail.Vault.Seal(mail.RuleSecret(in.Name), string(in.Password)); err != nil {
		return row, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if has, err := state.RelayRules.Has(tx, r.Name); err != nil {
			return err
		} else if has {
			return exists("relay rule", r.Name, "mpctl relay rule set '"+r.Name+"'")
		}
		if err := putRule(tx, r); err != nil {
			return err
		}
		row = s.ruleRow(r)
		diffRows(c, nil, row)
		return nil
	})
	if err == nil {
		warnVerify(c, row.TLS, row.Verify, in.Verify)
	}
	if err == nil && !row.InForce {
		c.Warn("rules have no effect before mpctl relay set --mode multi")
	}
	return row, err
}

func (s *Server) relayRuleList(_ context.Context, _ *Call, in *api.ListIn) ([]api.RelayRuleRow, error) {
	out := []api.RelayRuleRow{}
	for r, err := range state.RelayRules.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		if matches(in.Search, r.Name, r.Kind, r.Host, r.Address, r.Domain) {
			out = append(out, s.ruleRow(r))
		}
	}
	return out, nil
}

func (s *Server) relayRuleShow(_ context.Context, _ *Call, in *api.RelayRuleIn) (api.RelayRuleRow, error) {
	r, err := getRule(s.mail.State, in.Name)
	if err != nil {
		return api.RelayRuleRow{}, err
	}
	return s.ruleRow(r), nil
}

func (s *Server) relayRuleSet(ctx context.Context, c *Call, in *api.RelayRuleSetIn) (row api.RelayRuleRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		r, err := getRule(tx, in.Name)
		if err != nil {
			return err
		}
		before := s.ruleRow(r)
		before.Address, before.Domain = slices.Clone(r.Address), slices.Clone(r.Domain)
		if err := s.changeRule(tx, r, in); err != nil {
			return err
		}
		row = s.ruleRow(r)
		diffRows(c, before, row)
		return nil
	})
	if err == nil {
		warnVerify(c, row.TLS, row.Verify, in.Verify)
	}
	return row, err
}

// changeRule takes over what is given. The secret is bound to the rule's name.
func (s *Server) changeRule(tx *state.Tx, r *model.RelayRule, in *api.RelayRuleSetIn) error {
	assign(&r.Kind, in.Kind)
	before := *r
	assign(&r.Host, in.Host)
	assign(&r.Port, in.Port)
	assign(&r.TLS, in.TLS)
	assign(&r.User, in.User)
	if in.Verify != nil {
		r.Verify = *in.Verify
	} else if r.Host != before.Host || verifies(r.TLS) && !verifies(before.TLS) {
		r.Verify = verifies(r.TLS)
	}
	secret := string(in.Password)
	if r.User == "" {
		r.Password, secret = "", ""
	}
	if in.Rename != nil && *in.Rename != r.Name && secret == "" && r.Password != "" {
		var err error
		if secret, err = s.mail.Vault.Unseal(mail.RuleSecret(r.Name), r.Password); err != nil {
			return refused("the rule's password can't be read on this node: "+err.Error(), "give it again with --password-file")
		}
	}
	if err := renameRow(tx, state.RelayRules, &r.Name, in.Rename, "relay rule", "mpctl relay rule list"); err != nil {
		return err
	}
	if secret != "" {
		var err error
		if r.Password, err = s.mail.Vault.Seal(mail.RuleSecret(r.Name), secret); err != nil {
			return err
		}
	}
	for _, x := range in.Add {
		if strings.Contains(strings.TrimPrefix(x, "@"), "@") {
			r.Address = append(r.Address, x)
		} else {
			r.Domain = append(r.Domain, x)
		}
	}
	for _, x := range in.Remove {
		n := len(r.Address) + len(r.Domain)
		same := func(y string) bool { return strings.EqualFold(y, strings.TrimPrefix(x, "@")) }
		r.Address, r.Domain = slices.DeleteFunc(r.Address, same), slices.DeleteFunc(r.Domain, same)
		if len(r.Address)+len(r.Domain) == n {
			return notFound("address or domain of the rule", x, "mpctl relay rule show '"+r.Name+"'")
		}
	}
	return putRule(tx, r)
}

func (s *Server) relayRuleDelete(ctx context.Context, c *Call, in *api.RelayRuleIn) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		r, err := getRule(tx, in.Name)
		if err != nil {
			return err
		}
		diffRows(c, s.ruleRow(r), nil)
		return state.RelayRules.Delete(tx, in.Name)
	})
}
