package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/sender"
	"mailplusd/mail/state"
)

// firstSelector is that of a pair which is made without being asked for.
const firstSelector = "mail"

// keepPublished is how long the public key of a pair that signs no more stays needed: mail waits in
// queues, here and elsewhere, and is verified when it arrives.
func keepPublished(set *model.Settings) time.Duration {
	return max(7*24*time.Hour, time.Duration(set.Queue.LifetimeHours+48)*time.Hour)
}

// getDKIM reads a domain's row; a new one where nothing is set yet.
func getDKIM(r state.Reader, domain string) (*model.DKIM, error) {
	row, err := state.DKIM.Get(r, domain)
	if errors.Is(err, state.ErrNotFound) {
		return &model.DKIM{Domain: domain}, nil
	}
	return row, err
}

// dkimRows shows a domain's pairs, those that sign first.
func (s *Server) dkimRows(d *model.DKIM) []api.DKIMRow {
	var out []api.DKIMRow
	for i := range d.Keys {
		k := &d.Keys[i]
		row := api.DKIMRow{Domain: d.Domain, Signing: d.Enabled, Selector: k.Selector, Algorithm: k.Algorithm, Bits: k.Bits, Created: stamp(k.Created),
			Name: model.DKIMRecordName(k.Selector, d.Domain), Value: k.Record()}
		row.State, row.Until = s.dkimState(d, k)
		if err := s.mail.Signer.Ready(k.Public, k.Private); err != nil {
			row.Problem = err.Error()
		}
		out = append(out, row)
	}
	if len(out) == 0 {
		out = append(out, api.DKIMRow{Domain: d.Domain, State: "none"})
	}
	rank := map[string]int{"signs": 0, "waits": 1, "old": 2, "done": 3}
	slices.SortStableFunc(out, func(a, b api.DKIMRow) int { return rank[a.State] - rank[b.State] })
	return out
}

// dkimState tells what a pair is for, and until when an old one must be in DNS.
func (s *Server) dkimState(d *model.DKIM, k *model.DKIMKey) (is, until string) {
	switch {
	case d.Signs(k):
		return "signs", ""
	case k.Retired == 0:
		return "waits", ""
	}
	end := time.Unix(k.Retired, 0).Add(keepPublished(s.mail.State.Current()))
	if time.Now().After(end) {
		return "done", stamp(end.Unix())
	}
	return "old", stamp(end.Unix())
}

func (s *Server) dkimShow(_ context.Context, _ *Call, in *api.DKIMShowIn) ([]api.DKIMRow, error) {
	out := []api.DKIMRow{}
	if in.Domain != "" {
		d, err := getDomain(s.mail.State, in.Domain)
		if err != nil {
			return nil, err
		}
		row, err := getDKIM(s.mail.State, d.Name)
		return s.dkimRows(row), err
	}
	for d, err := range state.Domains.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		row, err := getDKIM(s.mail.State, d.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, s.dkimRows(row)...)
	}
	return out, nil
}

// changeDKIM changes a domain's row and shows what became of it.
func (s *Server) changeDKIM(ctx context.Context, c *Call, domain string, fn func(*model.Domain, *model.DKIM) error) (out []api.DKIMRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		d, err := getDomain(tx, domain)
		if err != nil {
			return err
		}
		row, err := getDKIM(tx, d.Name)
		if err != nil {
			return err
		}
		before := s.dkimRows(row)
		if err := fn(d, row); err != nil {
			return err
		}
		if err := row.Validate(); err != nil {
			return err
		}
		out = s.dkimRows(row)
		diffKeys(c, before, out)
		return state.DKIM.Put(tx, row)
	})
	return out, err
}

// diffKeys tells what changed of each selector.
func diffKeys(c *Call, before, after []api.DKIMRow) {
	index := func(rows []api.DKIMRow) map[string]api.DKIMRow {
		m := map[string]api.DKIMRow{}
		for _, r := range rows {
			m[r.Selector] = r
		}
		return m
	}
	old, now := index(before), index(after)
	for _, r := range append(slices.Clone(before), after...) {
		a, had := old[r.Selector]
		b, has := now[r.Selector]
		if a == b && had == has || r.Selector == "" {
			continue
		}
		word := func(x api.DKIMRow) string {
			if x.Selector == "" {
				return ""
			}
			return x.State + " " + x.Value
		}
		d := op.FieldDiff{Field: "selector " + r.Selector, Old: word(a), New: word(b)}
		if d.Old != d.New && !slices.Contains(c.diff, d) {
			c.Diff(d)
		}
	}
	if before[0].Signing != after[0].Signing {
		c.Diff(op.FieldDiff{Field: "signing", Old: word(before[0].Signing), New: word(after[0].Signing)})
	}
}

