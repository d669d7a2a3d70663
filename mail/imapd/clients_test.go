package imapd_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// history is what all clients of a mailbox must agree on, whenever they look.
type history struct {
	mu      sync.Mutex
	flags   map[string]string // by UID and mod-sequence
	pause   sync.RWMutex      // held by each command for reading; for writing while a picture is held against the truth
	checked int
}

// cached is one client's picture of a mailbox, kept over connections as a mail program does, made
// of nothing but answers.
type cached struct {
	t        testing.TB
	w        *world
	c        *client
	h        *history
	box      model.MailboxID
	name     string
	rnd      *rand.Rand
	qresync  bool // else it reads everything again after each connect
	uids     []uint32
	flags    map[uint32]string
	modseqs  map[uint32]uint64
	gone     map[uint32]bool
	validity uint64
	modseq   uint64 // up to here the picture is complete, as far as the server has told it
	unknown  int    // new messages whose UIDs aren't known yet
}

func newCached(w *world, h *history, box model.Mailbox, seed uint64, qresync bool) *cached {
	return &cached{
		t: w.t, w: w, h: h, box: box.ID, name: box.Name, rnd: rand.New(rand.NewPCG(seed, 1)), qresync: qresync,
		flags: map[uint32]string{}, modseqs: map[uint32]uint64{}, gone: map[uint32]bool{},
	}
}

var (
	reFetch    = regexp.MustCompile(`^\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\) ?)?(?:MODSEQ \((\d+)\))?\)$`)
	reVanished = regexp.MustCompile(`^\* VANISHED (\(EARLIER\) )?([\d:,]+)$`)
	reSearch   = regexp.MustCompile(`^\* SEARCH((?: \d+)*)(?: \(MODSEQ \d+\))?$`)
)

func (c *cached) failf(format string, a ...any) {
	c.t.Helper()
	c.t.Errorf(format, a...)
	panic(stop{})
}

type stop struct{}

// run does a command and checks each answer.
func (c *cached) run(mayExpunge bool, cmd string) string {
	lines := c.c.do(cmd)
	for _, l := range lines[:len(lines)-1] {
		if m := highest.FindStringSubmatch(l); m != nil {
			c.told(m[1])
		}
		switch {
		case untaggedNumber.MatchString(l):
			p := untaggedNumber.FindStringSubmatch(l)
			n, _ := strconv.Atoi(p[1])
			switch p[2] {
			case "EXPUNGE":
				if !mayExpunge || c.qresync || n < 1 || n > len(c.uids)+c.unknown {
					c.failf("%s: %s, %d known", cmd, l, len(c.uids))
				}
				c.remove(n)
			case "EXISTS":
				if n < len(c.uids)+c.unknown {
					c.failf("%s: EXISTS %d, %d known", cmd, n, len(c.uids))
				}
				c.unknown = n - len(c.uids)
			}
		case reVanished.MatchString(l):
			p := reVanished.FindStringSubmatch(l)
			if !c.qresync || !mayExpunge && p[1] == "" {
				c.failf("%s: %s", cmd, l)
			}
			c.vanished(cmd, p[2], p[1] != "")
		case reFetch.MatchString(l):
			c.fetched(cmd, reFetch.FindStringSubmatch(l))
		case reSearch.MatchString(l), strings.HasPrefix(l, "* FLAGS"), strings.HasPrefix(l, "* OK ["), strings.HasPrefix(l, "+ "):
		default:
			c.failf("%s: unexpected answer %q", cmd, l)
		}
	}
	tagged := lines[len(lines)-1]
	if m := highest.FindStringSubmatch(tagged); m != nil {
		c.told(m[1])
	}
	return tagged
}

// heard takes a message's mod-sequence for the mailbox's, unless the server says that expunges
// before it have yet to come: told.
func (c *cached) heard(n string) {
	v, _ := strconv.ParseUint(n, 10, 64)
	c.modseq = max(c.modseq, v)
}

func (c *cached) told(n string) { c.modseq, _ = strconv.ParseUint(n, 10, 64) }

func (c *cached) remove(n int) {
	if n > len(c.uids) {
		c.unknown--
		return
	}
	u := c.uids[n-1]
	c.gone[u] = true
	delete(c.flags, u)
	delete(c.modseqs, u)
	c.uids = slices.Delete(c.uids, n-1, n)
}

