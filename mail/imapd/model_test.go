package imapd_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// boxModel is a mailbox as it is, whoever looks: the truth that every answer is held against.
type boxModel struct {
	name    string
	next    int                     // UID of the next message
	uids    []int                   // ascending
	flags   map[int]map[string]bool // by UID
	dying   []int                   // removed by the command under way
	clients []*viewer
}

// viewer is one session's picture of the mailbox, made of nothing but what the server has told it.
type viewer struct {
	*client
	m     *boxModel
	uids  []int                   // by sequence number
	known map[int]map[string]bool // flags that the client believes in, by UID; missing: never told
	last  int                     // highest UID it has seen
	// flags of all as they were at the end of the session's last command
	snapshot map[int]map[string]bool

	told []int // UIDs whose flags the command under way has answered
}

var modelFlags = []string{`\Seen`, `\Flagged`, `\Deleted`, "work", "$Label"}

func (m *boxModel) add(flags ...string) {
	m.uids = append(m.uids, m.next)
	m.flags[m.next] = map[string]bool{}
	for _, f := range flags {
		m.flags[m.next][f] = true
	}
	m.next++
}

func (m *boxModel) copyFlags() map[int]map[string]bool {
	out := make(map[int]map[string]bool, len(m.flags))
	for u, f := range m.flags {
		out[u] = maps.Clone(f)
	}
	return out
}

func (m *boxModel) remove(uid int) {
	m.uids = slices.DeleteFunc(m.uids, func(u int) bool { return u == uid })
	delete(m.flags, uid)
}

func flagSet(text string) map[string]bool {
	out := map[string]bool{}
	for _, f := range strings.Fields(text) {
		if f != `\Recent` {
			out[f] = true
		}
	}
	return out
}

