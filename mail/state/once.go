package state

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// Results of entries that may be proposed twice are remembered in generations: O<gen 4><op
// id 16>. A new generation begins when the current one is old enough or has enough entries;
// then the one before the last is forgotten with one range deletion. Both are measured by
// the entries themselves (time and index), so every node forgets at the same entry. An entry
// is remembered for at least a whole generation: ten minutes, or a million entries behind
// it, which is more than a minute at the greatest speed of a pair. Do repeats for a minute.
type onceWindow struct {
	Gen    uint32 `cbor:"1,keyasint"`
	Index  uint64 `cbor:"2,keyasint"` // of the entry that began Gen
	Time   int64  `cbor:"3,keyasint"` // its time
	Newest int64  `cbor:"4,keyasint"` // greatest time that began one: where the clock goes on after a restart
}

var (
	onceAge   = int64(10 * 60 * 1e9)
	onceCount = uint64(1_000_000)
)

func readOnce(r pebble.Reader) (w onceWindow, err error) {
	v, err := getCopy(r, keyOnce)
	if err != nil || v == nil {
		return w, err
	}
	return w, decMode.Unmarshal(v, &w)
}

func onceKey(gen uint32, id OpID) []byte {
	return append(binary.BigEndian.AppendUint32(append(make([]byte, 0, 21), spaceOp), gen), id[:]...)
}

// remembered gives the result of an entry that was applied before; nil when it wasn't.
func (a *apply) remembered() ([]byte, error) {
	w := a.s.once
	done, err := a.get(onceKey(w.Gen, a.entry.ID))
	if err != nil || done != nil || w.Gen == 0 {
		return done, err
	}
	return a.get(onceKey(w.Gen-1, a.entry.ID))
}

// remember stores the result of this entry, in a new generation if it is time.
func (a *apply) remember(result []byte) error {
	w := a.s.once
	if w.Index == 0 || a.index-w.Index >= onceCount || a.entry.Time-w.Time >= onceAge {
		if w.Index != 0 {
			w.Gen++
		}
		w.Index, w.Time, w.Newest = a.index, a.entry.Time, max(w.Newest, a.entry.Time)
		v, err := encMode.Marshal(w)
		if err != nil {
			return err
		}
		if err := a.b.Set(keyOnce, v, nil); err != nil {
			return err
		}
		if w.Gen > 1 {
			if err := a.b.DeleteRange([]byte{spaceOp}, onceKey(w.Gen-1, OpID{}), nil); err != nil {
				return err
			}
		}
		a.once = &w
	}
	return a.b.Set(onceKey(w.Gen, a.entry.ID), result, nil)
}