func (c *cached) vanished(cmd, set string, earlier bool) {
	for _, part := range strings.Split(set, ",") {
		a, b, ok := strings.Cut(part, ":")
		if !ok {
			b = a
		}
		from, _ := strconv.Atoi(a)
		to, _ := strconv.Atoi(b)
		for u := uint32(from); u <= uint32(to); u++ {
			i, known := slices.BinarySearch(c.uids, u)
			switch {
			case known:
				c.remove(i + 1)
			case earlier, c.gone[u]:
				c.gone[u] = true
			case c.unknown > 0: // one of the new messages
				c.gone[u] = true
				c.unknown--
			default:
				c.failf("%s: VANISHED %d, which isn't there", cmd, u)
			}
		}
	}
}

func (c *cached) fetched(cmd string, p []string) {
	n, _ := strconv.Atoi(p[1])
	if n < 1 || n > len(c.uids)+c.unknown {
		c.failf("%s: FETCH of %d, there are %d", cmd, n, len(c.uids)+c.unknown)
	}
	uid64, _ := strconv.ParseUint(p[2], 10, 32)
	uid := uint32(uid64)
	if n > len(c.uids) {
		if uid == 0 || n != len(c.uids)+1 || len(c.uids) > 0 && uid <= c.uids[len(c.uids)-1] {
			return // nothing is known of this one yet: it will be asked for
		}
		if c.gone[uid] {
			c.failf("%s: UID %d has come back", cmd, uid)
		}
		c.uids, c.unknown = append(c.uids, uid), c.unknown-1
	}
	known := c.uids[n-1]
	if uid != 0 && uid != known {
		c.failf("%s: message %d has UID %d, was %d", cmd, n, uid, known)
	}
	if p[4] == "" {
		return
	}
	c.heard(p[4])
	modseq, _ := strconv.ParseUint(p[4], 10, 64)
	if modseq < c.modseqs[known] {
		c.failf("%s: the mod-sequence of UID %d falls from %d to %d", cmd, known, c.modseqs[known], modseq)
	}
	if !strings.Contains(p[0], "FLAGS (") {
		if modseq != c.modseqs[known] { // a silent STORE of our own: read again what it came to
			delete(c.flags, known)
		}
		c.modseqs[known] = modseq
		return
	}
	flags := sortedFlags(p[3])
	c.flags[known], c.modseqs[known] = flags, modseq
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	key := fmt.Sprint(known, " ", modseq)
	if before, ok := c.h.flags[key]; ok && before != flags {
		c.failf("%s: UID %d at mod-sequence %d has flags %q here and %q there", cmd, known, modseq, flags, before)
	}
	c.h.flags[key] = flags
}

func sortedFlags(s string) string {
	return strings.Join(slices.Sorted(maps.Keys(flagSet(s))), " ")
}

// connect opens the mailbox, with what is known of it when the client can.
func (c *cached) connect() {
	if c.c != nil {
		c.c.c.Close()
	}
	c.c = c.w.login("anna")
	c.c.c.SetDeadline(timeless)
	enable := "ENABLE CONDSTORE"
	if c.qresync {
		enable = "ENABLE QRESYNC"
	}
	c.c.ok(enable)
	cmd := "SELECT " + c.name
	if c.qresync && c.validity != 0 {
		cmd += fmt.Sprintf(" (QRESYNC (%d %d%s))", c.validity, c.modseq, c.knownArgs())
		c.unknown = 0
	} else {
		c.uids, c.unknown = nil, 0
		clear(c.flags)
		clear(c.modseqs)
	}
	if cmd == "SELECT "+c.name {
		_, c.validity, _ = c.opened(cmd)
		c.run(true, "NOOP")
		c.learn()
		return
	}
	// The picture is of before: answers name sequence numbers of now, VANISHED (EARLIER) comes first.
	lines := c.c.do(cmd)
	now := 0
	for _, l := range lines {
		if m := untaggedNumber.FindStringSubmatch(l); m != nil && m[2] == "EXISTS" {
			now, _ = strconv.Atoi(m[1])
		}
	}
	for _, l := range lines {
		if m := reVanished.FindStringSubmatch(l); m != nil {
			c.vanished(cmd, m[2], true)
		}
	}
	c.unknown = now - len(c.uids)
	if c.unknown < 0 {
		c.failf("%s: %d messages, the client knows %v", cmd, now, c.uids)
	}
	for _, l := range lines {
		if m := reFetch.FindStringSubmatch(l); m != nil {
			c.fetched(cmd, m)
		}
		if m := highest.FindStringSubmatch(l); m != nil {
			c.heard(m[1])
		}
	}
	c.learn()
}