var (
	untaggedNumber = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT)$`)
	untaggedFetch  = regexp.MustCompile(`^\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\))?(?: ?UID (\d+))?\)$`)
	untaggedSearch = regexp.MustCompile(`^\* SEARCH((?: \d+)*)$`)
)

// run does a command and checks every untagged answer in its order; what a search found is returned.
func (v *viewer) run(t *rapid.T, mayExpunge bool, cmd string) (tagged string, found []int) {
	lines := v.do(cmd)
	v.told = v.told[:0]
	for _, l := range lines[:len(lines)-1] {
		switch {
		case untaggedNumber.MatchString(l):
			p := untaggedNumber.FindStringSubmatch(l)
			n, _ := strconv.Atoi(p[1])
			switch p[2] {
			case "EXPUNGE":
				if !mayExpunge {
					t.Fatalf("%s: %q (RFC 3501 §7.4.1)", cmd, l)
				}
				v.expunged(t, n)
			case "EXISTS":
				v.exists(t, n)
			}
		case untaggedFetch.MatchString(l):
			v.fetched(t, cmd, untaggedFetch.FindStringSubmatch(l))
		case untaggedSearch.MatchString(l):
			for _, w := range strings.Fields(untaggedSearch.FindStringSubmatch(l)[1]) {
				n, _ := strconv.Atoi(w)
				found = append(found, n)
			}
		case strings.HasPrefix(l, "* OK [COPYUID"), strings.HasPrefix(l, "* FLAGS"), strings.HasPrefix(l, "* OK [PERMANENTFLAGS"), strings.HasPrefix(l, "+ "):
		default:
			t.Fatalf("%s: unexpected answer %q", cmd, l)
		}
	}
	for _, uid := range v.told { // the last word of the command counts: what others changed may come behind what was asked for
		if truth, alive := v.m.flags[uid]; alive && !maps.Equal(v.known[uid], truth) {
			t.Fatalf("%s: UID %d has flags %v, want %v", cmd, uid, v.known[uid], truth)
		}
	}
	v.snapshot = v.m.copyFlags()
	return lines[len(lines)-1], found
}

func (v *viewer) expunged(t *rapid.T, n int) {
	if n < 1 || n > len(v.uids) {
		t.Fatalf("EXPUNGE %d of %d", n, len(v.uids))
	}
	if _, alive := v.m.flags[v.uids[n-1]]; alive {
		t.Fatalf("EXPUNGE %d: UID %d is still there", n, v.uids[n-1])
	}
	delete(v.known, v.uids[n-1])
	v.uids = slices.Delete(v.uids, n-1, n)
}

// exists adds what is new: all messages above the highest UID seen so far, in their order.
func (v *viewer) exists(t *rapid.T, n int) {
	if n < len(v.uids) {
		t.Fatalf("EXISTS %d, though %d messages are known and none was expunged", n, len(v.uids))
	}
	grown := func(all []int) []int {
		i, _ := slices.BinarySearch(all, v.last+1)
		return all[i:]
	}
	news := grown(v.m.uids)
	if before := slices.Sorted(slices.Values(append(slices.Clone(v.m.uids), v.m.dying...))); n == len(v.uids)+len(grown(before)) {
		news = grown(before) // EXPUNGE tells what has come before it removes some of that
	}
	if v.uids = append(v.uids, news...); len(news) > 0 {
		v.last = news[len(news)-1]
	}
	if n != len(v.uids) {
		t.Fatalf("EXISTS %d, want %d: %v", n, len(v.uids), v.uids)
	}
}

func (v *viewer) fetched(t *rapid.T, cmd string, p []string) {
	n, _ := strconv.Atoi(p[1])
	if n < 1 || n > len(v.uids) {
		t.Fatalf("%s: FETCH of %d, there are %d", cmd, n, len(v.uids))
	}
	uid := v.uids[n-1]
	if told := p[2] + p[4]; told != "" && told != strconv.Itoa(uid) {
		t.Fatalf("%s: message %d has UID %s, was %d", cmd, n, told, uid)
	}
	v.known[uid] = flagSet(p[3])
	v.told = append(v.told, uid)
}

// synced holds the picture against the truth, right after a command that tells everything.
func (v *viewer) synced(t *rapid.T) {
	if tagged, _ := v.run(t, true, "NOOP"); !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("NOOP: %s", tagged)
	}
	if !slices.Equal(v.uids, v.m.uids) {
		t.Fatalf("the session knows %v, there are %v", v.uids, v.m.uids)
	}
	for uid, f := range v.known {
		if !maps.Equal(f, v.m.flags[uid]) {
			t.Fatalf("UID %d: the session believes in flags %v, they are %v", uid, f, v.m.flags[uid])
		}
	}
}

// chosen draws a set of known messages: its text, by sequence number or UID, and the UIDs.
func (v *viewer) chosen(t *rapid.T, byUID bool) (string, []int) {
	if len(v.uids) == 0 {
		t.Skip("nothing to choose")
	}
	a, b := rapid.IntRange(1, len(v.uids)).Draw(t, "from"), rapid.IntRange(1, len(v.uids)).Draw(t, "to")
	lo, hi := min(a, b), max(a, b)
	uids := slices.Clone(v.uids[lo-1 : hi])
	if byUID {
		return fmt.Sprintf("%d:%d", v.uids[a-1], v.uids[b-1]), uids
	}
	return fmt.Sprintf("%d:%d", a, b), uids
}

func (v *viewer) open(t *rapid.T) {
	out := v.ok("SELECT " + v.m.name)
	v.uids, v.known = slices.Clone(v.m.uids), map[int]map[string]bool{}
	v.last, v.snapshot = v.m.next-1, v.m.copyFlags()
	if !strings.Contains(out, fmt.Sprintf("* %d EXISTS", len(v.uids))) || !strings.Contains(out, fmt.Sprintf("[UIDNEXT %d]", v.m.next)) {
		t.Fatalf("SELECT, want %d messages and UIDNEXT %d:\n%s", len(v.uids), v.m.next, out)
	}
}

func (v *viewer) store(t *rapid.T) {
	byUID, silent := rapid.Bool().Draw(t, "uid"), rapid.Bool().Draw(t, "silent")
	set, uids := v.chosen(t, byUID)
	mode := rapid.SampledFrom([]string{"", "+", "-"}).Draw(t, "mode")
	flags := rapid.SliceOfNDistinct(rapid.SampledFrom(modelFlags), 1, 3, rapid.ID[string]).Draw(t, "flags")
	change := func(to map[string]bool) {
		if mode == "" {
			clear(to)
		}
		for _, f := range flags {
			if to[f] = true; mode == "-" {
				delete(to, f)
			}
		}
	}
	for _, u := range uids {
		if f, alive := v.m.flags[u]; alive {
			change(f)
		}
		if f, ok := v.known[u]; ok && silent {
			change(f) // the client takes the result for granted unless told otherwise
		}
	}
	cmd := "STORE " + set + " " + mode + "FLAGS"
	if silent {
		cmd += ".SILENT"
	}
	if byUID {
		cmd = "UID " + cmd
	}
	if tagged, _ := v.run(t, byUID, cmd+" ("+strings.Join(flags, " ")+")"); !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("%s: %s", cmd, tagged)
	}
}

func (v *viewer) fetch(t *rapid.T) {
	byUID := rapid.Bool().Draw(t, "uid")
	set, uids := v.chosen(t, byUID)
	cmd := "FETCH " + set + " (UID FLAGS)"
	if byUID {
		cmd = "UID " + cmd
	}
	for _, u := range uids {
		delete(v.known, u)
	}
	if tagged, _ := v.run(t, byUID, cmd); tagged[:2] != "OK" && tagged[:2] != "NO" { // NO: some are gone (RFC 5530 EXPUNGEISSUED)
		t.Fatalf("%s: %s", cmd, tagged)
	}
	for _, u := range uids {
		if _, alive := v.m.flags[u]; alive && v.known[u] == nil {
			t.Fatalf("%s: UID %d was not answered", cmd, u)
		}
	}
}

func (v *viewer) expunge(t *rapid.T) {
	var limit []int
	cmd := "EXPUNGE"
	if rapid.Bool().Draw(t, "uid") {
		var set string
		set, limit = v.chosen(t, true)
		cmd = "UID EXPUNGE " + set
	}
	for _, u := range slices.Clone(v.m.uids) {
		if v.m.flags[u][`\Deleted`] && (limit == nil || u >= limit[0] && u <= limit[len(limit)-1]) {
			v.m.remove(u)
			v.m.dying = append(v.m.dying, u)
		}
	}
	tagged, _ := v.run(t, true, cmd)
	v.m.dying = nil
	if !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("%s: %s", cmd, tagged)
	}
}

func (v *viewer) copyOrMove(t *rapid.T) {
	byUID, move := rapid.Bool().Draw(t, "uid"), rapid.Bool().Draw(t, "move")
	set, uids := v.chosen(t, byUID)
	cmd, to := "COPY ", v.m.name
	if move {
		cmd, to = "MOVE ", "Trash"
	}
	for _, u := range uids {
		f, alive := v.m.flags[u]
		switch {
		case alive && move:
			v.m.remove(u)
		case alive:
			v.m.add(slices.Collect(maps.Keys(f))...)
		}
	}
	if cmd += set + " " + to; byUID {
		cmd = "UID " + cmd
	}
	if tagged, _ := v.run(t, byUID || move, cmd); !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("%s: %s", cmd, tagged)
	}
}

func (v *viewer) appendOne(t *rapid.T) {
	flags := rapid.SliceOfNDistinct(rapid.SampledFrom(modelFlags), 0, 2, rapid.ID[string]).Draw(t, "flags")
	want := fmt.Sprintf(" %d] ", v.m.next)
	v.m.add(flags...)
	tagged, _ := v.run(t, true, fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", v.m.name, strings.Join(flags, " "), len(mail), mail))
	if !strings.HasPrefix(tagged, "OK [APPENDUID ") || !strings.Contains(tagged, want) {
		t.Fatalf("APPEND: %s, want UID%s", tagged, want)
	}
}

// search must find what has the flag now and had it at the session's last command, and nothing that
// has and had it not: in between either is right.
func (v *viewer) search(t *rapid.T) {
	f := rapid.SampledFrom(modelFlags).Draw(t, "flag")
	key := strings.ToUpper(strings.TrimPrefix(f, `\`))
	if !strings.HasPrefix(f, `\`) {
		key = "KEYWORD " + f
	}
	before, snapshot := slices.Clone(v.uids), v.snapshot
	_, found := v.run(t, false, "SEARCH "+key)
	var got []int
	for _, n := range found {
		if n < 1 || n > len(v.uids) {
			t.Fatalf("SEARCH found %d of %d", n, len(v.uids))
		}
		u := v.uids[n-1]
		if truth, alive := v.m.flags[u]; alive && !truth[f] && !snapshot[u][f] {
			t.Fatalf("SEARCH %s found UID %d, which has %v", key, u, truth)
		}
		got = append(got, u)
	}
	for _, u := range before {
		if v.m.flags[u][f] && snapshot[u][f] && !slices.Contains(got, u) {
			t.Fatalf("SEARCH %s: UID %d is missing in %v", key, u, got)
		}
	}
}

// TestSessionsAgreeWithModel drives three sessions on one mailbox with random commands and holds
// every answer against a model: sequence numbers under expunges by others, UIDs that never come
// back, flags that everybody is told of, EXPUNGE only where it may come.
func TestSessionsAgreeWithModel(t *testing.T) {
	w := newWorld(t)
	conns := []*client{w.login("anna"), w.login("anna"), w.login("anna")}
	for _, c := range conns {
		c.c.SetDeadline(timeless)
	}
	boxes := 0
	rapid.Check(t, func(t *rapid.T) {
		boxes++
		m := &boxModel{name: fmt.Sprintf("box%d", boxes), next: 1, flags: map[int]map[string]bool{}}
		conns[0].ok("CREATE " + m.name)
		for _, c := range conns {
			v := &viewer{client: c, m: m}
			v.open(t)
			m.clients = append(m.clients, v)
		}
		one := func(f func(*viewer, *rapid.T)) func(*rapid.T) {
			return func(t *rapid.T) { f(rapid.SampledFrom(m.clients).Draw(t, "session"), t) }
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": one((*viewer).appendOne), "append again": one((*viewer).appendOne), "store": one((*viewer).store), "fetch": one((*viewer).fetch),
			"expunge": one((*viewer).expunge), "copy or move": one((*viewer).copyOrMove), "search": one((*viewer).search), "noop": one((*viewer).synced),
			"reopen": one(func(v *viewer, t *rapid.T) { // CLOSE would expunge
				v.ok("UNSELECT")
				v.open(t)
			}),
		})
		for _, v := range m.clients {
			v.synced(t)
			v.ok("UNSELECT")
		}
	})
}
