package state

import (
	"context"
	"errors"
	"sync/atomic"

	"mailplusd/mail/model"
)

// settingsRow is the only row of the settings table. Unknown names (of a newer version) are kept.
const settingsRow = "settings"

// LoadSettings reads all settings as r sees them.
func LoadSettings(r Reader) (*model.Settings, error) {
	s := model.DefaultSettings()
	row, err := Settings.Get(r, settingsRow)
	if errors.Is(err, ErrNotFound) {
		return &s, nil
	}
	if err != nil {
		return nil, err
	}
	for name, value := range row.Values {
		if _, err := model.FindSetting(name); err != nil {
			continue // of a newer version: kept by StoreSettings
		}
		if err := s.Set(name, value); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

// StoreSettings validates and stores all settings.
func StoreSettings(tx *Tx, s *model.Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	row := &Section{Name: settingsRow, Values: s.Values()}
	old, err := Settings.Get(tx, settingsRow)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if old != nil {
		for name, value := range old.Values {
			if _, err := model.FindSetting(name); err != nil {
				row.Values[name] = value
			}
		}
	}
	return Settings.Put(tx, row)
}

// ChangeSettings reads, changes and stores settings in one go.
func (s *State) ChangeSettings(ctx context.Context, fn func(*model.Settings) error) error {
	return s.Update(ctx, func(tx *Tx) error {
		set, err := LoadSettings(tx)
		if err != nil {
			return err
		}
		if err := fn(set); err != nil {
			return err
		}
		return StoreSettings(tx, set)
	})
}

type cachedSettings struct {
	version uint64
	set     *model.Settings
}

// SettingsCache keeps the decoded settings until a row changes.
type settingsCache struct {
	p atomic.Pointer[cachedSettings]
}

// Current gives the settings in force. The value is shared: don't change it.
func (s *State) Current() *model.Settings {
	version := s.RowsVersion()
	if c := s.settings.p.Load(); c != nil && c.version == version {
		return c.set
	}
	set, err := LoadSettings(s)
	if err != nil {
		s.log.Error("settings can't be read", "err", err)
		if c := s.settings.p.Load(); c != nil {
			return c.set
		}
		def := model.DefaultSettings()
		return &def
	}
	s.settings.p.Store(&cachedSettings{version, set})
	return set
}

// Source is the account source in force, as r sees it.
func Source(r Reader) (string, error) {
	set, err := LoadSettings(r)
	if err != nil {
		return "", err
	}
	return set.System.Source, nil
}

// GetUser reads a user of the account source in force; ErrNotFound when there is none.
func GetUser(r Reader, name string) (*model.User, error) {
	source, err := Source(r)
	if err != nil {
		return nil, err
	}
	return Users.Get(r, model.SourceKey(source, model.FoldName(name)))
}

// GetGroup reads a group of the account source in force; ErrNotFound when there is none.
func GetGroup(r Reader, name string) (*model.Group, error) {
	source, err := Source(r)
	if err != nil {
		return nil, err
	}
	return Groups.Get(r, model.SourceKey(source, model.FoldName(name)))
}