// knownArgs sometimes adds the UIDs that are known, and some of them with their numbers.
func (c *cached) knownArgs() string {
	if len(c.uids) == 0 || c.rnd.IntN(2) == 0 {
		return ""
	}
	args := fmt.Sprintf(" 1:%d", c.uids[len(c.uids)-1])
	if c.rnd.IntN(2) == 0 {
		i, k := c.rnd.IntN(len(c.uids)), len(c.uids)-1
		if i == k {
			return args + fmt.Sprintf(" (%d %d)", i+1, c.uids[i])
		}
		args += fmt.Sprintf(" (%d,%d %d,%d)", i+1, k+1, c.uids[i], c.uids[k])
	}
	return args
}

func (c *cached) opened(cmd string) (modseq, validity uint64, all string) {
	modseq, validity, all = c.c.opened(cmd)
	for _, l := range strings.Split(all, "\n") {
		if m := untaggedNumber.FindStringSubmatch(l); m != nil && m[2] == "EXISTS" {
			n, _ := strconv.Atoi(m[1])
			c.unknown = n
		}
	}
	c.modseq = modseq
	return modseq, validity, all
}

// learn asks for what isn't known: new messages, and flags after silent changes.
func (c *cached) learn() {
	for c.unknown > 0 {
		c.run(false, fmt.Sprintf("FETCH %d:* (UID FLAGS MODSEQ)", len(c.uids)+1))
		if c.unknown > 0 {
			c.run(true, "NOOP") // some of them are gone: be told
		}
	}
	for i, u := range c.uids {
		if _, ok := c.flags[u]; !ok {
			c.run(false, fmt.Sprintf("FETCH %d (UID FLAGS MODSEQ)", i+1))
		}
	}
}

// check holds the picture against the store while nobody changes anything.
func (c *cached) check(reconnect bool) {
	c.h.pause.Lock()
	defer c.h.pause.Unlock()
	if reconnect {
		c.connect()
	}
	c.run(true, "NOOP")
	c.learn()
	c.run(true, "NOOP")
	box, truth, err := c.w.store.Snapshot(c.box)
	if err != nil {
		c.failf("%v", err)
	}
	var uids []uint32
	for i := range truth {
		m := &truth[i]
		u := uint32(m.UID)
		uids = append(uids, u)
		var flags []string
		for _, f := range model.SystemFlags {
			if m.Flags&f.Bit != 0 {
				flags = append(flags, f.Name)
			}
		}
		for _, k := range m.Keywords {
			flags = append(flags, box.Keywords[k])
		}
		slices.Sort(flags)
		if want := strings.Join(flags, " "); c.flags[u] != want || c.modseqs[u] != m.ModSeq {
			c.failf("UID %d: the client knows flags %q at %d, the truth is %q at %d", u, c.flags[u], c.modseqs[u], want, m.ModSeq)
		}
	}
	if !slices.Equal(c.uids, uids) {
		c.failf("the client knows %v, there are %v", c.uids, uids)
	}
	c.h.checked++
}

