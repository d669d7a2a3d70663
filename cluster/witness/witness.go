// Package witness is the third machine of a pair: a small record of who may serve alone. It
// sees no mail, no settings and no log.
//
// A grant goes to a node that is in sync, while nobody else holds one, if the node is the
// primary or the primary has not been heard for as long as its lease and the margin. After
// it only that node counts as in sync, so that one that missed something can never be
// granted. Both count again when both have signed that they are in sync.
//
// A record that was set back to an older copy would forget a grant. It is not believed: if the
// file is younger than what it says, if a node has seen a newer revision of it, or if a node serves alone
// in an epoch that it does not know, nobody counts as in sync until the nodes have said anew who is.
package witness

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"mailplusd/cluster/lease"
	"mailplusd/cluster/pair"
)

// recordFormat is the version of witness.json.
const recordFormat = 1

// Node is a node of the pair as the witness pins it.
type Node struct {
	ID    string            `json:"id"`
	Addrs []string          `json:"addrs,omitempty"`
	Key   ed25519.PublicKey `json:"key"`
}

// Record is all that a witness knows, of one pair.
type Record struct {
	Format  int       `json:"format"`
	Cluster string    `json:"cluster"`
	Nodes   []Node    `json:"nodes"`
	Epoch   uint64    `json:"epoch"`
	Turn    uint64    `json:"turn"`
	Primary string    `json:"primary"`
	InSync  []string  `json:"in_sync"` // who may be granted
	Holder  string    `json:"holder"`  // who has been; empty: nobody
	Changed time.Time `json:"changed"`
	Serial  uint64    `json:"serial"` // drawn at each change: a report must name it
	// Revision counts the changes. The nodes remember the newest that they have seen.
	Revision uint64 `json:"revision,omitempty"`
}

// Options of Open.
type Options struct {
	Dir    string
	Lease  lease.Settings // as the pair's
	Logger *slog.Logger
	Now    func() time.Duration // CLOCK_BOOTTIME; nil: the real one
}

// Witness keeps the record of one pair.
type Witness struct {
	o    Options
	name string
	mu   sync.Mutex
	rec  Record
	last time.Duration // the primary's last contact; at first the start
}

// Open reads the record in o.Dir; a directory without one belongs to no pair yet.
func Open(o Options) (*Witness, error) {
	if o.Now == nil {
		o.Now = lease.Now
	}
	if o.Lease == (lease.Settings{}) {
		o.Lease = lease.Default()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	w := &Witness{o: o, name: filepath.Join(o.Dir, "witness.json"), last: o.Now()}
	raw, err := os.ReadFile(w.name)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	if err := json.Unmarshal(raw, &w.rec); err != nil || w.rec.Format < 1 {
		return nil, fmt.Errorf("witness: %s is damaged: remove it and add the witness to the pair again (mpctl ha witness add)", w.name)
	}
	if w.rec.Format > recordFormat {
		return nil, fmt.Errorf("witness: %s has format %d, this program knows %d; start the newer program", w.name, w.rec.Format, recordFormat)
	}
	if put, err := changedAt(w.name); err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	} else if w.rec.Cluster != "" && put.Sub(w.rec.Changed) > copyTime {
		err := w.distrust(w.rec.Revision, "its file was put here at "+put.UTC().Format(time.DateTime)+" and says that it was written at "+w.rec.Changed.Format(time.DateTime))
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// copyTime is by how much a record's file may be younger than the record, in a directory where it was
// written: the time of a slow fsync. A copy that was put back later is an old one.
const copyTime = 10 * time.Second

// changedAt is when the file's content, name or owner was last changed here, which no copying
// program can set.
func changedAt(name string) (time.Time, error) {
	st, err := os.Stat(name)
	if err != nil {
		return time.Time{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}, nil
	}
	return time.Unix(sys.Ctim.Unix()), nil
}

// distrust forgets who is in sync: this record is not the newest that there has been. Both nodes'
// signatures, or the word of one that serves alone, make it whole again. w.mu is held, or nobody else knows w.
func (w *Witness) distrust(seen uint64, why string) error {
	next := w.rec
	next.InSync, next.Holder, next.Revision = nil, "", max(next.Revision, seen)
	w.o.Logger.Warn("this record may be an old copy; nobody is granted until the nodes have said who is in sync", "why", why)
	return w.store(next)
}

// Record gives a copy of the record.
func (w *Witness) Record() Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rec
	r.Nodes, r.InSync = slices.Clone(r.Nodes), slices.Clone(r.InSync)
	return r
}

// store makes next the record, on disk first. w.mu is held.
func (w *Witness) store(next Record) error {
	next.Format, next.Changed, next.Serial = recordFormat, time.Now().UTC(), rand.Uint64()
	next.Revision = max(next.Revision, w.rec.Revision) + 1
	raw, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := pair.Replace(w.name, append(raw, '\n')); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	w.rec = next
	return nil
}

// Enrol is what a primary says when the witness is added to its pair.
type Enrol struct {
	Cluster string `json:"cluster"`
	Nodes   []Node `json:"nodes"`
	Epoch   uint64 `json:"epoch"`
	Turn    uint64 `json:"turn"`
	Primary string `json:"primary"`
	Solo    bool   `json:"solo"` // the primary serves alone now
}

var errNoMember = errors.New("only a node of the pair that this witness belongs to may do that")

// member tells whether node is one of the pair.
func (w *Witness) member(node string) bool {
	return slices.ContainsFunc(w.Record().Nodes, func(n Node) bool { return n.ID == node })
}

// mayEnrol refuses an enrolment by a node that is not of that pair: whoever has been introduced
// with a token is pinned until the next start.
func (w *Witness) mayEnrol(node string, e Enrol) error {
	if !slices.ContainsFunc(e.Nodes, func(n Node) bool { return n.ID == node }) || w.Record().Cluster != "" && !w.member(node) {
		return errNoMember
	}
	return nil
}

// Enrol takes a pair in. An empty record knows of nobody who is in sync: until both nodes
// say so nobody is granted, but for a primary that serves alone already.
func (w *Witness) Enrol(e Enrol) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.rec.Cluster != "" && w.rec.Cluster != e.Cluster:
		return fmt.Errorf("this witness belongs to another pair (%s); start another one with its own --data", w.rec.Cluster)
	case len(e.Nodes) != 2 || e.Cluster == "" || !slices.ContainsFunc(e.Nodes, func(n Node) bool { return n.ID == e.Primary }):
		return errors.New("two nodes, one of them the primary, are needed")
	}
	next := w.rec
	next.Nodes = e.Nodes
	if next.Cluster == "" {
		next = Record{Cluster: e.Cluster, Nodes: e.Nodes, Epoch: e.Epoch, Turn: e.Turn, Primary: e.Primary}
		if e.Solo {
			next.InSync, next.Holder = []string{e.Primary}, e.Primary
		}
	}
	return w.store(next)
}

