package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// How long a client of the admin plane may take, and how many there may be.
const (
	inputTime = time.Minute      // for the whole input of a call
	rowTime   = 10 * time.Minute // between two pieces of a bulk stream, which a slow program may write
	writeTime = time.Minute      // to take what one write gives it
	maxConns  = 256              // connections of a listener
)

// patience is how long the server waits for a client.
type patience struct{ header, input, row, write time.Duration }

var defaultPatience = patience{header: headerTime, input: inputTime, row: rowTime, write: writeTime}

// limitClient puts deadlines on a call: a client that sends a byte now and then, or doesn't take
// its answer, keeps neither a connection nor a slot. The deadline for reading goes away with the
// end of the input; the handler may take longer.
func (p patience) limitClient(w http.ResponseWriter, r *http.Request, bulk bool) (http.ResponseWriter, *http.Request) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(p.input))
	in := &patientBody{ReadCloser: r.Body, rc: rc}
	if bulk {
		in.gap = p.row
	}
	r2 := *r
	r2.Body = in
	return &patientWriter{w, rc, p.write}, &r2
}

type patientBody struct {
	io.ReadCloser
	rc  *http.ResponseController
	gap time.Duration // zero: one deadline for all
}

func (b *patientBody) Read(buf []byte) (int, error) {
	if b.gap > 0 {
		b.rc.SetReadDeadline(time.Now().Add(b.gap))
	}
	n, err := b.ReadCloser.Read(buf)
	if errors.Is(err, io.EOF) {
		b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

type patientWriter struct {
	http.ResponseWriter
	rc   *http.ResponseController
	wait time.Duration
}

func (w *patientWriter) Write(b []byte) (int, error) {
	w.rc.SetWriteDeadline(time.Now().Add(w.wait))
	return w.ResponseWriter.Write(b)
}

// Unwrap lets a ResponseController flush.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// limitConns closes what comes above a number of connections.
func limitConns(limit int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, to http.ConnState) {
		switch to {
		case http.StateNew:
			if open.Add(1) > limit {
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}