// step does one random command.
func (c *cached) step() {
	switch c.rnd.IntN(30) {
	case 0:
		c.check(true)
		return
	case 1, 2:
		c.check(false)
		return
	}
	c.h.pause.RLock()
	defer c.h.pause.RUnlock()
	n := len(c.uids)
	if n == 0 || n < 10 && c.rnd.IntN(3) == 0 {
		c.run(true, fmt.Sprintf("APPEND %s {%d+}\r\n%s", c.name, len(mail), mail))
		c.learn()
		return
	}
	a := 1 + c.rnd.IntN(n)
	b := min(n, a+c.rnd.IntN(4))
	flag := modelFlags[c.rnd.IntN(len(modelFlags))]
	set, uidSet := fmt.Sprintf("%d:%d", a, b), fmt.Sprintf("%d:%d", c.uids[a-1], c.uids[b-1])
	sign := []string{"+", "-", ""}[c.rnd.IntN(3)]
	silent := []string{"", ".SILENT"}[c.rnd.IntN(2)]
	switch k := c.rnd.IntN(13); k {
	case 0:
		c.run(true, "NOOP")
	case 1, 2:
		c.run(false, fmt.Sprintf("STORE %s %sFLAGS%s (%s)", set, sign, silent, flag))
	case 3, 4:
		c.run(true, fmt.Sprintf("UID STORE %s %sFLAGS%s (%s)", uidSet, sign, silent, flag))
	case 5:
		c.run(true, fmt.Sprintf("UID STORE %s (UNCHANGEDSINCE %d) %sFLAGS%s (%s)", uidSet, c.modseq, sign, silent, flag))
	case 6:
		c.run(true, "EXPUNGE")
	case 7:
		c.run(true, "UID EXPUNGE "+uidSet)
	case 8:
		c.run(false, "FETCH "+set+" (UID FLAGS MODSEQ)")
	case 9:
		c.run(true, fmt.Sprintf("UID FETCH 1:* (UID FLAGS MODSEQ) (CHANGEDSINCE %d)", c.modseq))
	case 10:
		c.run(true, "UID COPY "+uidSet+" "+c.name)
	case 11:
		c.run(false, "SEARCH KEYWORD work")
	case 12:
		if c.rnd.IntN(4) == 0 {
			c.run(true, "UID MOVE "+uidSet+" Trash")
		}
	}
	c.learn()
}

// TestManyClients: sixteen clients change one mailbox at the same time. Each answer must fit what
// its client was told before, all must agree on what a message was like at a mod-sequence, and
// whenever everybody holds still, a client's picture is the truth, after a reconnect with QRESYNC
// as well. IMAP_MODEL=1m lets it run for a minute.
func TestManyClients(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	limit := 2 * time.Second
	if v, err := time.ParseDuration(os.Getenv("IMAP_MODEL")); err == nil {
		limit = v
	}
	box, err := w.store.Create(context.Background(), 'a', "Busy", "")
	if err != nil {
		t.Fatal(err)
	}
	h := &history{flags: map[string]string{}}
	var wg sync.WaitGroup
	end := time.Now().Add(limit)
	all := make([]*cached, 16)
	for i := range all {
		all[i] = newCached(w, h, box, uint64(i), i%2 == 0)
		all[i].connect()
	}
	for _, c := range all {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() {
				if p := recover(); p != nil && p != any(stop{}) {
					panic(p)
				}
			}()
			for n := 0; (n < 20 || time.Now().Before(end)) && !t.Failed(); n++ {
				c.step()
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, c := range all {
		c.check(i%4 == 0)
	}
	t.Logf("%d comparisons with the truth, %d versions of messages", h.checked, len(h.flags))
}

// forgetful remembers no expunges: every client was away for too long.
type forgetful struct{ imapd.Store }

func (forgetful) Expunged(model.MailboxID, uint64, uint64) ([]model.UID, bool, error) {
	return nil, false, nil
}

// serve opens a second server on the same store.
func (w *world) serve(s imapd.Store) *world {
	w.t.Helper()
	set := model.DefaultSettings()
	srv := &imapd.Server{Store: s, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{Protocol: wire.IMAP{}, Limits: wire.Limits{MaxConns: 100, MaxPerIP: 100}})
	if err != nil {
		w.t.Fatal(err)
	}
	go srv.Serve(l)
	w.t.Cleanup(func() { l.Close() })
	return &world{w.t, w.state, w.store, srv, l.Addr().String()}
}

// TestResyncAfterAnything: one client works, another comes back now and then and must find, by
// QRESYNC alone, exactly what there is; with tombstones and without.
func TestResyncAfterAnything(t *testing.T) {
	w := newWorld(t)
	for _, to := range []struct {
		name string
		w    *world
	}{{"Remembered", w}, {"Forgotten", w.serve(forgetful{w.store})}} {
		t.Run(to.name, func(t *testing.T) {
			box, err := w.store.Create(context.Background(), 'a', to.name, "")
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(6) {
				h := &history{flags: map[string]string{}}
				worker, back := newCached(w, h, box, seed, true), newCached(to.w, h, box, seed+100, true)
				worker.connect()
				for range 12 {
					for range worker.rnd.IntN(8) {
						worker.step()
					}
					back.check(true)
				}
			}
		})
	}
}
