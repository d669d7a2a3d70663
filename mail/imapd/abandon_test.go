package imapd_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"mailplusd/mail/imapd"
	"mailplusd/mail/model"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/wire"
)

// halting stops at the first message that is read until it may go on.
type halting struct {
	imapd.Store
	reads     *atomic.Int32
	first, on chan struct{}
}

func (s halting) Body(id model.BodyID) (*segment.Body, error) {
	if s.reads.Add(1) == 1 {
		close(s.first)
		<-s.on
	}
	return s.Store.Body(id)
}

// TestSearchIsAbandoned: a search that reads messages ends with its connection, not minutes later.
func TestSearchIsAbandoned(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		w.deliver("anna", fmt.Sprintf("Subject: %d\r\n\r\ntext %d\r\n", i, i))
	}
	s := halting{Store: w.store, reads: new(atomic.Int32), first: make(chan struct{}), on: make(chan struct{})}
	set := model.DefaultSettings()
	srv := &imapd.Server{Store: s, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{Protocol: wire.IMAP{}, Limits: wire.Limits{MaxConns: 10, MaxPerIP: 10}})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { l.Close() })
	c := (&world{t, w.state, w.store, srv, l.Addr().String()}).login("anna")
	c.ok("EXAMINE INBOX")
	fmt.Fprint(c.c, "a SEARCH BODY absent\r\n")
	<-s.first
	for _, conn := range l.Conns() {
		conn.Abort("a test")
	}
	close(s.on)
	other := w.login("anna")
	for range 300 { // the other session has all the time it needs
		other.ok("NOOP")
		if n := s.reads.Load(); n > 2 {
			t.Fatalf("%d messages were read for nobody", n)
		}
	}
}
