package transport_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/cluster/transport"
)

// newcomer is a node that can be paired, and what it has stored.
type newcomer struct {
	*transport.Transport
	mu     sync.Mutex
	stored []transport.PairResult
	refuse error // of Check
	fail   error // of Paired
}

func (n *newcomer) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.stored)
}

func newNode(t testing.TB, name string, change ...func(*transport.Options)) *newcomer {
	n := &newcomer{}
	n.Transport = node(t, name, append(change, func(o *transport.Options) {
		o.Pairing = transport.Pairing{
			Hello: func() transport.Hello {
				return transport.Hello{Node: name, Number: -1, Version: "1.2", Formats: map[string]int{"log": 3}, Addrs: []string{"192.0.2.1:7000"}, Extra: json.RawMessage(`{"x":1}`)}
			},
			Check: func(context.Context, transport.PairResult) error { n.mu.Lock(); defer n.mu.Unlock(); return n.refuse },
			Paired: func(_ context.Context, r transport.PairResult) error {
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.fail == nil {
					n.stored = append(n.stored, r)
				}
				return n.fail
			},
		}
	})...)
	return n
}

func invite(t testing.TB, n *newcomer, ttl time.Duration) string {
	t.Helper()
	token, err := n.Invite(ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// covers: I.74
func TestPairWithToken(t *testing.T) {
	a := newNode(t, "a")
	b := newNode(t, "b", func(o *transport.Options) { o.SetClock(90 * time.Second) })
	token := invite(t, b, time.Hour)
	t.Log(token)
	typed := strings.ToLower(strings.ReplaceAll(token, "-", " ")) // as humans do
	r, err := a.Pair(within(t), b.Addr().String(), transport.Credential{Token: typed})
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != "b" || !bytes.Equal(r.Key, b.PublicKey()) || r.Hello.Version != "1.2" || r.Hello.Formats["log"] != 3 || string(r.Hello.Extra) != `{"x":1}` {
		t.Errorf("%+v", r)
	}
	if off := (r.Skew - 90*time.Second).Abs(); off > r.RTT/2+time.Millisecond {
		t.Errorf("skew %v, round trip %v", r.Skew, r.RTT)
	}
	if n := b.count(); n != 1 {
		t.Fatalf("%d pairings stored", n)
	}
	s := b.stored[0]
	if s.ID != "a" || !bytes.Equal(s.Key, a.PublicKey()) || !s.Remote.IsValid() {
		t.Errorf("%+v", s)
	}
	if off := (s.Skew + 90*time.Second).Abs(); off > s.RTT/2+time.Millisecond {
		t.Errorf("skew %v at the other side, round trip %v", s.Skew, s.RTT)
	}
	// What was exchanged is enough for the link.
	pin(t, a.Transport, transport.Peer{ID: r.ID, Key: r.Key, Addrs: []string{b.Addr().String()}})
	pin(t, b.Transport, transport.Peer{ID: s.ID, Key: s.Key})
	echo(t, b.Transport, transport.Lease)
	c, err := a.Dial(within(t), "b", transport.Lease)
	if err != nil {
		t.Fatal(err)
	}
	ping(t, c)
	c.Close()
}

func TestPairWithItself(t *testing.T) {
	b := newNode(t, "b")
	if _, err := b.Pair(within(t), b.Addr().String(), transport.Credential{Token: invite(t, b, time.Hour)}); !errors.Is(err, transport.ErrSelf) {
		t.Errorf("with itself: %v", err)
	}
	if _, err := b.Pair(within(t), b.Addr().String(), transport.Credential{Token: "ABCD-EFGH"}); !errors.Is(err, transport.ErrToken) {
		t.Errorf("no token: %v", err)
	}
}

func TestTokenOnce(t *testing.T) {
	a, b, c := newNode(t, "a"), newNode(t, "b"), newNode(t, "c")
	addr := b.Addr().String()
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: invite(t, c, time.Hour)}); !errors.Is(err, transport.ErrKey) {
		t.Errorf("token of another node: %v", err)
	}
	token := invite(t, b, time.Hour)
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*newcomer{"another node": c, "the same node": a} {
		until(t, "the token is void", func() bool {
			_, err := n.Pair(within(t), addr, transport.Credential{Token: token})
			if err == nil && n == c {
				t.Fatal("a token was used twice")
			}
			if err != nil && !errors.Is(err, transport.ErrPairRefused) && !errors.Is(err, transport.ErrUnreachable) {
				t.Fatalf("%s: %v", name, err)
			}
			return err != nil
		})
	}
	old := invite(t, b, time.Nanosecond)
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: old}); err == nil {
		t.Error("an expired token works")
	}
	first, second := invite(t, b, time.Hour), invite(t, b, time.Hour)
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: first}); !errors.Is(err, transport.ErrPairRefused) {
		t.Errorf("replaced token: %v", err)
	}
	b.Uninvite()
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: second}); err == nil {
		t.Error("a withdrawn token works")
	}
	for _, ttl := range []time.Duration{0, -1, 1000 * time.Hour} {
		if _, err := b.Invite(ttl); err == nil {
			t.Errorf("ttl %v accepted", ttl)
		}
	}
}

