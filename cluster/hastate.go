package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// HistoryFormat is the version of ha-state.json that this program writes.
	HistoryFormat = 1

	historyName    = "ha-state.json"
	maxHistoryFile = 64 << 20 // octets
)

// Facts is what a node must know about the pair before raft starts. The controller gives
// the values their meaning; empty is that of a node that was never paired.
type Facts struct {
	State    string          `json:"state,omitempty"`    // the node's last state: SINGLE, PAIR, SOLO-P ...
	Epoch    uint64          `json:"epoch,omitempty"`    // newest epoch heard of, own or not
	Cluster  string          `json:"cluster,omitempty"`  // ID of the pair
	Number   uint8           `json:"number,omitempty"`   // of this node: 0 original primary, 1 original secondary
	Original string          `json:"original,omitempty"` // ID of the original primary
	Primary  string          `json:"primary,omitempty"`  // ID of the primary of the last PAIR
	Peer     string          `json:"peer,omitempty"`     // ID of the other node
	Stale    bool            `json:"stale,omitempty"`    // may lack acknowledged entries: must not take over by itself
	Released bool            `json:"released,omitempty"` // has given up the address and its role in Epoch
	Grant    *Grant          `json:"grant,omitempty"`    // permission to run alone
	VIP      []string        `json:"vip,omitempty"`      // addresses to delete at start, as "address/bits@interface"
	Extra    json.RawMessage `json:"extra,omitempty"`    // whatever else the controller keeps
}

// Grant is a permission to run alone.
type Grant struct {
	Epoch uint64    `json:"epoch"`
	By    string    `json:"by"` // which arbiter
	Time  time.Time `json:"time"`
}

func (f *Facts) clone() Facts {
	c := *f
	c.VIP = slices.Clone(f.VIP)
	c.Extra = slices.Clone(f.Extra)
	if f.Grant != nil {
		g := *f.Grant
		c.Grant = &g
	}
	return c
}

// HistoryFile keeps a node's History and Facts. Each change is durable when its method
// returns nil. After a failed one nobody knows what is on the disk: all later ones fail.
type HistoryFile struct {
	path string

	mu    sync.Mutex
	now   haState
	fault error
}

// haState is the content of the file.
type haState struct {
	Format  int     `json:"format"`
	History History `json:"history"`
	Facts   Facts   `json:"facts"`
}

func (s *haState) clone() haState {
	return haState{Format: s.Format, History: slices.Clone(s.History), Facts: s.Facts.clone()}
}

// OpenHistory reads ha-state.json in dir, an existing directory; without the file history
// and facts are empty. It must be open once only: the node's lock is on its raft directory.
// ErrNewer: a newer program wrote it.
func OpenHistory(dir string) (*HistoryFile, error) {
	h := &HistoryFile{path: filepath.Join(dir, historyName), now: haState{Format: HistoryFormat}}
	f, err := os.Open(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHistoryFile+1))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if h.now, err = parseHistory(b); err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	return h, nil
}

func parseHistory(b []byte) (haState, error) {
	var v struct {
		Format int `json:"format"`
	}
	if len(b) > maxHistoryFile || json.Unmarshal(b, &v) != nil || v.Format < 1 {
		return haState{}, errors.New("cluster: the file is damaged; this node can't know whether it has run alone: move its data away and join the pair again, or restore the file")
	}
	if v.Format > HistoryFormat {
		return haState{}, fmt.Errorf("%w: format %d, this program knows formats up to %d; start the newer program that wrote it", ErrNewer, v.Format, HistoryFormat)
	}
	var s haState
	if err := json.Unmarshal(b, &s); err != nil {
		return haState{}, fmt.Errorf("cluster: the file is damaged: %w", err)
	}
	return s, s.History.Validate()
}

// History gives a copy of the history.
func (h *HistoryFile) History() History {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.now.History)
}

// Facts gives a copy of the facts.
func (h *HistoryFile) Facts() Facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now.Facts.clone()
}

// Update changes the facts.
func (h *HistoryFile) Update(change func(*Facts)) error {
	return h.change(func(s *haState) { change(&s.Facts) })
}

// Begin adds a branch and changes the facts in the same write; change may be nil. It comes
// before Force, before a demotion of the peer and before the first entry acknowledged
// alone. b.Epoch must be above all earlier ones; a zero b.Time is set to now. The branch
// that is the newest already changes nothing but the facts, so that a crash can be followed
// by the same call.
func (h *HistoryFile) Begin(b Branch, change func(*Facts)) error {
	if b.Time.IsZero() {
		b.Time = time.Now().UTC()
	}
	return h.change(func(s *haState) {
		if k := len(s.History); k == 0 || !s.History[k-1].same(&b) {
			s.History = append(s.History, b)
		}
		s.Facts.Epoch = max(s.Facts.Epoch, b.Epoch)
		if change != nil {
			change(&s.Facts)
		}
	})
}

// Adopt takes over the history of the log that this node is going to follow, and changes
// the facts in the same write; change may be nil. After Compare said MinePrefix it comes
// before raft follows: once entries of the peer's epoch are applied, the old history would
// pass for a diverged one. From then until the node has caught up it lacks acknowledged
// entries although its history is whole: say so in the facts (Stale). After a merge it
// comes when the raft directory has been moved aside.
func (h *HistoryFile) Adopt(theirs History, change func(*Facts)) error {
	return h.change(func(s *haState) {
		s.History = slices.Clone(theirs)
		s.Facts.Epoch = max(s.Facts.Epoch, theirs.Epoch())
		if change != nil {
			change(&s.Facts)
		}
	})
}

func (h *HistoryFile) change(change func(*haState)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fault != nil {
		return h.fault
	}
	next := h.now.clone()
	change(&next)
	next.Format = HistoryFormat
	if err := next.History.Validate(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(&next, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if len(b) > maxHistoryFile {
		return fmt.Errorf("%w: the facts take too much room", ErrTooLarge)
	}
	if err := writeDurable(h.path, append(b, '\n')); err != nil {
		h.fault = fmt.Errorf("%w: %w; check the disk, then restart", ErrFailed, err)
		return h.fault
	}
	h.now = next.clone()
	return nil
}
