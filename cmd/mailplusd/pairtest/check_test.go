package pairtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// boxes reads everything of alice on one node, at its own address.
func (s *site) boxes(n *node, rec *record) (map[string][]stored, error) {
	i, err := dialIMAP(n.addr.String(), "alice")
	if err != nil {
		return nil, err
	}
	defer i.c.Close()
	rec.mu.Lock()
	names := make([]string, 0, len(rec.validity)+1)
	for box := range rec.validity {
		names = append(names, box)
	}
	if rec.validity["INBOX"] == 0 {
		names = append(names, "INBOX")
	}
	rec.mu.Unlock()
	out := map[string][]stored{}
	for _, box := range names {
		validity, err := i.selectBox(box)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", box, err)
		}
		if out[box], err = i.fetch(1, true); err != nil {
			return nil, fmt.Errorf("%s: %w", box, err)
		}
		rec.saw("node "+n.name, box, validity, out[box]...)
	}
	return out, nil
}

type digest struct {
	Applied uint64 `json:"applied"`
	Digest  string `json:"digest"`
}

func (s *site) digest(n *node) (d digest, err error) {
	out, err := s.mpctl(n, "storage", "digest", "-o", "json")
	if err != nil {
		return d, fmt.Errorf("%w: %s", err, out)
	}
	return d, json.Unmarshal([]byte(out), &d)
}

// verify stops the clients and holds both nodes against what they were told. merged: there
// may have been two primaries, whose histories were joined.
func (c *clients) verify(merged bool) {
	s := c.s
	s.t.Helper()
	s.sync()
	c.flow(20, 60*time.Second)
	c.end()
	c.hold(merged)
}

// hold holds both nodes, once the clients have stopped, against what they were told. It gives what
// one of them has.
func (c *clients) hold(merged bool) (last map[string][]stored) {
	s := c.s
	s.t.Helper()
	s.sync()
	var da, db digest
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var err, err2 error
		da, err = s.digest(s.a)
		db, err2 = s.digest(s.b)
		if err == nil && err2 == nil && da.Applied == db.Applied {
			break
		}
		if time.Now().After(end) {
			s.t.Fatalf("no digests at one entry: %v %v %v %v", da, err, db, err2)
		}
	}
	if da != db {
		s.t.Errorf("the nodes differ at entry %d: %s and %s", da.Applied, da.Digest, db.Digest)
	}
	for _, n := range []*node{s.a, s.b} {
		var boxes map[string][]stored
		var err error
		var wg sync.WaitGroup
		s.client.run(&wg, func() { boxes, err = s.boxes(n, c.rec) })
		wg.Wait()
		if err != nil {
			s.t.Fatalf("node %s: %v", n.name, err)
		}
		c.rec.compare(s.t, "node "+n.name, boxes, merged)
		last = boxes
	}
	for _, w := range c.rec.wrong {
		s.t.Error(w)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if !merged && len(s.watch.double) > 0 {
		s.t.Errorf("two holders of the address, %d times: %s", len(s.watch.double), s.watch.double[0])
	}
	s.t.Logf("moments with two holders: %d", len(s.watch.double))
	s.t.Logf("longest time without a greeting: %s", c.gaps.reset().Round(time.Millisecond))
	return last
}
