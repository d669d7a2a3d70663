package dnsask

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestServers(t *testing.T) {
	got := Servers([]string{"192.0.2.1", "192.0.2.2:5353", "2001:db8::1", "[2001:db8::2]:53"})
	want := []string{"192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:53"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An answer that does not fit into a datagram is asked for again by TCP.
func TestTruncated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skip(err)
	}
	answer := func(truncated bool) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			if m.Truncated = truncated; !truncated {
				m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 200)}}}
			}
			w.WriteMsg(m)
		}
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: answer(false)}, {PacketConn: pc, Handler: answer(true)}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	q := new(dns.Msg)
	q.SetQuestion("a.example.", dns.TypeTXT)
	resp, err := Exchange(context.Background(), q, l.Addr().String(), 5*time.Second)
	if err != nil || resp.Truncated || len(resp.Answer) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
}
