package pairtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shown is what mpctl ha show tells of the arbiter.
func (s *site) shown(n *node) (v struct {
	State     string `json:"state"`
	ArbiterOK bool   `json:"arbiter_ok"`
	ArbiterNo string `json:"arbiter_says"`
	Alarm     string `json:"alarm"`
	Advice    string `json:"advice"`
}) {
	if out, err := s.mpctl(n, "ha", "show", "-o", "json"); err == nil {
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			s.t.Fatal(err)
		}
	}
	return v
}

// aged is a witness's record as a copy from a while ago has it.
func aged(t testing.TB, raw []byte) []byte {
	t.Helper()
	var r map[string]any
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	r["changed"] = time.Now().Add(-24 * time.Hour).UTC()
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWitness takes a pair through all that can happen to its witness: it dies, and then a node, too;
// its disk is set back to an old copy; its disk is new.
func TestWitness(t *testing.T) {
	// covers: R11.56
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	s := newSite(t, siteOptions{witness: true})
	s.form()
	c := s.clients(2, 1)
	c.flow(20, 60*time.Second)
	record := filepath.Join(s.witness.data, "witness.json")

	// Without it both serve. When a node dies the other may not go on, until the witness is back.
	h := s.holder()
	s.witness.kill()
	s.poll(30*time.Second, "mpctl says that the witness does not answer", func() bool { v := s.shown(h); return !v.ArbiterOK && v.ArbiterNo != "" })
	c.flow(10, 60*time.Second)
	s.other(h).powerOff()
	s.poll(30*time.Second, "nobody holds the address", func() bool { return s.watch.now() == "" })
	s.poll(10*time.Second, "mpctl says that nobody serves, and what to do", func() bool {
		v := s.shown(h)
		return v.State == "isolated" && strings.Contains(v.Advice, "mpctl ha recover "+h.name+" --force")
	})
	s.note("the witness comes back")
	s.witness.start()
	c.flow(10, 60*time.Second)
	restart(s)
	s.sync()
	old, err := os.ReadFile(record)
	if err != nil || !strings.Contains(string(old), `"holder": ""`) {
		t.Fatalf("both are in sync and the witness does not know: %v\n%s", err, old)
	}

	// Its disk is set back to a copy of this moment, after a node has served alone: the other one missed that.
	h = s.holder()
	s.other(h).powerOff()
	c.flow(30, 60*time.Second)
	h.powerOff()
	s.witness.kill()
	if err := os.WriteFile(record, aged(t, old), 0o600); err != nil {
		t.Fatal(err)
	}
	s.note("the witness has an old record")
	heal(s)
	s.witness.start()
	s.other(h).start()
	s.poll(60*time.Second, "the node that missed mail is refused", func() bool {
		return strings.Contains(s.shown(s.other(h)).ArbiterNo, "an old record")
	})
	time.Sleep(5 * time.Second) // as long as it would take it to serve, and more
	if now := s.watch.now(); now != "" {
		t.Errorf("%s holds the address, and lacks what %s had acknowledged", now, h.name)
	}
	h.start()
	c.flow(10, 60*time.Second)
	s.sync()
	if now := s.holder(); now != h {
		t.Errorf("%s serves, and not %s, which has everything", now.name, h.name)
	}

	// Its disk is new: it has another key and is taken in anew.
	s.witness.kill()
	token := s.witnessToken("")
	if err := os.RemoveAll(s.witness.data); err != nil {
		t.Fatal(err)
	}
	s.note("the witness has an empty disk")
	s.witness.start()
	token = s.witnessToken(token)
	s.poll(30*time.Second, "mpctl says that the witness does not answer", func() bool { return !s.shown(h).ArbiterOK })
	c.flow(10, 60*time.Second)
	s.must(h, "ha", "witness", "add", "10.99.0.4:2827", "--invite-file", s.file("winvite2", token))
	s.poll(30*time.Second, "the witness knows that both are in sync", func() bool {
		raw, _ := os.ReadFile(record)
		var r struct {
			InSync []string `json:"in_sync"`
		}
		json.Unmarshal(raw, &r)
		return len(r.InSync) == 2
	})
	h.kill()
	c.flow(10, 60*time.Second)
	restart(s)
	c.verify(false)
}