// Forget ends the pair's use of this witness.
func (w *Witness) Forget() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.store(Record{})
}

// Solo answers a request of node; nil: granted, and on disk.
func (w *Witness) Solo(node string, r pair.SoloRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rec.Cluster == "" || r.Cluster != w.rec.Cluster || node != r.Node {
		return fmt.Errorf("%w: it does not know this pair", pair.ErrRefused)
	}
	if err := w.compare(node, r); err != nil {
		return err
	}
	rec := w.rec
	if rec.Holder == node && r.Epoch == rec.Epoch {
		return nil // said again
	}
	silence := w.o.Now() - w.last
	switch {
	case rec.Holder != "" && rec.Holder != node:
		return fmt.Errorf("%w: %s serves alone since epoch %d", pair.ErrRefused, rec.Holder, rec.Epoch)
	case r.Stale:
		return fmt.Errorf("%w: %s knows that it lacks mail of the other node", pair.ErrRefused, node)
	case len(rec.InSync) == 0:
		return fmt.Errorf("%w: %s is not known to have everything: the witness is new or has an old record, and waits for the word of both nodes", pair.ErrRefused, node)
	case !slices.Contains(rec.InSync, node):
		return fmt.Errorf("%w: %s is not known to have everything", pair.ErrRefused, node)
	case r.Epoch > rec.Epoch+1 && !r.Primary:
		// The node is in an epoch of which the witness was not told: who has what of it, it can't say.
		return fmt.Errorf("%w: %s is in epoch %d and the witness knows only of %d; it waits for the word of both nodes", pair.ErrRefused, node, r.Epoch-1, rec.Epoch)
	case r.Epoch <= rec.Epoch:
		return fmt.Errorf("%w: epoch %d is past, it is %d", pair.ErrRefused, r.Epoch, rec.Epoch)
	case rec.Primary != node && !(r.Primary && r.Turn > rec.Turn) && !r.Released && silence < w.o.Lease.Term+w.o.Lease.Margin:
		return fmt.Errorf("%w: the primary, %s, was heard %s ago", pair.ErrRefused, rec.Primary, silence.Round(100*time.Millisecond))
	}
	rec.Holder, rec.InSync, rec.Epoch, rec.Primary = node, []string{node}, r.Epoch, node
	rec.Turn = max(rec.Turn, r.Turn)
	if err := w.store(rec); err != nil {
		return err
	}
	w.last = w.o.Now()
	w.o.Logger.Warn("granted", "node", node, "epoch", r.Epoch)
	return nil
}

