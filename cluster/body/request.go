package body

import (
	"encoding/binary"
	"sync"
)

// request is a job of one frame.
type request struct {
	l    *lane
	seq  uint64
	done chan error
	then func(error)       // instead of done
	id   ID                // of get
	bits func([]byte) bool // of have: takes the answer

	mu        sync.Mutex
	cancelled bool
	form      func(buf []byte, seq uint64) []byte
}

func newRequest(form func(buf []byte, seq uint64) []byte) *request {
	return &request{form: form, done: make(chan error, 1)}
}

// send puts the request on a lane.
func (r *request) send(l *lane) {
	r.mu.Lock() // the lane may send it as soon as it has a number
	r.l, r.seq = l, l.number(r)
	r.mu.Unlock()
	l.push(r)
}

func (r *request) encode(buf []byte, _ uint64) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancelled {
		return buf, false
	}
	return r.form(buf, r.seq), false
}

func (r *request) finish(err error) {
	if r.then != nil {
		r.then(err)
		return
	}
	r.done <- err
}

// cancel gives the request up: its octets are not used after this returns.
func (r *request) cancel() {
	r.l.take(r.seq)
	r.mu.Lock()
	r.cancelled = true
	r.form = nil
	r.mu.Unlock()
}

func ensureRequest(id ID, size int64) *request {
	return newRequest(func(buf []byte, seq uint64) []byte {
		buf = binary.BigEndian.AppendUint64(header(buf, frameEnsure, 48), seq)
		return binary.BigEndian.AppendUint64(append(buf, id[:]...), uint64(size))
	})
}

func getRequest(id ID) *request {
	r := newRequest(func(buf []byte, seq uint64) []byte {
		return append(binary.BigEndian.AppendUint64(header(buf, frameGet, 40), seq), id[:]...)
	})
	r.id = id
	return r
}

func haveRequest(ids []ID) *request {
	return newRequest(func(buf []byte, seq uint64) []byte {
		buf = binary.BigEndian.AppendUint64(header(buf, frameHave, 8+32*len(ids)), seq)
		for i := range ids {
			buf = append(buf, ids[i][:]...)
		}
		return buf
	})
}
