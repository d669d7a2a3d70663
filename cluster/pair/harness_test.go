package pair_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailplusd/cluster"
	"mailplusd/cluster/clustertest"
	"mailplusd/cluster/lease"
	"mailplusd/cluster/pair"
	"mailplusd/cluster/witness"

	"github.com/hashicorp/raft"
)

var vip = netip.MustParsePrefix("192.0.2.1/24")

// world is two nodes, a witness and what lies between them.
type world struct {
	t       *testing.T
	arbiter string
	raft    *clustertest.Network
	lease   *clustertest.Network
	nodes   [2]*node
	witness *witness.Witness
	timing  pair.Timing

	witnessDir string
	shortLog   bool // nodes keep only their newest entries
	replicated bool // who the arbiter is stands in the state; at first it is the gateway rule

	mu      sync.Mutex
	calls   map[string]map[string]func(context.Context, string, []byte) ([]byte, error) // node, method
	cut     map[[2]string]bool
	pinned  map[string][]string      // whom each node knows
	dead    map[string]bool          // no process there: connections are refused
	holders map[string]time.Duration // who holds the address, until when
	both    string                   // two holders at a time
	gateway map[string]bool          // who reaches the gateway
	setup   pair.Setup               // what the state says beside address and arbiter
	split   bool                     // a and b are in two halves of the LAN, each with a gateway
}

// quick are times for tests, in the relations of the real ones.
var quick = pair.Timing{
	Settings: lease.Settings{
		Term: 1300 * time.Millisecond, Frame: 100 * time.Millisecond, Margin: 600 * time.Millisecond,
		KernelLate: 400 * time.Millisecond, Silent: 700 * time.Millisecond, Decide: 300 * time.Millisecond, Frozen: 400 * time.Millisecond,
	},
	Stable: 300 * time.Millisecond, Cold: 3 * time.Second, Stale: 3 * time.Second,
}

func newWorld(t *testing.T, arbiter string) *world {
	if testing.Short() {
		t.Skip("leases of a second need a machine that is not slowed down by the race detector and everything else")
	}
	w := &world{
		t: t, arbiter: arbiter, raft: clustertest.NewNetwork(), lease: clustertest.NewNetwork(), timing: quick,
		calls: map[string]map[string]func(context.Context, string, []byte) ([]byte, error){}, cut: map[[2]string]bool{}, dead: map[string]bool{}, pinned: map[string][]string{},
		holders: map[string]time.Duration{}, gateway: map[string]bool{"a": true, "b": true},
	}
	w.witnessDir = t.TempDir()
	w.startWitness()
	base := t.TempDir()
	for i, id := range []string{"a", "b"} {
		pub, priv, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.nodes[i] = &node{w: w, id: id, number: uint8(i), dir: filepath.Join(base, id), pub: pub, priv: priv}
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.stop()
		}
	})
	return w
}

// startWitness starts the witness, anew if it runs, with the record that is in its directory.
func (w *world) startWitness() {
	w.t.Helper()
	var err error
	if w.witness, err = witness.Open(witness.Options{Dir: w.witnessDir, Lease: quick.Settings}); err != nil {
		w.t.Fatal(err)
	}
	w.witness.Serve(link{w, "witness"})
}

// node is one machine.
type node struct {
	w      *world
	id     string
	number uint8
	dir    string
	pub    ed25519.PublicKey
	priv   ed25519.PrivateKey

	writes  sync.RWMutex
	frozen  sync.RWMutex // held for writing while the controller's loops stand still
	mu      sync.Mutex
	up      bool
	book    *pair.Book
	fsm     *clustertest.FSM
	cluster *cluster.Node
	ctl     *pair.Controller
	addr    *address
	serving pair.Serving
	epoch   uint64
	rejoin  bool
	mirror  string
	said    said
}

func (n *node) member() pair.Member {
	return pair.Member{ID: n.id, Number: n.number, Key: n.pub, Addrs: []string{fmt.Sprintf("192.0.2.1%d:1", n.number)}}
}

