package body

import (
	"encoding/binary"
	"io"
	"sync"
)

// maxBehind is how many octets of a stream wait for the connection; what comes above it is
// read again at the end from where the node itself keeps it.
const maxBehind = 1 << 20

// Stream is a body that is sent while it still comes in. Its methods are for one goroutine.
type Stream struct {
	p  *peer
	id uint64
	j  streamJob
}

// streamJob is the lane's side of a stream.
type streamJob struct {
	id   uint64
	l    *lane
	done chan error

	mu      sync.Mutex
	queued  bool   // is in the lane's queue
	conn    uint64 // the connection that has taken octets; 0: none yet
	sent    int64  // octets that it has taken
	behind  []byte // octets sent..sent+len
	lagging bool   // later octets are not in behind
	broken  bool   // the connection is not the one that has the first octets
	over    bool   // cancelled
	ended   bool   // that connection has taken the end, too
	last    *lastPart
	failed  error
}

// lastPart is known at the stream's end.
type lastPart struct {
	seq    uint64
	prefix []byte
	id     ID
	size   int64 // with the prefix
	src    io.ReaderAt
}

// Write takes more octets. It doesn't wait for the peer.
func (st *Stream) Write(p []byte) {
	j := &st.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken || j.lagging || len(p) == 0 {
		return
	}
	if len(j.behind)+len(p) > maxBehind {
		j.lagging = true
		return
	}
	j.behind = append(j.behind, p...)
	j.queue()
}

// queue puts the job into the lane's queue, if it isn't there.
func (j *streamJob) queue() {
	if !j.queued {
		j.queued = true
		j.l.push(j)
	}
}

// Abort forgets the stream; after Commit it does nothing.
func (st *Stream) Abort() {
	st.j.mu.Lock()
	last := st.j.last
	st.j.mu.Unlock()
	if last == nil {
		st.p.closeStream()
		st.j.cancel()
	}
}

// commit ends the stream. src has all octets that were written, from 0 on.
func (j *streamJob) commit(prefix []byte, id ID, size int64, src io.ReaderAt) {
	seq := j.l.number(j)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = &lastPart{seq, prefix, id, size, src}
	j.queue()
}

// cancel gives the stream up: src is not used after this returns.
func (j *streamJob) cancel() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.last != nil {
		j.l.take(j.last.seq)
	}
	j.over = true
	j.behind = nil
	if j.sent > 0 {
		j.queue() // to say so
	}
}

func (j *streamJob) finish(err error) { j.done <- err }

func (j *streamJob) encode(buf []byte, conn uint64) ([]byte, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queued = false
	if j.over {
		if j.sent > 0 && j.conn == conn {
			buf = appendAbort(buf, j.id)
		}
		j.sent = 0
		return buf, false
	}
	if j.conn == 0 {
		j.conn = conn
	}
	if j.conn != conn {
		if j.broken = true; j.last == nil {
			j.behind = nil
			return buf, false
		}
		j.conn, j.sent, j.behind, j.ended = conn, 0, nil, false
	}
	if j.last != nil {
		return j.encodeLast(buf)
	}
	n := min(len(j.behind), maxChunk)
	if n == 0 {
		return buf, false
	}
	buf = binary.BigEndian.AppendUint64(header(buf, frameData, 8+n), j.id)
	buf = append(buf, j.behind[:n]...)
	j.sent += int64(n)
	if j.behind = j.behind[n:]; len(j.behind) == 0 {
		j.behind = nil
	}
	j.queued = len(j.behind) > 0
	return buf, j.queued
}

// encodeLast sends what is left from src, and then the name.
func (j *streamJob) encodeLast(buf []byte) ([]byte, bool) {
	if j.failed != nil || j.ended {
		return buf, false
	}
	all := j.last.size - int64(len(j.last.prefix))
	if left := all - j.sent; left > 0 {
		n := int(min(left, maxChunk))
		before := len(buf)
		var err error
		if buf, err = appendChunk(buf, j.id, j.last.src, j.sent, n); err != nil { // this node can't read its own copy
			j.failed = err
			if j.l.take(j.last.seq) != nil {
				j.done <- err
			}
			return appendAbort(buf[:before], j.id), false
		}
		if j.sent += int64(n); j.sent < all {
			j.queued = true
			return buf, true
		}
	}
	j.ended = true
	return appendCommit(buf, j.last.seq, j.id, j.last.id, j.last.size, j.last.prefix), false
}
