package pairtest

import (
	"testing"
	"time"
)

func TestPairHolderKilled(t *testing.T) {
	// covers: R11.02
	s := newSite(t, siteOptions{})
	s.form()
	c := s.clients(3, 1)
	c.flow(50, 30*time.Second)
	h := s.holder()
	h.kill()
	s.poll(20*time.Second, "the other node takes over", func() bool { return s.watch.now() == s.other(h).name })
	c.flow(50, 30*time.Second)
	h.start()
	c.verify(false)
}