// start runs the node as its book says.
func (n *node) start() {
	n.w.t.Helper()
	book, err := pair.OpenBook(mkdir(n.w.t, n.dir))
	if err != nil {
		n.w.t.Fatal(err)
	}
	fsm, err := clustertest.OpenFSM(filepath.Join(n.dir, "state"))
	if err != nil {
		n.w.t.Fatal(err)
	}
	f := book.Facts()
	if f.Aside != "" {
		if err := cluster.MoveAside(filepath.Join(n.dir, "raft"), f.Aside); err != nil {
			n.w.t.Fatal(err)
		}
		if err := book.Update(func(f *pair.Facts) error { f.Aside = ""; return nil }); err != nil {
			n.w.t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(logWriter{n.w.t}, &n.said), &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", n.id)
	gate := pair.NewGate(n.w.raft.Endpoint(n.id))
	config := cluster.Config{
		ID: n.id, DataDir: filepath.Join(n.dir, "raft"), FSM: fsm, Stream: gate,
		Bootstrap: f.State == pair.Single, Join: f.State == pair.Joining && f.Partial, Logger: slog.New(slog.NewTextHandler(logWriter{n.w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", n.id),
		Timeouts: cluster.Timeouts{Heartbeat: 1500 * time.Millisecond, Commit: 5 * time.Millisecond, RPC: 2 * time.Second},
	}
	if n.w.shortLog {
		config.SnapshotThreshold, config.SnapshotGap, config.TrailingLogs = 200, time.Millisecond, 50
		config.Timeouts.CatchUp = 500 * time.Millisecond
	}
	engine, err := cluster.Open(config)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.mu.Lock()
	n.book, n.fsm, n.cluster, n.addr = book, fsm, engine, &address{n: n}
	n.mu.Unlock()
	n.w.mu.Lock()
	delete(n.w.dead, n.id)
	n.w.mu.Unlock()
	ctl, err := pair.New(pair.Config{
		Node: engine, Book: book, Link: link{n.w, n.id}, Address: n.addr, Hooks: hooks{n, gate}, Timing: n.w.timing,
		Arbiter: n.arbiter, Sign: func(m []byte) []byte { return ed25519.Sign(n.priv, m) }, Logger: log, Version: "test",
		Now: n.now,
	})
	if err != nil {
		n.w.t.Fatal(err)
	}
	ctl.Start()
	n.mu.Lock()
	n.ctl, n.up = ctl, true
	n.mu.Unlock()
}

// arbiter gives the one of this world.
func (n *node) arbiter(s pair.Setup) pair.Arbiter {
	arbiter := n.w.arbiter
	if n.w.replicated {
		arbiter = s.Arbiter
	}
	switch arbiter {
	case "witness":
		return &pair.Witness{Link: link{n.w, n.id}, Node: "witness"}
	case "gateway":
		return &pair.Gateway{Probe: prober{n}, Cold: n.w.timing.Cold, Stale: n.w.timing.Stale, StaleAuto: s.StaleAuto}
	case "either":
		return pair.Fallback{
			First: &pair.Witness{Link: link{n.w, n.id}, Node: "witness"},
			Then:  &pair.Gateway{Probe: prober{n}, Cold: n.w.timing.Cold, Stale: n.w.timing.Stale},
		}
	}
	return pair.Manual{}
}

// now is the clock of the node's controller: who reads it while the node is frozen waits.
func (n *node) now() time.Duration {
	n.frozen.RLock()
	defer n.frozen.RUnlock()
	return lease.Now()
}

// kill ends the node as kill -9 would; guard tells whether a guard lives to say so.
func (n *node) kill(guard bool) {
	n.mu.Lock()
	n.up = false
	n.mu.Unlock()
	n.w.mu.Lock()
	n.w.dead[n.id] = true
	delete(n.w.calls, n.id)
	word := n.addr.word
	held := n.w.holders[n.id]
	if guard {
		delete(n.w.holders, n.id)
	}
	n.w.mu.Unlock()
	n.ctl.Kill()
	n.cluster.Kill()
	n.w.lease.Endpoint(n.id).Close()
	if guard && held > 0 && word != nil {
		other := n.w.nodes[1-n.number]
		if other.running() {
			other.ctl.Farewell(word)
		}
	}
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

// stop ends it in order.
func (n *node) stop() {
	if !n.running() {
		return
	}
	n.mu.Lock()
	n.up = false
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	n.ctl.Stop(ctx)
	n.cluster.Close()
	n.w.mu.Lock()
	n.w.dead[n.id] = true
	delete(n.w.calls, n.id)
	n.w.mu.Unlock()
}

// pairUp makes a pair of node a and an empty b, and waits until both are in sync.
func (w *world) pairUp() {
	w.t.Helper()
	a, b := w.nodes[0], w.nodes[1]
	a.start()
	b.start()
	w.wait("a leads itself", a.cluster.IsLeader)
	if err := a.ctl.Create("c1", a.member(), b.member()); err != nil {
		w.t.Fatal(err)
	}
	if w.arbiter == "witness" || w.arbiter == "either" {
		f := a.book.Facts()
		if err := w.witness.Enrol(witness.Enrol{Cluster: "c1", Epoch: f.Epoch, Turn: f.Turn, Primary: "a", Solo: true,
			Nodes: []witness.Node{{ID: "a", Key: a.pub}, {ID: "b", Key: b.pub}}}); err != nil {
			w.t.Fatal(err)
		}
	}
	f := a.book.Facts()
	if err := b.ctl.Join("c1", b.member(), a.member(), f.History, f.Epoch, f.Turn); err != nil {
		w.t.Fatal(err)
	}
	w.inSync()
}

func (n *node) stopQuick() {
	n.mu.Lock()
	n.up, n.rejoin = false, false
	n.mu.Unlock()
	n.ctl.Kill()
	n.cluster.Close()
}

func (w *world) inSync() {
	w.t.Helper()
	w.wait("both in sync", func() bool {
		for _, n := range w.nodes {
			f := n.book.Facts()
			if f.State != pair.Paired || f.Report {
				return false
			}
		}
		return w.nodes[0].book.Facts().Turn == w.nodes[1].book.Facts().Turn
	})
}

// serves waits until a node holds the address and takes entries.
func (w *world) serves(n *node) {
	w.t.Helper()
	w.wait(n.id+" serves", func() bool {
		n.mu.Lock()
		s := n.serving
		n.mu.Unlock()
		return s.Accept && s.Address && n.cluster.IsLeader()
	})
}

// again starts anew who has asked for it.
func (w *world) again() {
	w.t.Helper()
	for _, n := range w.nodes {
		n.mu.Lock()
		again := n.up && n.rejoin
		n.mu.Unlock()
		if again {
			n.stopQuick()
			n.start()
		}
	}
}

func (w *world) wait(what string, cond func() bool) {
	w.t.Helper()
	w.within(20*time.Second, what, cond)
}

func (w *world) within(limit time.Duration, what string, cond func() bool) {
	w.t.Helper()
	end := time.Now().Add(limit)
	for !cond() {
		w.again()
		if time.Now().After(end) {
			for _, n := range w.nodes {
				if n.ctl != nil {
					s := n.ctl.Status()
					w.t.Logf("%s: %s epoch %d turn %d primary %s, serving %+v, held %v, alarm %q, arbiter %q, peer fresh %v %s, leader %s", n.id, s.Capacity, s.Facts.Epoch, s.Facts.Turn, s.Facts.Primary, s.Serving, s.Held, s.Alarm, s.Arbiter, s.PeerFresh, s.Peer.State, s.Leader)
				}
			}
			w.t.Fatalf("not in %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond) // polling
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.both != "" {
		w.t.Fatal(w.both)
	}
}

// Cut parts two of a, b and witness in every respect; one way only with oneWay.
func (w *world) Cut(a, b string) {
	w.mu.Lock()
	w.cut[[2]string{a, b}], w.cut[[2]string{b, a}] = true, true
	w.mu.Unlock()
	w.raft.Cut(a, b)
	w.lease.Cut("dial-"+a, b)
	w.lease.Cut("dial-"+b, a)
}

// CutOneWay lets nothing through from a to b. What needs both directions is cut.
func (w *world) CutOneWay(a, b string) {
	w.Cut(a, b)
	w.mu.Lock()
	delete(w.cut, [2]string{b, a})
	w.mu.Unlock()
}

func (w *world) Heal(a, b string) {
	w.mu.Lock()
	delete(w.cut, [2]string{a, b})
	delete(w.cut, [2]string{b, a})
	w.mu.Unlock()
	w.raft.Heal(a, b)
	w.lease.Heal("dial-"+a, b)
	w.lease.Heal("dial-"+b, a)
}

// link is pair.Link in memory.
type link struct {
	w  *world
	id string
}

func (l link) SetMembers(members ...pair.Member) error {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.pinned[l.id] = nil
	for _, m := range members {
		l.w.pinned[l.id] = append(l.w.pinned[l.id], m.ID)
	}
	return nil
}

func (l link) Handle(method string, h func(context.Context, string, []byte) ([]byte, error)) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.calls[l.id] == nil {
		l.w.calls[l.id] = map[string]func(context.Context, string, []byte) ([]byte, error){}
	}
	l.w.calls[l.id][method] = h
}

func (l link) Call(ctx context.Context, to, method string, req []byte) ([]byte, error) {
	l.w.mu.Lock()
	h, cut, dead := l.w.calls[to][method], l.w.cut[[2]string{l.id, to}], l.w.dead[to]
	l.w.mu.Unlock()
	switch {
	case cut:
		<-ctx.Done()
		return nil, ctx.Err()
	case dead || h == nil:
		return nil, fmt.Errorf("%s: %w", to, syscall.ECONNREFUSED)
	}
	out, err := h(ctx, l.id, req)
	l.w.mu.Lock()
	cut = l.w.cut[[2]string{to, l.id}]
	l.w.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return out, err
}

func (l link) DialLease(ctx context.Context, to string) (net.Conn, error) {
	l.w.mu.Lock()
	dead := l.w.dead[to]
	l.w.mu.Unlock()
	if dead {
		return nil, syscall.ECONNREFUSED
	}
	d, _ := ctx.Deadline()
	return l.w.lease.Endpoint("dial-"+l.id).Dial(raft.ServerAddress(to), time.Until(d))
}

type from struct {
	net.Conn
	id string
}

func (f from) Node() string { return f.id }

type leaseListener struct {
	net.Listener
	other string
}

func (l leaseListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return from{c, l.other}, nil
}

func (l link) ListenLease() net.Listener {
	other := "b"
	if l.id == "b" {
		other = "a"
	}
	return leaseListener{l.w.lease.Endpoint(l.id), other}
}

// address is the floating address in memory, with a kernel that removes what has expired.
type address struct {
	n    *node
	mu   sync.Mutex
	held []netip.Prefix
	word []byte
}

func (a *address) set(until pair.Until, add bool) error {
	w := a.n.w
	now := lease.Now()
	end, ok := until()
	w.mu.Lock()
	defer w.mu.Unlock()
	mine, have := w.holders[a.n.id]
	if w.dead[a.n.id] {
		return errors.New("killed") // a loop that was frozen when the node was killed
	}
	if have && mine < now {
		delete(w.holders, a.n.id)
		have = false
	}
	if !ok || end <= now || !have && !add {
		delete(w.holders, a.n.id)
		a.held = nil
		return nil
	}
	for id, e := range w.holders {
		if id != a.n.id && e > now && !w.dead[id] {
			w.both = fmt.Sprintf("%s takes the address while %s holds it for another %s", a.n.id, id, e-now)
		}
	}
	w.holders[a.n.id] = end
	a.held = []netip.Prefix{vip}
	return nil
}

func (a *address) Acquire(_ context.Context, _ []netip.Prefix, probe bool, until pair.Until) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if probe {
		a.n.w.mu.Lock()
		for id, e := range a.n.w.holders {
			if id != a.n.id && e > lease.Now() && !a.n.w.split {
				a.n.w.mu.Unlock()
				return pair.ErrInUse
			}
		}
		a.n.w.mu.Unlock()
	}
	return a.set(until, true)
}

func (a *address) Renew(_ context.Context, until pair.Until) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set(until, false)
}

func (a *address) Release(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n.w.mu.Lock()
	delete(a.n.w.holders, a.n.id)
	a.n.w.mu.Unlock()
	a.held = nil
	return nil
}

func (a *address) Held() []netip.Prefix {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

func (a *address) Leave(context.Context) {}

func (a *address) Stay() {}

func (a *address) LastWord(word []byte, _ []string) {
	a.n.w.mu.Lock()
	defer a.n.w.mu.Unlock()
	a.word = word
}

// prober sees who holds the address and who is up.
type prober struct{ n *node }

func (p prober) Carrier() bool { return true }

func (p prober) Gateway() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.254")} }

func (p prober) Answers(_ context.Context, a netip.Addr) bool {
	w := p.n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if a == p.Gateway()[0] {
		return w.gateway[p.n.id]
	}
	for id, e := range w.holders {
		if a == vip.Addr() && id != p.n.id && e > lease.Now() && !w.split {
			return w.gateway[id] && w.gateway[p.n.id]
		}
	}
	other := w.nodes[1-p.n.number]
	return strings.HasPrefix(other.member().Addrs[0], a.String()+":") && !w.dead[other.id] && !w.split && w.gateway[other.id] && w.gateway[p.n.id]
}

// hooks stand for the mail server.
type hooks struct {
	n    *node
	gate *pair.Gate
}

func (h hooks) Setup() pair.Setup {
	h.n.w.mu.Lock()
	defer h.n.w.mu.Unlock()
	s := h.n.w.setup
	s.Addresses, s.Arbiter, s.StaleAuto = []netip.Prefix{vip}, h.n.w.arbiter, true
	if h.n.w.replicated {
		s.Arbiter = "gateway"
		for _, e := range h.n.fsm.Entries() {
			if v, ok := strings.CutPrefix(e.Data, "arbiter "); ok {
				s.Arbiter = v
			}
		}
	}
	return s
}

func (h hooks) Epoch() uint64 {
	for e := range strings.SplitSeq(strings.Join(h.epochs(), " "), " ") {
		var v uint64
		if _, err := fmt.Sscan(e, &v); err == nil {
			h.n.epoch = max(h.n.epoch, v)
		}
	}
	return h.n.epoch
}

func (h hooks) epochs() (out []string) {
	for _, e := range h.n.fsm.Entries() {
		if v, ok := strings.CutPrefix(e.Data, "epoch "); ok {
			out = append(out, v)
		}
	}
	return out
}

func (h hooks) StartEpoch(ctx context.Context, b pair.Branch, forced, settings bool) error {
	_, _, err := h.n.cluster.Propose(ctx, fmt.Appendf(nil, "epoch %d", b.Epoch))
	return err
}

func (h hooks) Mirror(node string) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.n.mirror = node
}

func (h hooks) Missing(_ string, since uint64) (int64, bool) {
	return 0, h.n.cluster.Applied() >= since
}

func (h hooks) Together(context.Context, uint64) error { return nil }

func (h hooks) Follow(_ string, open bool) { h.gate.Set(open) }

func (h hooks) Serve(s pair.Serving) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.n.serving = s
}

// Merge replays the entries since the branch on the winner.
func (h hooks) Merge(ctx context.Context, winner string, b pair.Branch) error {
	h.n.writes.Lock() // what is under way is answered first, and nothing comes after it
	defer h.n.writes.Unlock()
	w := h.n.w.nodes[1-h.n.number]
	h.n.w.mu.Lock()
	cut := h.n.w.cut[[2]string{"a", "b"}] || h.n.w.cut[[2]string{"b", "a"}]
	h.n.w.mu.Unlock()
	w.mu.Lock()
	up, book, fsm, node := w.up, w.book, w.fsm, w.cluster
	w.mu.Unlock()
	if s := book.Facts().State; cut || !up || s != pair.Solo && s != pair.Paired {
		return errors.New("the winner can't be reached")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := node.Barrier(ctx); err != nil { // what an earlier attempt has left under way
		return err
	}
	have := map[string]bool{}
	for _, e := range fsm.Entries() {
		have[e.Data] = true
	}
	for _, e := range h.n.fsm.Entries() {
		if e.Index <= b.Index || have[e.Data] || strings.HasPrefix(e.Data, "epoch") {
			continue
		}
		if _, _, err := node.Propose(ctx, []byte(e.Data)); err != nil {
			return err
		}
	}
	return nil
}

func (h hooks) Rejoin() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.n.rejoin = true
}

func (h hooks) Load() []byte { return nil }

// writer proposes without a pause on whoever serves, and remembers what was acknowledged.
type writer struct {
	w     *world
	mu    sync.Mutex
	acked []string
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func (w *world) write(n int) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	wr := &writer{w: w, stop: cancel}
	for i := range n {
		wr.wg.Add(1)
		go func() {
			defer wr.wg.Done()
			for k := 0; ctx.Err() == nil; k++ {
				name := fmt.Sprintf("w%d-%d", i, k)
				if wr.try(ctx, name) {
					wr.mu.Lock()
					wr.acked = append(wr.acked, name)
					wr.mu.Unlock()
				}
			}
		}()
	}
	return wr
}

func (wr *writer) try(ctx context.Context, data string) bool {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for _, n := range wr.w.nodes {
		if n.propose(ctx, data) {
			return true
		}
	}
	time.Sleep(2 * time.Millisecond) // nobody serves: don't spin
	return false
}

func (n *node) propose(ctx context.Context, data string) bool {
	n.writes.RLock()
	defer n.writes.RUnlock()
	n.mu.Lock()
	ok := n.up && n.serving.Accept && n.serving.Address
	node := n.cluster
	n.mu.Unlock()
	if !ok {
		return false
	}
	_, _, err := node.Propose(ctx, []byte(data))
	return err == nil
}

// finish stops the writers and checks that the nodes have all that was acknowledged, once.
func (wr *writer) finish(nodes ...*node) int {
	wr.w.t.Helper()
	wr.stop()
	wr.wg.Wait()
	for _, n := range nodes {
		wr.w.wait(n.id+" has applied everything", func() bool {
			for _, o := range nodes {
				if o.fsm.Applied() > n.fsm.Applied() {
					return false
				}
			}
			return true
		})
		seen := map[string]int{}
		for _, e := range n.fsm.Entries() {
			seen[e.Data]++
		}
		for _, a := range wr.acked {
			if seen[a] != 1 {
				for _, o := range nodes {
					for _, e := range o.fsm.Entries() {
						if e.Data == a || strings.HasPrefix(e.Data, "epoch") {
							wr.w.t.Logf("%s: %+v of %d, applied %d, restored %d times", o.id, e, len(o.fsm.Entries()), o.fsm.Applied(), o.fsm.Restores())
						}
					}
				}
				wr.w.t.Fatalf("%s has %q %d times", n.id, a, seen[a])
			}
		}
	}
	wr.w.t.Logf("%d acknowledged, all there", len(wr.acked))
	return len(wr.acked)
}

// said keeps what a controller has logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// lines counts the lines with words in them.
func (s *said) lines(words string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range strings.Lines(s.text.String()) {
		if strings.Contains(l, words) {
			n++
		}
	}
	return n
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}