// sealed makes a key of a pair.
func (s *Server) sealed(selector string, p *sender.Pair) (model.DKIMKey, error) {
	private, err := s.mail.Vault.Seal(sender.Use(p.Public), p.Private)
	return model.DKIMKey{Selector: selector, Algorithm: p.Algorithm, Bits: p.Bits, Public: p.Public, Private: private, Created: time.Now().Unix()}, err
}

func (s *Server) generate(selector, algorithm string, bits int) (model.DKIMKey, error) {
	p, err := sender.Generate(algorithm, bits)
	if err != nil {
		return model.DKIMKey{}, err
	}
	return s.sealed(selector, p)
}

func (s *Server) dkimEnable(ctx context.Context, c *Call, in *api.DKIMIn) ([]api.DKIMRow, error) {
	// Made before the transaction, which may be tried more than once.
	key, err := s.generate(firstSelector, model.DKIMRSA, 0)
	if err != nil {
		return nil, err
	}
	var names []string
	out, err := s.changeDKIM(ctx, c, in.Domain, func(d *model.Domain, row *model.DKIM) error {
		if row.Key(row.Selector) == nil { // R8.28
			if row.Selector != "" {
				key.Selector = row.Selector
			}
			row.Selector, row.Keys = key.Selector, append(row.Keys, key)
		}
		row.Enabled = true
		for _, k := range row.Signing() {
			k.Retired = 0
		}
		names = append([]string{d.Name}, d.Additional...)
		return nil
	})
	if err == nil {
		warnPublish(c, names, out)
	}
	return out, err
}

// warnPublish says what must be in DNS for the signatures to be worth anything.
func warnPublish(c *Call, names []string, rows []api.DKIMRow) {
	for _, r := range rows {
		if r.State != "signs" {
			continue
		}
		for _, name := range names {
			c.Warn("receivers can't verify the mail before this is published: %s TXT %q; then mpctl check dns %s", model.DKIMRecordName(r.Selector, name), r.Value, name)
		}
		if r.Problem != "" {
			c.Warn("this node can't sign with %s: %s", r.Selector, r.Problem)
		}
		if r.Algorithm == model.DKIMRSA && r.Bits < sender.DefaultRSABits {
			c.Warn("a key of %d bits is weak and some receivers don't count it: mpctl domain dkim generate %s --bits %d", r.Bits, r.Domain, sender.DefaultRSABits)
		}
	}
	if onlyEd25519(rows) {
		c.Warn("many receivers can't verify Ed25519: let an RSA pair sign, and this one with --also")
	}
}

func onlyEd25519(rows []api.DKIMRow) bool {
	ed := false
	for _, r := range rows {
		if r.State == "signs" && r.Algorithm == model.DKIMRSA {
			return false
		}
		ed = ed || r.State == "signs"
	}
	return ed
}

func (s *Server) dkimDisable(ctx context.Context, c *Call, in *api.DKIMIn) ([]api.DKIMRow, error) {
	out, err := s.changeDKIM(ctx, c, in.Domain, func(_ *model.Domain, row *model.DKIM) error {
		for _, k := range row.Signing() {
			k.Retired = time.Now().Unix()
		}
		row.Enabled = false
		return nil
	})
	if err == nil {
		warnOld(c, out)
	}
	return out, err
}

// warnOld names the records that mail on its way still needs.
func warnOld(c *Call, rows []api.DKIMRow) {
	for _, r := range rows {
		if r.State == "old" {
			c.Warn("leave %s in DNS until %s: mail on its way is signed with it", r.Name, r.Until)
		}
	}
}

func (s *Server) dkimGenerate(ctx context.Context, c *Call, in *api.DKIMGenerateIn) ([]api.DKIMRow, error) {
	key, err := s.generate(in.Selector, in.Algorithm, in.Bits)
	if err != nil {
		return nil, err
	}
	var names []string
	replaced := false
	out, err := s.changeDKIM(ctx, c, in.Domain, func(d *model.Domain, row *model.DKIM) error {
		if key.Selector = in.Selector; key.Selector == "" {
			if key.Selector = row.Selector; key.Selector == "" {
				key.Selector = firstSelector
			}
		}
		if row.Selector == "" {
			row.Selector = key.Selector
		}
		replaced = row.Key(key.Selector) != nil // R8.31
		row.Keys = slices.DeleteFunc(row.Keys, func(k model.DKIMKey) bool { return k.Selector == key.Selector })
		row.Keys = append(row.Keys, key)
		names = append([]string{d.Name}, d.Additional...)
		return nil
	})
	if err != nil {
		return out, err
	}
	if replaced {
		c.Warn("the old pair of %s is deleted: mail that was signed with it can't be verified any more once its TXT record is replaced", key.Selector)
	}
	if k := slices.IndexFunc(out, func(r api.DKIMRow) bool { return r.Selector == key.Selector }); out[k].State == "waits" && out[0].Signing {
		c.Warn("publish %s TXT %q, then let it sign: mpctl domain dkim set %s --selector %s", out[k].Name, out[k].Value, out[k].Domain, key.Selector)
	} else if out[k].State == "waits" {
		c.Warn("signing is off: mpctl domain dkim enable %s", out[k].Domain)
	}
	warnPublish(c, names, out)
	return out, nil
}

