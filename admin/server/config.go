package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func configRow(set *model.Settings, k model.SettingKey) api.ConfigRow {
	def := model.DefaultSettings()
	v, _ := set.Get(k.Name)
	d, _ := def.Get(k.Name)
	if k.Secret && v != "" {
		v = "********"
	}
	row := api.ConfigRow{Key: k.Name, Value: v, Unit: k.Unit, Default: d, Help: k.Help, Allowed: strings.Join(k.Enum, ", ")}
	if k.Min != 0 || k.Max != 0 {
		row.Allowed = fmt.Sprintf("%d to %d", k.Min, k.Max)
	}
	if k.ReadOnly {
		row.Allowed = "read-only"
	}
	return row
}

func (s *Server) configShow(_ context.Context, _ *Call, in *api.ConfigShowIn) ([]api.ConfigRow, error) {
	out := []api.ConfigRow{}
	for _, k := range model.SettingKeys() {
		if matches(in.Prefix, k.Name) {
			out = append(out, configRow(s.mail.State.Current(), k))
		}
	}
	return out, nil
}

func (s *Server) configGet(_ context.Context, _ *Call, in *api.ConfigGetIn) (api.ConfigValue, error) {
	k, err := model.FindSetting(in.Key)
	if err != nil {
		e := op.Errorf(op.NotFound, "there is no setting %q", in.Key).With("mpctl config show")
		if near := nearSetting(in.Key); near != "" {
			e.Remedy = "mpctl config get " + near
		}
		return api.ConfigValue{}, e
	}
	return api.ConfigValue{Value: configRow(s.mail.State.Current(), k).Value + "\n"}, nil
}

// changeSettings changes settings, checks that this node can do what they ask for, and tells the difference.
func (s *Server) changeSettings(ctx context.Context, c *Call, fn func(*model.Settings) error) ([]model.FieldDiff, error) {
	return s.changeSettingsIn(ctx, c, func(_ *state.Tx, set *model.Settings) error { return fn(set) })
}

// changeSettingsIn is changeSettings for what changes rows of tables, too, in the same transaction.
func (s *Server) changeSettingsIn(ctx context.Context, c *Call, fn func(*state.Tx, *model.Settings) error) ([]model.FieldDiff, error) {
	var diff []model.FieldDiff
	err := s.change(ctx, c, func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		old := *set
		if err := fn(tx, set); err != nil {
			return err
		}
		if err := set.Validate(); err != nil {
			return err
		}
		if set.System.SetUp != 0 && (!slices.Equal(portList(&old), portList(set)) || old.System.Interface != set.System.Interface) {
			if err := s.mail.Listeners.Probe(set); err != nil {
				return err
			}
		}
		if bind := s.mail.Listeners.Bind; bind != "" && old.System.Interface != set.System.Interface {
			return refused("the services of this node listen on "+bind+", because its configuration says so (bind)", "take bind out of the configuration file, restart mailplusd, and repeat this")
		}
		diff = model.DiffSettings(&old, set)
		for _, d := range diff {
			c.Diff(op.FieldDiff(d))
		}
		return state.StoreSettings(tx, set)
	})
	if err == nil && !c.DryRun {
		s.mail.Listeners.Apply(s.mail.State.Current())
	}
	return diff, err
}

// nearSetting is the setting that an unknown one was most likely meant to be, or "".
func nearSetting(name string) string {
	var all []string
	for _, k := range model.SettingKeys() {
		all = append(all, k.Name)
	}
	return op.Nearest(name, all)
}

func portList(set *model.Settings) (out []string) {
	for name, port := range set.Services.Ports() {
		out = append(out, fmt.Sprint(name, port))
	}
	slices.Sort(out)
	return out
}

func (s *Server) configSet(ctx context.Context, c *Call, in *api.ConfigSetIn) ([]api.ConfigRow, error) {
	var keys []model.SettingKey
	_, err := s.changeSettings(ctx, c, func(set *model.Settings) error {
		keys = nil
		for _, kv := range in.Values {
			name, value, ok := strings.Cut(kv, "=")
			if !ok {
				return op.Errorf(op.Usage, "%q is not KEY=VALUE", kv)
			}
			k, err := model.FindSetting(strings.TrimSpace(name))
			if err != nil {
				e := op.AsUsage(err)
				if near := nearSetting(strings.TrimSpace(name)); near != "" {
					return op.Errorf(op.Usage, "%v", e).With("mpctl config set " + near + "=" + value)
				}
				return e
			}
			if k.ReadOnly {
				return refused(k.Name+" is set by the system only", "")
			}
			if err := set.Set(k.Name, strings.TrimSpace(value)); err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return nil
	})
	out := []api.ConfigRow{}
	for _, k := range keys {
		out = append(out, configRow(s.mail.State.Current(), k))
	}
	return out, err
}

func (s *Server) configExport(context.Context, *Call, *op.None) (api.ConfigText, error) {
	set := s.mail.State.Current()
	var b strings.Builder
	fmt.Fprintf(&b, "# mailplusd settings of %s, %s\n", set.System.Hostname, time.Now().Format(time.RFC3339))
	values := set.Values()
	for _, k := range model.SettingKeys() {
		if v, ok := values[k.Name]; ok && !k.ReadOnly && !k.Secret {
			fmt.Fprintf(&b, "%s = %s\n", k.Name, v)
		}
	}
	return api.ConfigText{Text: b.String()}, nil
}

// parseConfig reads KEY = VALUE lines; settings that are not named take their defaults.
func parseConfig(text string, set *model.Settings) error {
	def := model.DefaultSettings()
	for _, k := range model.SettingKeys() {
		if !k.ReadOnly && !k.Secret {
			v, _ := def.Get(k.Name)
			if err := set.Set(k.Name, v); err != nil && v != "" {
				return err
			}
		}
	}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return op.Errorf(op.Usage, "line %d: %.60q is not KEY = VALUE", n+1, line)
		}
		k, err := model.FindSetting(strings.TrimSpace(name))
		if err == nil && k.ReadOnly {
			continue
		}
		if err == nil {
			err = set.Set(k.Name, strings.TrimSpace(value))
		}
		if err != nil {
			return op.Errorf(op.Usage, "line %d: %v", n+1, err)
		}
	}
	return nil
}

func (s *Server) configImport(ctx context.Context, c *Call, in *api.ConfigImportIn) ([]api.ConfigRow, error) {
	diff, err := s.changeSettings(ctx, c, func(set *model.Settings) error { return parseConfig(in.Text, set) })
	out := []api.ConfigRow{}
	for _, d := range diff {
		if k, kerr := model.FindSetting(d.Field); kerr == nil {
			out = append(out, configRow(s.mail.State.Current(), k))
		}
	}
	return out, err
}

func (s *Server) configDiff(_ context.Context, _ *Call, in *api.ConfigImportIn) ([]api.DiffRow, error) {
	now := *s.mail.State.Current()
	other := now
	if err := parseConfig(in.Text, &other); err != nil {
		return nil, err
	}
	out := []api.DiffRow{}
	for _, d := range model.DiffSettings(&now, &other) {
		out = append(out, api.DiffRow{Key: d.Field, Old: d.Old, New: d.New})
	}
	return out, nil
}