// Five wrong secrets make a token void, even for who has the right one.
func TestTokenBruteForce(t *testing.T) {
	a, b := newNode(t, "a"), newNode(t, "b")
	wrong := invite(t, b, time.Hour) // same key, other secret
	token := invite(t, b, time.Hour)
	addr := b.Addr().String()
	for range 5 {
		if _, err := a.Pair(within(t), addr, transport.Credential{Token: wrong}); !errors.Is(err, transport.ErrPairRefused) {
			t.Errorf("wrong secret: %v", err)
		}
	}
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); err == nil {
		t.Error("the token works after five wrong attempts")
	}
	token = invite(t, b, time.Hour)
	for range 4 {
		a.Pair(within(t), addr, transport.Credential{Token: wrong})
	}
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); err != nil {
		t.Errorf("after four wrong attempts: %v", err)
	}
}

func TestPairRefusals(t *testing.T) {
	var errNewer = errors.New("formats too new")
	transport.RegisterError("test.newer", errNewer)
	a, b := newNode(t, "a"), newNode(t, "b")
	addr := b.Addr().String()
	token := invite(t, b, time.Hour)
	b.refuse = errors.New("already initialised")
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); !errors.Is(err, transport.ErrPairRefused) || !strings.Contains(err.Error(), "already initialised") {
		t.Errorf("refused: %v", err)
	}
	b.mu.Lock()
	b.refuse = errNewer
	b.mu.Unlock()
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); !errors.Is(err, errNewer) {
		t.Errorf("registered reason: %v", err)
	}
	b.mu.Lock()
	b.refuse, b.fail = nil, errors.New("disk full")
	b.mu.Unlock()
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); !errors.Is(err, transport.ErrPairRefused) || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("not stored: %v", err)
	}
	b.mu.Lock()
	b.fail = nil
	b.mu.Unlock()
	a.refuse = errors.New("too old")
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("refused by the dialling side: %v", err)
	}
	if n := b.count(); n != 0 {
		t.Errorf("%d stored", n)
	}
	a.refuse = nil // and none of that has used up the token
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); err != nil {
		t.Error(err)
	}
	b.AcceptPairing(transport.Pairing{})
	if _, err := a.Pair(within(t), addr, transport.Credential{Token: token}); !errors.Is(err, transport.ErrUnreachable) || !strings.Contains(err.Error(), "pairing is not open") {
		t.Errorf("pairing closed: %v", err)
	}
}

// breaker passes octets on and cuts the connection after so many from the dialling side, or
// from the other.
func breaker(t testing.TB, to string, asked, answered int64) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			wg.Go(func() { io.CopyN(in, out, answered); in.Close(); out.Close() })
			wg.Go(func() { io.CopyN(out, in, asked); in.Close(); out.Close() })
		}
	})
	return l.Addr().String(), func() { l.Close(); wg.Wait() }
}

// Wherever the connection breaks, the same token leads to a pairing when it is tried again,
// and the dialling side has never success without the other.
func TestPairInterrupted(t *testing.T) {
	const all = 1 << 30
	a, b, c := newNode(t, "a", quiet), newNode(t, "b", quiet), newNode(t, "c", quiet)
	uncertain, failed, succeeded := 0, 0, 0
	try := func(asked, answered int64) {
		token := invite(t, b, time.Hour)
		before := b.count()
		addr, stop := breaker(t, b.Addr().String(), asked, answered)
		defer stop()
		_, err := a.Pair(within(t), addr, transport.Credential{Token: token})
		stored := b.count()
		switch {
		case err == nil:
			succeeded++
			if stored != before+1 {
				t.Errorf("cut after %d, %d: success without the other side", asked, answered)
			}
			return
		case errors.Is(err, transport.ErrPairUncertain):
			uncertain++
			if stored != before { // the token is a's now
				if _, err := c.Pair(within(t), b.Addr().String(), transport.Credential{Token: token}); !errors.Is(err, transport.ErrPairRefused) {
					t.Errorf("another node with the same token: %v", err)
				}
			}
		case stored != before:
			t.Errorf("cut after %d, %d: the other side has stored, and the error is %v", asked, answered, err)
		default:
			failed++
		}
		until(t, "the next attempt succeeds", func() bool {
			_, err := a.Pair(within(t), b.Addr().String(), transport.Credential{Token: token})
			return err == nil
		})
	}
	for n := int64(200); n < 5000; n += 97 {
		try(n, all)
	}
	for n := int64(1000); n < 5000; n += 31 { // shorter than the last answer
		try(all, n)
	}
	t.Logf("%d failed, %d uncertain, %d succeeded", failed, uncertain, succeeded)
	if failed == 0 || uncertain == 0 || succeeded == 0 {
		t.Error("not all outcomes were met")
	}
}
