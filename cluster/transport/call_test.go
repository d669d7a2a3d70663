package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/cluster/transport"

	"pgregory.net/rapid"
)

var errStale = errors.New("stale")

func TestCalls(t *testing.T) {
	transport.RegisterError("test.stale", errStale)
	a, b := two(t)
	b.Handle("echo", func(_ context.Context, node string, req []byte) ([]byte, error) {
		if node != "a" {
			return nil, fmt.Errorf("called by %q", node)
		}
		return req, nil
	})
	b.Handle("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("plain") })
	b.Handle("stale", func(context.Context, string, []byte) ([]byte, error) {
		return nil, fmt.Errorf("index 7: %w", errStale)
	})
	b.Handle("huge", func(context.Context, string, []byte) ([]byte, error) {
		return make([]byte, transport.MaxMessage+1), nil
	})
	ctx := within(t)
	for _, n := range []int{0, 1, 1000, 300_000, transport.MaxMessage} {
		req := bytes.Repeat([]byte{byte(n)}, n)
		if got, err := a.Call(ctx, "b", "echo", req); err != nil || !bytes.Equal(got, req) {
			t.Errorf("%d octets: %d back, %v", n, len(got), err)
		}
	}
	var remote *transport.RemoteError
	if _, err := a.Call(ctx, "b", "fail", nil); !errors.As(err, &remote) || remote.Error() != "plain" || remote.Node != "b" || remote.Code != "" {
		t.Errorf("plain error: %#v", err)
	}
	if _, err := a.Call(ctx, "b", "stale", nil); !errors.Is(err, errStale) || err.Error() != "index 7: stale" {
		t.Errorf("registered error: %v", err)
	}
	if _, err := a.Call(ctx, "b", "nothing", nil); !errors.Is(err, transport.ErrNoMethod) {
		t.Errorf("unknown method: %v", err)
	}
	if _, err := a.Call(ctx, "b", "huge", nil); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("huge answer: %v", err)
	}
	if _, err := a.Call(ctx, "b", "echo", make([]byte, transport.MaxMessage+1)); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("huge request: %v", err)
	}
	if _, err := a.Call(ctx, "c", "echo", nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("unknown node: %v", err)
	}
	if n := a.Peers()[0].Conns; n != 1 {
		t.Errorf("%d connections for all that", n)
	}
}

// Answers come in any order, each to its caller.
func TestCallsSideBySide(t *testing.T) {
	a, b := two(t)
	gate := make(chan struct{})
	b.Handle("wait", func(ctx context.Context, _ string, req []byte) ([]byte, error) {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return req, ctx.Err()
	})
	b.Handle("echo", func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
	ctx := within(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			method := []string{"echo", "wait"}[i%2]
			for k := range 5 {
				req := fmt.Appendf(nil, "%d/%d", i, k)
				if got, err := a.Call(ctx, "b", method, req); err != nil || !bytes.Equal(got, req) {
					t.Errorf("%s: %q, %v", req, got, err)
				}
			}
		})
	}
	if got, err := a.Call(ctx, "b", "echo", []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("held up by slow ones: %v", err)
	}
	close(gate)
	wg.Wait()
}

func TestCallCancel(t *testing.T) {
	a, b := two(t)
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	b.Handle("echo", func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
	ctx, cancel := context.WithCancel(within(t))
	go func() { <-began; cancel() }()
	if _, err := a.Call(ctx, "b", "wait", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler sees %v", err)
	}
	ctx, cancel = context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "b", "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	<-began
	<-ended
	if _, err := a.Call(within(t), "b", "echo", nil); err != nil {
		t.Errorf("the connection is spoilt: %v", err)
	}
}

// A broken connection fails what is under way and is dialled again by the next call.
func TestCallLost(t *testing.T) {
	a, b := two(t)
	began := make(chan struct{}, 100)
	var n atomic.Int32
	b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		n.Add(1)
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	b.Handle("echo", func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
	errs := make(chan error, 100)
	for range 100 {
		go func() {
			_, err := a.Call(within(t), "b", "wait", nil)
			errs <- err
		}()
	}
	for range 100 {
		<-began
	}
	b.Disconnect("a")
	for range 100 {
		if err := <-errs; !errors.Is(err, transport.ErrConnLost) || errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("call under way: %v", err)
		}
	}
	if _, err := a.Call(within(t), "b", "echo", nil); err != nil {
		t.Errorf("next call: %v", err)
	}
	b.Close()
	until(t, "the end is noticed", func() bool { return a.Peers()[0].Conns == 0 })
	if _, err := a.Call(within(t), "b", "echo", nil); !errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrConnLost) {
		t.Errorf("node gone: %v", err)
	}
	if n.Load() != 100 {
		t.Errorf("%d calls handled", n.Load())
	}
}

func TestCloseDuringCalls(t *testing.T) {
	a, b := two(t)
	began := make(chan struct{})
	b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	errs := make(chan error)
	go func() {
		_, err := a.Call(within(t), "b", "wait", nil)
		errs <- err
	}()
	<-began
	a.Close()
	if err := <-errs; !errors.Is(err, transport.ErrConnLost) {
		t.Errorf("call under way: %v", err)
	}
	if _, err := a.Call(within(t), "b", "wait", nil); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("after close: %v", err)
	}
}

// Whatever is called in whatever order with connections breaking: each call gets its own
// answer or an error, and with ErrUnreachable the handler has not run.
func TestCallsWithBreaks(t *testing.T) {
	a, b := two(t)
	var mu sync.Mutex
	ran := map[string]bool{}
	b.Handle("note", func(_ context.Context, _ string, req []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		ran[string(req)] = true
		return append([]byte("ok "), req...), nil
	})
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		callers := rapid.IntRange(1, 16).Draw(r, "callers")
		breaks := rapid.IntRange(0, 5).Draw(r, "breaks")
		size := rapid.SampledFrom([]int{0, 100, 70_000}).Draw(r, "size")
		base := round
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for k := range 4 {
					req := append(fmt.Appendf(nil, "%d %d %d ", base, i, k), make([]byte, size)...)
					got, err := a.Call(within(t), "b", "note", req)
					mu.Lock()
					did := ran[string(req)]
					delete(ran, string(req))
					mu.Unlock()
					switch {
					case err == nil && (!did || !bytes.Equal(got, append([]byte("ok "), req...))):
						t.Errorf("wrong answer to %.20q: %.20q", req, got)
					case errors.Is(err, transport.ErrUnreachable) && did:
						t.Errorf("%.20q happened, and the error is %v", req, err)
					case err != nil && !errors.Is(err, transport.ErrConnLost) && !errors.Is(err, transport.ErrUnreachable):
						t.Errorf("%v", err)
					}
				}
			})
		}
		for range breaks {
			a.Disconnect("b")
		}
		wg.Wait()
	})
}

func BenchmarkCall(bm *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		bm.Run(fmt.Sprintf("callers=%d", callers), func(bm *testing.B) {
			a, b := node(bm, "a", quiet), node(bm, "b", quiet)
			pin(bm, a, peerOf(b))
			pin(bm, b, peerOf(a))
			b.Handle("echo", func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
			req := make([]byte, 500)
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(bm.N))
			bm.ResetTimer()
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := a.Call(context.Background(), "b", "echo", req); err != nil {
							bm.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			bm.StopTimer()
			bm.ReportMetric(float64(bm.N)/bm.Elapsed().Seconds(), "calls/s")
		})
	}
}

func quiet(o *transport.Options) { o.Logger = nil }
