package transport

import (
	"net"
	"sync"
)

const (
	maxQueued = 16 << 20 // octets that wait for the socket before callers have to wait, too
	keepBuf   = 1 << 20  // longest buffer that is kept for the next round
)

// frameWriter sends frames of many goroutines with few writes: what comes while a write is
// under way goes out together with the next one.
type frameWriter struct {
	conn net.Conn
	wake chan struct{} // cap 1

	mu    sync.Mutex
	room  sync.Cond
	queue []byte
	err   error
}

func newFrameWriter(c net.Conn) *frameWriter {
	w := &frameWriter{conn: c, wake: make(chan struct{}, 1)}
	w.room.L = &w.mu
	return w
}

// add queues the frame that build appends. It waits for room only if the peer takes the
// octets too slowly, and returns the error that ended the writer.
func (w *frameWriter) add(build func([]byte) []byte) error {
	w.mu.Lock()
	for w.err == nil && len(w.queue) > maxQueued {
		w.room.Wait()
	}
	if w.err != nil {
		defer w.mu.Unlock()
		return w.err
	}
	w.queue = build(w.queue)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// run writes until the writer ends.
func (w *frameWriter) run() {
	var spare []byte
	for range w.wake {
		w.mu.Lock()
		out := w.queue
		if w.err != nil {
			w.mu.Unlock()
			return
		}
		w.queue = spare[:0]
		w.room.Broadcast()
		w.mu.Unlock()
		if len(out) > 0 {
			if _, err := w.conn.Write(out); err != nil {
				w.end(err)
				return
			}
		}
		if spare = out; cap(spare) > keepBuf {
			spare = nil
		}
	}
}

// end makes add fail and run return. The caller closes the connection.
func (w *frameWriter) end(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.queue = nil
	w.room.Broadcast()
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// failed gives what ended the writer.
func (w *frameWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