func (s *Server) dkimSet(ctx context.Context, c *Call, in *api.DKIMSetIn) ([]api.DKIMRow, error) {
	var imported *sender.Pair
	if in.Key != "" {
		if in.Selector == nil {
			return nil, op.Errorf(op.Usage, "a key needs --selector: the name under which its public half is published")
		}
		var err error
		if imported, err = sender.ParsePEM(string(in.Key)); err != nil {
			return nil, op.Errorf(op.Usage, "%v", err)
		}
	}
	var names []string
	out, err := s.changeDKIM(ctx, c, in.Domain, func(d *model.Domain, row *model.DKIM) error {
		names = append([]string{d.Name}, d.Additional...)
		if imported != nil {
			key, err := s.sealed(*in.Selector, imported)
			if err != nil {
				return err
			}
			row.Keys = slices.DeleteFunc(row.Keys, func(k model.DKIMKey) bool { return k.Selector == *in.Selector })
			row.Keys = append(row.Keys, key)
		}
		if in.Selector != nil {
			if err := selectKey(row, *in.Selector); err != nil {
				return err
			}
		}
		if in.Also != nil {
			if err := alsoKey(row, *in.Also); err != nil {
				return err
			}
		}
		if in.Drop != "" {
			return dropKey(row, in.Drop)
		}
		return nil
	})
	if err == nil && (in.Selector != nil || in.Also != nil) {
		warnPublish(c, names, out)
		warnOld(c, out)
	}
	return out, err
}

// selectKey lets another selector sign. A name without a pair is a new name for the pair in use (R8.26).
func selectKey(row *model.DKIM, selector string) error {
	if err := model.ValidateSelector("selector", selector); err != nil {
		return err
	}
	old := row.Key(row.Selector)
	if row.Key(selector) == nil && old != nil {
		k := *old
		k.Selector, k.Created, k.Retired = selector, time.Now().Unix(), 0
		row.Keys = append(row.Keys, k)
		old = row.Key(row.Selector)
	}
	if row.Also == selector {
		row.Also = ""
	}
	if old != nil && row.Selector != selector && row.Enabled {
		old.Retired = time.Now().Unix()
	}
	if k := row.Key(selector); k != nil {
		k.Retired = 0
	}
	row.Selector = selector
	return nil
}

func alsoKey(row *model.DKIM, selector string) error {
	if k := row.Key(row.Also); k != nil && row.Also != selector && row.Enabled {
		k.Retired = time.Now().Unix()
	}
	row.Also = selector
	if selector == "" {
		return nil
	}
	k := row.Key(selector)
	if k == nil {
		return notFound("key pair", selector, "mpctl domain dkim generate "+row.Domain+" --selector "+selector+" --algorithm ed25519")
	}
	k.Retired = 0
	return nil
}

func dropKey(row *model.DKIM, selector string) error {
	k := row.Key(selector)
	switch {
	case k == nil:
		return notFound("key pair", selector, "mpctl domain dkim show "+row.Domain)
	case row.Signs(k):
		return refused("the pair of "+selector+" signs", "mpctl domain dkim set "+row.Domain+" --selector OTHER, or mpctl domain dkim disable "+row.Domain)
	}
	row.Keys = slices.DeleteFunc(row.Keys, func(k model.DKIMKey) bool { return k.Selector == selector })
	if row.Also == selector {
		row.Also = ""
	}
	if row.Selector == selector {
		row.Selector = ""
	}
	return nil
}

// unsigned tells of keys that this node can't sign with: mail leaves it unsigned.
func (s *Server) unsigned() (out []string) {
	for d, err := range state.DKIM.All(s.mail.State, "") {
		if err != nil {
			return append(out, err.Error())
		}
		for _, k := range d.Signing() {
			if err := s.mail.Signer.Ready(k.Public, k.Private); err != nil {
				out = append(out, "mail of "+d.Domain+" is not signed with "+k.Selector+" by this node: "+err.Error()+" (mpctl domain dkim generate "+d.Domain+" --selector "+k.Selector+")")
			}
		}
	}
	return out
}
