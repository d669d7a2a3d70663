package state

import (
	"bytes"
	"errors"

	"mailplusd/mail/model"
)

// rowsAllowed refuses settings while they are read-only. It goes by the tables that the keys
// belong to, not by what the proposer says of them; a table that is not known is settings.
func (a *apply) rowsAllowed(op *Rows) error {
	readOnly := a.rule().settingsAllowed()
	if readOnly == nil {
		return nil
	}
	for _, p := range op.Put {
		if !settingsKey(p.Key) {
			continue
		}
		if op.Class != ClassUser {
			return readOnly
		}
		if same, err := a.unchanged(&p); err != nil {
			return err
		} else if !same {
			return readOnly
		}
	}
	for _, k := range op.Delete {
		if settingsKey(k) {
			return readOnly
		}
	}
	return nil
}

func settingsKey(key []byte) bool {
	if len(key) < 2 || key[0] != spaceRow && key[0] != spaceIndex {
		return true
	}
	t := tableByID(key[1])
	return t == nil || t.class() == ClassSettings
}

// unchanged tells whether a put leaves a settings row as it is, except for the password of a user.
func (a *apply) unchanged(p *RowPut) (bool, error) {
	old, err := a.get(p.Key)
	if err != nil || old == nil {
		return false, err
	}
	if p.Plain {
		return bytes.Equal(old, p.Value), nil
	}
	if len(old) < 8 {
		return false, nil
	}
	if bytes.Equal(old[8:], p.Value) {
		return true, nil
	}
	if p.Key[1] != Users.ID {
		return false, nil
	}
	var before, after model.User
	if err := errors.Join(decMode.Unmarshal(old[8:], &before), decMode.Unmarshal(p.Value, &after)); err != nil {
		return false, nil
	}
	before.Hash, after.Hash = "", ""
	x, err := encMode.Marshal(&before)
	if err != nil {
		return false, err
	}
	y, err := encMode.Marshal(&after)
	return bytes.Equal(x, y), err
}

// putRow stores a row that the state machine makes itself.
func putRow[T any](a *apply, t *Table[T], row *T) error {
	v, err := encMode.Marshal(row)
	if err != nil {
		return err
	}
	return t.replace(a, t.Key(row), v)
}

// getRow reads a row as this entry sees it; nil when there is none.
func getRow[T any](a *apply, t *Table[T], key string) (*T, error) {
	v, err := a.get(t.rowKey(key))
	if err != nil {
		return nil, err
	}
	row, _, err := t.decode(v)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return row, err
}

// replace implements anyTable. A unique value that another row has stays with that row.
func (t *Table[T]) replace(a *apply, key string, value []byte) error {
	old, err := getRow(a, t, key)
	if err != nil {
		return err
	}
	if old != nil {
		for i := range t.Indexes {
			for _, v := range t.Indexes[i].Values(old) {
				if err := a.b.Delete(t.indexKey(&t.Indexes[i], v, key), nil); err != nil {
					return err
				}
			}
		}
	}
	a.change.rows = true
	version := be64(nil, a.index)
	if err := a.b.Set([]byte{spaceTableV, t.ID}, version, nil); err != nil {
		return err
	}
	if value == nil {
		return a.b.Delete(t.rowKey(key), nil)
	}
	row := new(T)
	if err := decMode.Unmarshal(value, row); err != nil {
		return refuse(ErrInvalid, "table %s: %v", t.Name, err)
	}
	for i := range t.Indexes {
		ix := &t.Indexes[i]
		for _, v := range ix.Values(row) {
			k := t.indexKey(ix, v, key)
			if ix.Unique {
				if other, err := a.get(k); err != nil {
					return err
				} else if other != nil && string(other) != key {
					continue
				}
			}
			if err := a.b.Set(k, []byte(key), nil); err != nil {
				return err
			}
		}
	}
	return a.b.Set(t.rowKey(key), append(version, value...), nil)
}