// Pair takes the word of both nodes that they are in sync.
func (w *Witness) Pair(node string, r pair.PairReport) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.rec
	if rec.Cluster == "" || r.Cluster != rec.Cluster {
		return fmt.Errorf("%w: it does not know this pair", pair.ErrRefused)
	}
	if r.Serial != rec.Serial {
		return fmt.Errorf("%w: the record has changed since the report was signed", pair.ErrRefused)
	}
	var ids []string
	for _, n := range rec.Nodes {
		if len(n.Key) != ed25519.PublicKeySize || !ed25519.Verify(n.Key, r.Statement(), r.Signatures[n.ID]) {
			return fmt.Errorf("%w: %s has not signed the report", pair.ErrRefused, n.ID)
		}
		ids = append(ids, n.ID)
	}
	if rec.Holder == "" && len(rec.InSync) == len(ids) && rec.Epoch == r.Epoch && rec.Primary == r.Primary && rec.Turn == r.Turn {
		return nil
	}
	rec.InSync, rec.Holder, rec.Epoch, rec.Turn, rec.Primary = ids, "", r.Epoch, r.Turn, r.Primary
	if err := w.store(rec); err != nil {
		return err
	}
	w.o.Logger.Info("both nodes are in sync", "epoch", r.Epoch, "turn", r.Turn, "primary", r.Primary)
	return nil
}

// compare finds out that a node has seen a newer record than this one. w.mu is held.
func (w *Witness) compare(node string, r pair.SoloRequest) error {
	if r.Revision <= w.rec.Revision {
		return nil
	}
	return w.distrust(r.Revision, fmt.Sprintf("%s has seen revision %d, this is %d", node, r.Revision, w.rec.Revision))
}

// Contact keeps the primary's claim fresh. A hand-over between the nodes is learnt from it, and that
// a node serves alone without this witness's knowledge: by a grant that an old copy of the record
// has forgotten, by the gateway rule in its stead, or by the administrator's word.
func (w *Witness) Contact(node string, r pair.SoloRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rec.Cluster == "" || r.Cluster != w.rec.Cluster {
		return fmt.Errorf("%w: it does not know this pair", pair.ErrRefused)
	}
	if err := w.compare(node, r); err != nil {
		return err
	}
	rec := w.rec
	if !r.Primary {
		return nil
	}
	if !r.Paired && (r.Epoch > rec.Epoch || r.Epoch == rec.Epoch && len(rec.InSync) == 0) {
		rec.Holder, rec.InSync, rec.Primary = node, []string{node}, node
		rec.Epoch, rec.Turn = r.Epoch, max(rec.Turn, r.Turn)
		if err := w.store(rec); err != nil {
			return err
		}
		w.o.Logger.Warn("a node serves alone without a grant of this record", "node", node, "epoch", r.Epoch)
	}
	if rec.Primary != node && rec.Holder == "" && r.Turn > rec.Turn && slices.Contains(rec.InSync, node) {
		rec.Primary, rec.Turn = node, r.Turn
		if err := w.store(rec); err != nil {
			return err
		}
	}
	if rec.Primary == node {
		w.last = w.o.Now()
	}
	if r.Paired && (rec.Holder != "" || len(rec.InSync) != len(rec.Nodes) || rec.Epoch != r.Epoch || rec.Turn != r.Turn || rec.Primary != node) {
		return pair.ErrUnreported // a grant that was not used, a lost record, a hand-over
	}
	return nil
}

// Handler is where the calls of the nodes come in (cluster/transport).
type Handler interface {
	Handle(method string, h func(ctx context.Context, node string, req []byte) ([]byte, error))
}

// Serve answers the nodes' calls.
func (w *Witness) Serve(h Handler) {
	h.Handle("witness.solo", func(_ context.Context, node string, req []byte) ([]byte, error) {
		var r pair.SoloRequest
		if err := json.Unmarshal(req, &r); err != nil {
			return nil, err
		}
		return nil, w.Solo(node, r)
	})
	h.Handle("witness.serial", func(context.Context, string, []byte) ([]byte, error) {
		return json.Marshal(w.Record().Serial)
	})
	h.Handle("witness.pair", func(_ context.Context, node string, req []byte) ([]byte, error) {
		var r pair.PairReport
		if err := json.Unmarshal(req, &r); err != nil {
			return nil, err
		}
		return nil, w.Pair(node, r)
	})
	h.Handle("witness.contact", func(_ context.Context, node string, req []byte) ([]byte, error) {
		var r pair.SoloRequest
		if err := json.Unmarshal(req, &r); err != nil {
			return nil, err
		}
		if err := w.Contact(node, r); err != nil {
			return nil, err
		}
		return json.Marshal(w.Record().Revision)
	})
	h.Handle("witness.enrol", func(_ context.Context, node string, req []byte) ([]byte, error) {
		var e Enrol
		if err := json.Unmarshal(req, &e); err != nil {
			return nil, err
		}
		if err := w.mayEnrol(node, e); err != nil {
			return nil, err
		}
		return nil, w.Enrol(e)
	})
	h.Handle("witness.forget", func(_ context.Context, node string, _ []byte) ([]byte, error) {
		if w.Record().Cluster != "" && !w.member(node) {
			return nil, errNoMember
		}
		return nil, w.Forget()
	})
	h.Handle("witness.show", func(context.Context, string, []byte) ([]byte, error) {
		return json.Marshal(w.Record())
	})
}
