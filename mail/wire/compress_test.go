package wire

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// inflatePieces decodes a stream that comes in pieces.
func inflatePieces(in []byte, cuts []byte) ([]byte, error) {
	f := &inflater{}
	var out []byte
	buf := make([]byte, 700)
	for i := 0; ; i++ {
		for {
			n, err := f.read(buf)
			out = append(out, buf[:n]...)
			if err != nil {
				return out, err
			}
			if n == 0 || len(out) > 8<<20 {
				break
			}
		}
		if len(in) == 0 || len(out) > 8<<20 {
			return out, nil
		}
		n := len(in)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		f.in = append(append([]byte(nil), f.in...), in[:n]...)
		in = in[n:]
	}
}

// TestInflate: whatever compress/flate makes, at any level and flushed anywhere, comes back from
// pieces of any size.
func TestInflate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want, packed bytes.Buffer
		w, err := flate.NewWriter(&packed, rapid.SampledFrom([]int{-2, -1, 0, 1, 6, 9}).Draw(t, "level"))
		if err != nil {
			t.Fatal(err)
		}
		words := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 40), 1, 20).Draw(t, "words")
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 4000), 1, 60).Draw(t, "text") {
			p := bytes.Repeat(words[i%len(words)], 1+i)
			p = p[:min(len(p), 20000)]
			want.Write(p)
			w.Write(p)
			if i%7 == 0 {
				w.Flush()
			}
		}
		w.Flush()
		got, err := inflatePieces(packed.Bytes(), rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "cuts"))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%d octets, want %d, %v", len(got), want.Len(), err)
		}
	})
}

// FuzzInflate: what compress/flate makes of any input, our inflater makes of it too, and it depends
// on no cut.
func FuzzInflate(f *testing.F) {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	io.WriteString(w, strings.Repeat("a1 FETCH 1:* (UID FLAGS)\r\n", 20))
	w.Flush()
	f.Add(b.Bytes(), []byte{1})
	f.Add([]byte{0x4b, 0x04, 0x00}, []byte{})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		if len(in) > 1<<16 {
			return
		}
		r := flate.NewReader(bytes.NewReader(in))
		want, wantErr := io.ReadAll(io.LimitReader(r, 8<<20))
		got, err := inflatePieces(in, cuts)
		again, errAgain := inflatePieces(in, nil)
		if !bytes.Equal(got, again) || (err == nil) != (errAgain == nil) {
			t.Fatalf("cut: %d octets %v, whole: %d octets %v", len(got), err, len(again), errAgain)
		}
		switch {
		case wantErr == nil && !bytes.HasPrefix(got, want): // the stream ended: nothing may come behind
			t.Fatalf("%d octets %v, want %d", len(got), err, len(want))
		case errors.Is(wantErr, io.ErrUnexpectedEOF) && err == nil && !bytes.HasPrefix(got, want):
			t.Fatalf("%d octets, want %d at least", len(got), len(want))
		}
	})
}

// deflatePair is a compressed Conn and its client.
func deflatePair(t testing.TB) (*Conn, net.Conn, *flate.Writer, io.Reader) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(raw, &Config{})
	t.Cleanup(func() { c.Close(); client.Close() })
	if err := c.StartCompression(); err != nil {
		t.Fatal(err)
	}
	w, _ := flate.NewWriter(client, 6)
	return c, client, w, flate.NewReader(client)
}

func TestCompressedLines(t *testing.T) {
	c, client, w, r := deflatePair(t)
	client.SetDeadline(time.Now().Add(20 * time.Second))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			line, err := c.ReadLine(1 << 16)
			if err != nil {
				return
			}
			if n, isLit := strings.CutPrefix(string(line), "lit "); isLit {
				var size int64
				fmt.Sscan(n, &size)
				lit, _ := io.ReadAll(c.Literal(size))
				c.Write(lit)
				continue
			}
			fmt.Fprintf(c, "%s\r\n", line)
		}
	}()
	text := strings.Repeat("some words that come again and again ", 5000)
	fmt.Fprintf(w, "one\r\ntwo\r\nlit %d\r\n%s%s\r\n", len(text), text, strings.Repeat("x", 60000))
	w.Flush()
	want := "one\r\ntwo\r\n" + text + strings.Repeat("x", 60000) + "\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%v, %d octets", err, len(got))
	}
	client.Close()
	<-done // reading belongs to one goroutine
	if c.comp == nil || c.Buffered() != 0 {
		t.Error("not compressed, or something is left")
	}
}

// TestCompressedWake: a wait that is interrupted in the middle of a block loses nothing.
func TestCompressedWake(t *testing.T) {
	c, client, w, _ := deflatePair(t)
	var packed bytes.Buffer
	w.Reset(&packed)
	io.WriteString(w, "DONE with something longer\r\n")
	w.Flush()
	for i := range packed.Bytes() {
		client.Write(packed.Bytes()[i : i+1])
		ctx, cancel := context.WithCancel(context.Background())
		stop := time.AfterFunc(time.Millisecond, cancel)
		err := c.WaitReadable(ctx)
		stop.Stop()
		cancel()
		if err == nil {
			client.Write(packed.Bytes()[i+1:])
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	line, err := c.ReadLine(1000)
	if err != nil || string(line) != "DONE with something longer" {
		t.Fatalf("%q %v", line, err)
	}
}

// TestCompressedDamage: what is no deflate ends the connection and nothing else.
func TestCompressedDamage(t *testing.T) {
	c, client, _, _ := deflatePair(t)
	client.Write(bytes.Repeat([]byte{0xff}, 100))
	if _, err := c.ReadLine(1000); !errors.Is(err, errDeflate) {
		t.Errorf("%v", err)
	}
}

// TestCompressedMemory: an idle compressed connection that has sent a few commands and was sent a lot
// keeps a few KiB, one whose client has sent megabytes the window of 32 KiB and little more.
func TestCompressedMemory(t *testing.T) {
	for _, tc := range []struct {
		sent  int
		limit uint64
	}{{300, 6 << 10}, {1 << 20, 44 << 10}} {
		const n = 200
		packed := func() []byte {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, 6)
			w.Write(bytes.Repeat([]byte("a FETCH 1:* FLAGS\r\n"), tc.sent/19))
			w.Flush()
			return b.Bytes()
		}()
		measure := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		keep := make([]*deflated, n)
		scrap, answer := make([]byte, 32<<10), bytes.Repeat([]byte("* 1 FETCH (FLAGS ())\r\n"), 1000)
		before := measure()
		for i := range keep {
			keep[i] = &deflated{Conn: &feed{in: packed}}
			for {
				if _, err := keep[i].Read(scrap); err != nil {
					break
				}
			}
			keep[i].Write(answer)
			keep[i].Conn = nil
		}
		if each := (measure() - before) / n; each > tc.limit {
			t.Errorf("after %d octets from the client: %d octets each, more than %d", tc.sent, each, tc.limit)
		} else {
			t.Logf("after %d octets from the client: %d octets each", tc.sent, each)
		}
		runtime.KeepAlive(keep)
	}
}

// feed is a connection with given input that takes everything.
type feed struct {
	net.Conn
	in []byte
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.in)
	f.in = f.in[n:]
	return n, nil
}
func (f *feed) Write(p []byte) (int, error) { return len(p), nil }
