package model

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// SettingKey describes one setting by the tags of its field.
type SettingKey struct {
	Name     string   // such as delivery.max-recipients
	Help     string   //
	Unit     string   //
	Type     string   // bool, int, string, list
	Enum     []string //
	Min, Max int      // of int; both 0: no bounds
	ReadOnly bool     // set by the system only
	Secret   bool     // never shown
	index    []int
}

// SettingKeys lists every setting in the order of Settings.
func SettingKeys() []SettingKey { return settingKeys }

var settingKeys = func() []SettingKey {
	var out []SettingKey
	walkKeys(reflect.TypeOf(Settings{}), "", nil, &out)
	return out
}()

var settingByName = func() map[string]*SettingKey {
	m := make(map[string]*SettingKey, len(settingKeys))
	for i := range settingKeys {
		m[settingKeys[i].Name] = &settingKeys[i]
	}
	return m
}()

func walkKeys(t reflect.Type, prefix string, index []int, out *[]SettingKey) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		at := append(append([]int(nil), index...), i)
		if f.Type.Kind() == reflect.Struct {
			walkKeys(f.Type, prefix+name+".", at, out)
			continue
		}
		k := SettingKey{
			Name: prefix + name, Help: f.Tag.Get("help"), Unit: f.Tag.Get("unit"), index: at,
			ReadOnly: f.Tag.Get("readonly") == "true", Secret: f.Tag.Get("secret") == "true",
		}
		switch f.Type.Kind() {
		case reflect.Bool:
			k.Type = "bool"
		case reflect.Int, reflect.Int64:
			k.Type = "int"
			k.Min, _ = strconv.Atoi(f.Tag.Get("min"))
			k.Max, _ = strconv.Atoi(f.Tag.Get("max"))
		case reflect.Slice:
			k.Type = "list"
		default:
			k.Type = "string"
		}
		if e := f.Tag.Get("enum"); e != "" {
			k.Enum = strings.Split(e, ",")
		}
		*out = append(*out, k)
	}
}

// FindSetting finds a setting's description.
func FindSetting(name string) (SettingKey, error) {
	if k := settingByName[name]; k != nil {
		return *k, nil
	}
	return SettingKey{}, Invalid(name, "there is no such setting; `mpctl config show` lists them")
}

// Get gives a setting's value as text.
func (s *Settings) Get(name string) (string, error) {
	k, err := FindSetting(name)
	if err != nil {
		return "", err
	}
	v := reflect.ValueOf(s).Elem().FieldByIndex(k.index)
	switch k.Type {
	case "bool":
		if v.Bool() {
			return "on", nil
		}
		return "off", nil
	case "int":
		return strconv.FormatInt(v.Int(), 10), nil
	case "list":
		return strings.Join(v.Interface().([]string), ","), nil
	}
	return v.String(), nil
}

// Set reads a setting from text, checked against its bounds. Rules between settings are Validate's.
func (s *Settings) Set(name, value string) error {
	k, err := FindSetting(name)
	if err != nil {
		return err
	}
	v := reflect.ValueOf(s).Elem().FieldByIndex(k.index)
	switch k.Type {
	case "bool":
		switch strings.ToLower(value) {
		case "on", "true", "yes", "1":
			v.SetBool(true)
		case "off", "false", "no", "0":
			v.SetBool(false)
		default:
			return Invalid(name, "%q is neither on nor off", value)
		}
	case "int":
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			return Invalid(name, "%q is no whole number", value)
		}
		if (k.Min != 0 || k.Max != 0) && (n < k.Min || n > k.Max) {
			return Invalid(name, "%d is outside %d to %d%s", n, k.Min, k.Max, unit(k.Unit))
		}
		v.SetInt(int64(n))
	case "list":
		var list []string
		for _, item := range strings.Split(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		if len(k.Enum) > 0 && !contains(k.Enum, value) {
			return Invalid(name, "%q is not one of %s", value, strings.Join(k.Enum, ", "))
		}
		v.SetString(value)
	}
	return nil
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Validate checks every value against its bounds and every section's rules. The error names the
// section's field.
func (s *Settings) Validate() error {
	v := reflect.ValueOf(s).Elem()
	for i := range settingKeys {
		k := &settingKeys[i]
		if n := v.FieldByIndex(k.index); k.Type == "int" && (k.Min != 0 || k.Max != 0) && (n.Int() < int64(k.Min) || n.Int() > int64(k.Max)) {
			return Invalid(k.Name, "%d is outside %d to %d%s", n.Int(), k.Min, k.Max, unit(k.Unit))
		}
	}
	for i := range v.NumField() {
		section, ok := v.Field(i).Addr().Interface().(interface{ Validate() error })
		if !ok {
			continue
		}
		if err := section.Validate(); err != nil {
			name := v.Type().Field(i).Tag.Get("key")
			if fe, ok := err.(*FieldError); ok && !strings.Contains(fe.Field, ".") {
				return &FieldError{Field: name + "." + fe.Field, Reason: fe.Reason}
			}
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Values gives the settings that differ from the defaults, by name.
func (s *Settings) Values() map[string]string {
	def := DefaultSettings()
	out := map[string]string{}
	for _, k := range settingKeys {
		v, _ := s.Get(k.Name)
		if d, _ := def.Get(k.Name); d != v {
			out[k.Name] = v
		}
	}
	return out
}

// DiffSettings lists what differs, secrets masked, in the order of the names.
func DiffSettings(old, new *Settings) []FieldDiff {
	var out []FieldDiff
	for _, k := range settingKeys {
		a, _ := old.Get(k.Name)
		b, _ := new.Get(k.Name)
		if a == b {
			continue
		}
		if k.Secret {
			a, b = mask(a), mask(b)
		}
		out = append(out, FieldDiff{Field: k.Name, Old: a, New: b})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Field < out[j].Field })
	return out
}

func mask(s string) string {
	if s == "" {
		return ""
	}
	return "********"
}
