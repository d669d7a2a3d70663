package main

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"mailplusd/cluster/pair"
	"mailplusd/mail"
)

// TestUnblockAndLateReport: an administrator lifts a block while the report of it is on its way to the other
// node. The report may be as slow as it likes, the client is let in on both.
func TestUnblockAndLateReport(t *testing.T) {
	// covers: I.41
	here, there := new(mail.Server), new(mail.Server)
	there.Clients.Share(true)
	book, err := pair.OpenBook(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Update(func(f *pair.Facts) error { f.State, f.Peer.ID = pair.Paired, "b"; return nil }); err != nil {
		t.Fatal(err)
	}
	onWay, arrives, asked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c := &counting{mail: here, book: book, log: slog.New(slog.DiscardHandler)}
	c.told = there.Clients.Run()
	peer := &counting{mail: there}
	c.call = func(ctx context.Context, _, method string, req []byte) ([]byte, error) {
		switch method {
		case clientsMethod:
			close(onWay)
			<-arrives
			return peer.learn(ctx, "a", req)
		default:
			close(asked)
			return peer.unblock(ctx, "a", req)
		}
	}
	here.Clients.Share(true)
	ip := netip.MustParseAddr("192.0.2.1")
	if here.Clients.Rate("smtp").Take(ip, 0, time.Now()) {
		t.Fatal("not blocked")
	}
	reported, lifted := make(chan error, 1), make(chan error, 1)
	go func() { reported <- c.report(t.Context()) }()
	<-onWay
	go func() {
		here.UnblockHere(ip)
		found, err := c.unblockThere(t.Context(), ip)
		if !found {
			t.Error("the other node did not know of the block: nothing is proved")
		}
		lifted <- err
	}()
	select { // what is wrong goes first
	case <-asked:
	case <-time.After(100 * time.Millisecond):
	}
	close(arrives)
	for _, ch := range []chan error{reported, lifted} {
		if err := <-ch; err != nil {
			t.Error(err)
		}
	}
	for name, s := range map[string]*mail.Server{"here": here, "there": there} {
		if b := s.Clients.Blocks(time.Now()); len(b) > 0 {
			t.Errorf("%s: still blocked: %v", name, b)
		}
	}
	if raw, err := c.learn(t.Context(), "b", mustReport(t, there)); err != nil || binary.BigEndian.Uint64(raw) != here.Clients.Run() {
		t.Error(err)
	}
	if b := here.Clients.Blocks(time.Now()); len(b) > 0 {
		t.Errorf("the other node brings it back: %v", b)
	}
}

func mustReport(t *testing.T, s *mail.Server) []byte {
	t.Helper()
	raw, err := s.ReportClients(false)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
