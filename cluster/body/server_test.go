package body

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// talk opens a connection to a server and sends octets.
func talk(t testing.TB, w *wire, b []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServerEndsConnectionsThatMakeNoSense(t *testing.T) {
	many := []byte(preface)
	for i := range maxStreams + 1 {
		many = append(binary.BigEndian.AppendUint64(header(many, frameData, 9), uint64(i)), 'x')
	}
	for name, b := range map[string][]byte{
		"another protocol":   []byte("GET / HTTP/1.1\r\n\r\n"),
		"another version":    []byte("MPBODY\x00\x09"),
		"kind 0":             header([]byte(preface), 0, 0),
		"kind 99":            header([]byte(preface), 99, 0),
		"an answer":          append(header([]byte(preface), frameAcks, ackSize), make([]byte, ackSize)...),
		"a huge frame":       header([]byte(preface), framePut, 1<<31),
		"a short frame":      header([]byte(preface), framePut, putHead-1),
		"half a name":        header([]byte(preface), frameHave, 8+31),
		"too many streams":   many,
		"a chunk of nothing": header([]byte(preface), frameData, 8),
	} {
		b1 := newMemory()
		w := newWire(t, b1)
		c := talk(t, w, b)
		if n, err := io.Copy(io.Discard, c); n != 0 && err == nil {
			t.Errorf("%s: %d octets of answer", name, n)
		}
		if len(b1.bodies) != 0 {
			t.Errorf("%s: something was stored", name)
		}
	}
}

func TestServerRefusesMoreConnections(t *testing.T) {
	w := newWire(t, newMemory())
	for range maxConns {
		c := talk(t, w, header([]byte(preface), frameEnsure, 48))
		c.Write(make([]byte, 48))
		if _, err := io.ReadFull(c, make([]byte, frameHead+ackSize)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", w.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, _ := c.Read(make([]byte, 1)); n != 0 {
		t.Error("one more is served")
	}
}

// TestStreamsSpill: what streams hold in memory is bounded.
func TestStreamsSpill(t *testing.T) {
	m := newMemory()
	var acks sync.WaitGroup
	in := newInbox(context.Background(), m, func(_ uint64, err error) {
		if err != nil {
			t.Error(err)
		}
		acks.Done()
	})
	raw := octets(1, 20*maxChunk)
	id := ID(sha256.Sum256(raw))
	const streams = 100
	for off := 0; off < len(raw); off += maxChunk {
		for st := range uint64(streams) {
			if err := in.data(append(binary.BigEndian.AppendUint64(nil, st), raw[off:off+maxChunk]...)); err != nil {
				t.Fatal(err)
			}
			if in.buffered > maxBuffered {
				t.Fatalf("%d octets are held", in.buffered)
			}
		}
	}
	if m.spilled < streams/2 {
		t.Errorf("%d streams went to disk", m.spilled)
	}
	acks.Add(streams)
	for st := range uint64(streams) {
		frame := appendCommit(nil, st, st, id, int64(len(raw)), nil)
		if err := in.commit(frame[frameHead:]); err != nil {
			t.Fatal(err)
		}
	}
	acks.Wait()
	if in.buffered != 0 || len(in.streams) != 0 {
		t.Errorf("%d octets and %d streams are left", in.buffered, len(in.streams))
	}
	in.close()
}

func TestBudget(t *testing.T) {
	b := newBudget(100)
	b.take(60)
	b.take(40)
	took := make(chan bool)
	go func() { took <- b.take(50) }()
	select {
	case <-took:
		t.Error("took what was not there")
	default:
	}
	b.give(60)
	if !<-took {
		t.Error("closed")
	}
	b.give(90)
	if !b.take(1000) { // alone, larger than all
		t.Error("closed")
	}
	b.give(1000)
	go func() { b.take(100); took <- b.take(1) }()
	b.close()
	if <-took {
		t.Error("took from a closed one")
	}
}

func FuzzFrames(f *testing.F) {
	raw := []byte("hello")
	rec := whole(raw)
	all := appendPut(nil, 1, &rec)
	all = append(binary.BigEndian.AppendUint64(header(all, frameData, 13), 7), raw...)
	all = appendCommit(all, 2, 7, rec.ID, 5, nil)
	all = appendAbort(all, 8)
	all, _ = ensureRequest(rec.ID, 5).encode(all, 1)
	all, _ = getRequest(rec.ID).encode(all, 1)
	all, _ = haveRequest([]ID{rec.ID, {}}).encode(all, 1)
	all = header(all, frameAlive, 0)
	f.Add(all)
	f.Add(appendAcks(nil, make([]byte, 3*ackSize)))
	f.Fuzz(func(t *testing.T, data []byte) {
		store := newMemory()
		srv := NewServer(store, nil)
		here, there := net.Pipe()
		srv.mu.Lock()
		srv.conns++
		srv.wg.Add(1)
		srv.mu.Unlock()
		go srv.serve(there)
		go io.Copy(io.Discard, here)
		here.Write([]byte(preface))
		here.Write(data)
		here.Close()
		srv.wg.Wait()
		for id, b := range store.bodies {
			if sha256.Sum256(b) != id {
				t.Fatal("stored under another name")
			}
		}
		// the same octets as answers
		l := &lane{node: "b", stall: defaultStall, pending: map[uint64]job{}, wake: make(chan struct{}, 1)}
		l.ctx, l.cancel = context.WithCancel(context.Background())
		defer l.cancel()
		get, have := getRequest(rec.ID), haveRequest([]ID{rec.ID})
		have.bits = func(b []byte) bool { return len(b) == 1 }
		get.send(l)
		have.send(l)
		p := NewPuller(PullOptions{Store: store})
		rc := p.newPulled(l, nil)
		fr := newFrames(bytes.NewReader(data))
		for {
			kind, n, err := fr.next()
			if err != nil || l.frame(rc, fr, kind, n) != nil {
				break
			}
		}
		rc.close()
	})
}

// TestNothingAcknowledgedIsLost: after any interleaving of copies, cuts, a peer that goes and
// comes back, and back-fill, both stores hold every acknowledged body.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := newMemory(), newMemory()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := NewServer(b, nil)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		w := &wire{t: t, l: l, open: map[net.Conn]bool{}}
		m := NewMirror(MirrorOptions{Dial: w.dial, Load: a.Load})
		// b pulls from a
		la, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srvA := NewServer(a, nil)
		servedA := make(chan error, 1)
		go func() { servedA <- srvA.Serve(la) }()
		wa := &wire{t: t, l: la, open: map[net.Conn]bool{}}
		p := NewPuller(PullOptions{Dial: wa.dial, Store: b})
		p.SetPeer("b")
		defer func() {
			p.Close()
			m.Close()
			srv.Close()
			srvA.Close()
			if err := errors.Join(<-served, <-servedA); err != nil {
				t.Error(err)
			}
		}()
		var mu sync.Mutex
		acked := map[ID]bool{}  // here
		copied := map[ID]bool{} // while a second copy was promised all the time
		var wg sync.WaitGroup
		put := func(seed, size int, how string) {
			raw := octets(seed, size)
			c := whole(raw)
			solo := m.Peer() == ""
			var cp *Copy
			switch how {
			case "stream":
				st := m.Begin()
				if st != nil {
					st.Write(raw[:size/2])
					st.Write(raw[size/2:])
				}
				a.add(raw)
				cp = m.Commit(st, nil, c.ID, c.Size, bytes.NewReader(raw))
			case "again":
				a.add(raw)
				cp = m.Ensure(c.ID, c.Size)
			default:
				a.add(raw)
				cp = m.Send(c)
			}
			released := m.Stats().Released
			wg.Add(1)
			go func() {
				defer wg.Done()
				if cp.Wait(context.Background()) != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				acked[c.ID] = true
				if !solo && m.Stats().Released == released {
					copied[c.ID] = true
					if !b.Has(c.ID, -1) {
						t.Errorf("acknowledged as copied and not there")
					}
				}
			}()
		}
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 40).Draw(rt, "steps")
		for i, step := range steps {
			switch step {
			case 0:
				w.cut()
			case 1:
				m.SetPeer("")
			case 2, 3:
				m.SetPeer("b")
			case 4:
				wa.cut()
			case 5:
				if _, err := p.Backfill(context.Background(), slices.Values(names(a)), BackfillOptions{InFlight: 3}); err != nil {
					t.Error(err)
				}
			case 6:
				put(i, 200_000, "stream")
			case 7:
				put(i/2, 300, "again")
			default:
				put(i, 10+i*1000, "whole")
			}
		}
		m.SetPeer("b")
		wg.Wait()
		if _, err := p.Backfill(context.Background(), slices.Values(names(a)), BackfillOptions{}); err != nil {
			t.Error(err)
		}
		for id := range acked {
			if x, y := a.get(id), b.get(id); x == nil || !bytes.Equal(x, y) || sha256.Sum256(y) != id {
				t.Errorf("%v is not on both nodes", id)
			}
		}
	})
}

func names(m *memory) (out []ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.bodies {
		out = append(out, id)
	}
	return out
}
