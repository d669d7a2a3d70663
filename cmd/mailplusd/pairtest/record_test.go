package pairtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// record is everything that the clients were told.
type record struct {
	mu       sync.Mutex
	sent     map[string]*sent
	validity map[string]uint32            // by mailbox
	uids     map[string]map[uint32]string // by mailbox: whose UID it is
	wrong    []string
	last     time.Time     // of an acknowledgement
	gap      time.Duration // longest between two since it was asked for
}

// sent is one message.
type sent struct {
	box      string
	acked    bool
	uid      uint32 // as APPENDUID said; 0: not told
	flagged  bool   // a STORE was acknowledged
	deleting bool   // an EXPUNGE was asked for
	gone     bool   // and acknowledged
	relayed  bool   // somebody else has taken it over and brings it to the pair
	again    int    // that many times its sender got no answer, and sent it again
}

func newRecord() *record {
	return &record{sent: map[string]*sent{}, validity: map[string]uint32{}, uids: map[string]map[uint32]string{}}
}

func (r *record) bad(format string, args ...any) {
	if len(r.wrong) < 50 {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// sending notes that a message is on its way: from here on it may be there.
func (r *record) sending(id, box string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[id] = &sent{box: box}
}

// acked notes that the server has promised to keep it.
func (r *record) acked(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[id].acked = true
	if r.sent[id].relayed {
		return
	}
	now := time.Now()
	if !r.last.IsZero() {
		r.gap = max(r.gap, now.Sub(r.last))
	}
	r.last = now
}

// longest gives the longest time between two acknowledgements since it was called last.
func (r *record) longest() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.gap
	r.gap = 0
	return d
}

// count is how many messages the pair has acknowledged.
func (r *record) count() (acked int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sent {
		if s.acked && !s.relayed {
			acked++
		}
	}
	return acked
}

// change edits what is known of a message.
func (r *record) change(id string, f func(*sent)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.sent[id])
}

// saw notes a mailbox's UIDVALIDITY, and messages with UIDs.
func (r *record) saw(where, box string, validity uint32, list ...stored) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.validity[box]; old != 0 && old != validity {
		r.bad("%s: UIDVALIDITY of %s was %d and is %d", where, box, old, validity)
	}
	r.validity[box] = validity
	known := r.uids[box]
	if known == nil {
		known = map[uint32]string{}
		r.uids[box] = known
	}
	for _, s := range list {
		if s.id == "" {
			r.bad("%s: UID %d of %s has no subject", where, s.uid, box)
			continue
		}
		if old, ok := known[s.uid]; ok && old != s.id {
			r.bad("%s: UID %d of %s was %s and is %s", where, s.uid, box, old, s.id)
		}
		known[s.uid] = s.id
	}
}

// body is what a message says: it can be told from its ID.
func body(id string) string {
	var b strings.Builder
	sum := sha256.Sum256([]byte(id))
	for n := 2 + int(sum[0])%40; n > 0; n-- {
		sum = sha256.Sum256(sum[:])
		b.WriteString(hex.EncodeToString(sum[:]) + "\r\n")
	}
	return b.String()
}

func message(id string) string {
	return "From: sender@client.test\r\nTo: alice@example.test\r\nSubject: " + id + "\r\nMessage-ID: <" + id + "@client.test>\r\n\r\n" + body(id)
}

// compare holds what a node has against what was promised. moved: a merge may have given
// messages new UIDs, in the mailboxes of the node that served less.
func (r *record) compare(t testing.TB, where string, boxes map[string][]stored, moved bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, copies := map[string]stored{}, map[string]int{}
	for box, list := range boxes {
		for _, m := range list {
			s := r.sent[m.id]
			switch {
			case s == nil || s.box != box:
				r.bad("%s: %s in %s was never sent there", where, m.id, box)
				continue
			case found[m.id].uid != 0 && copies[m.id] < s.again:
				copies[m.id]++
			case found[m.id].uid != 0:
				r.bad("%s: %s is in %s twice, UIDs %d and %d", where, m.id, box, found[m.id].uid, m.uid)
			case s.gone:
				r.bad("%s: %s was expunged and is there, UID %d", where, m.id, m.uid)
			case s.uid != 0 && s.uid != m.uid && !moved:
				r.bad("%s: %s was given UID %d and has %d", where, m.id, s.uid, m.uid)
			}
			found[m.id] = m
			if !strings.HasSuffix(m.text, "\r\n\r\n"+body(m.id)) {
				r.bad("%s: %s has another text", where, m.id)
			}
			if s.flagged && !strings.Contains(m.flags, `\Flagged`) {
				r.bad("%s: %s was flagged and has flags (%s)", where, m.id, m.flags)
			}
		}
	}
	acked, lost := 0, []string{}
	for id, s := range r.sent {
		if !s.acked {
			continue
		}
		acked++
		if _, ok := found[id]; !ok && !s.deleting {
			lost = append(lost, id)
		}
	}
	sort.Strings(lost)
	if len(lost) > 0 {
		r.bad("%s: %d of %d acknowledged messages are lost: %s", where, len(lost), acked, strings.Join(lost[:min(len(lost), 20)], " "))
	}
	t.Logf("%s: %d acknowledged, %d found, %d lost, %d sent without an answer", where, acked, len(found), len(lost), len(r.sent)-acked)
}
