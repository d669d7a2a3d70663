package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"mailplusd/cluster/body"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store/segment"
)

// bodyStore shows the body store to the other node.
type bodyStore struct{ *segment.Store }

// bodyError gives the store's errors the names that travel.
func bodyError(err error) error {
	var ce *segment.CorruptError
	for _, e := range []struct{ is, as error }{
		{segment.ErrNoSpace, body.ErrNoSpace}, {segment.ErrFatal, body.ErrFault}, {segment.ErrClosed, body.ErrClosed},
		{segment.ErrMismatch, body.ErrCorrupt}, {segment.ErrNotFound, body.ErrNotFound}, {segment.ErrTooLarge, body.ErrTooLarge},
	} {
		if errors.Is(err, e.is) {
			return fmt.Errorf("%w: %w", e.as, err)
		}
	}
	if errors.As(err, &ce) {
		return fmt.Errorf("%w: %w", body.ErrCorrupt, err)
	}
	return err
}

// Put implements body.Store.
func (b bodyStore) Put(r body.Record, done func(error)) {
	b.PutStored(segment.Stored{ID: segment.ID(r.ID), Size: r.Size, Form: r.Form, Data: r.Data}, func(err error) { done(bodyError(err)) })
}

// Has implements body.Store: a damaged body counts as missing.
func (b bodyStore) Has(id body.ID, size int64) bool {
	if size < 0 {
		return b.Sound(segment.ID(id))
	}
	return b.Keep(segment.ID(id), size)
}

// Load implements body.Store. It never asks the other node, which may be the one that asks.
func (b bodyStore) Load(id body.ID) (body.Record, error) {
	st, err := b.LoadStored(segment.ID(id))
	if err == nil {
		return body.Record{ID: id, Size: st.Size, Form: st.Form, Data: st.Data}, nil
	}
	if !errors.Is(err, segment.ErrTooLarge) {
		return body.Record{}, bodyError(err)
	}
	open, err := b.OpenLocal(segment.ID(id))
	if err != nil {
		return body.Record{}, bodyError(err)
	}
	return body.Record{ID: id, Size: open.Size(), Octets: open, Close: func() { open.Close() }}, nil
}

// Spool implements body.Store.
func (b bodyStore) Spool() body.Spool { return bodySpool{b.Receive()} }

type bodySpool struct{ *segment.Spool }

func (sp bodySpool) Write(p []byte) (int, error) {
	n, err := sp.Spool.Write(p)
	return n, bodyError(err)
}

func (sp bodySpool) Spill() error { return bodyError(sp.Spool.Spill()) }

func (sp bodySpool) Commit(ctx context.Context, prefix []byte, id body.ID, size int64) error {
	return bodyError(sp.CommitAs(ctx, prefix, segment.ID(id), size))
}

// bodyMirror shows the copies to the other node to the body store.
type bodyMirror struct{ *body.Mirror }

// Send implements segment.Mirror.
func (m bodyMirror) Send(b segment.Stored) segment.Copy {
	return m.Mirror.Send(body.Record{ID: body.ID(b.ID), Size: b.Size, Form: b.Form, Data: b.Data})
}

// Ensure implements segment.Mirror.
func (m bodyMirror) Ensure(id segment.ID, size int64) segment.Copy {
	return m.Mirror.Ensure(body.ID(id), size)
}

// Begin implements segment.Mirror.
func (m bodyMirror) Begin() segment.Stream {
	if st := m.Mirror.Begin(); st != nil {
		return st
	}
	return nil
}

// Commit implements segment.Mirror.
func (m bodyMirror) Commit(st segment.Stream, prefix []byte, id segment.ID, size int64, rest io.ReaderAt) segment.Copy {
	s, _ := st.(*body.Stream)
	return m.Mirror.Commit(s, prefix, body.ID(id), size, rest)
}

// bodyLinks is everything that brings bodies from node to node.
type bodyLinks struct {
	mirror *body.Mirror
	puller *body.Puller
	server *body.Server
}

// openLinked opens the body store together with its links. They do nothing until a peer is
// set and the server serves a listener. The links are closed before the store.
func openLinked(o segment.Options, dial body.Dial, onFault func(node string, err error)) (*segment.Store, *bodyLinks, error) {
	l := new(bodyLinks)
	var store *segment.Store
	l.mirror = body.NewMirror(body.MirrorOptions{
		Dial: dial, OnFault: onFault, Logger: o.Logger,
		Load: func(id body.ID) (body.Record, error) { return bodyStore{store}.Load(id) },
	})
	o.Mirror = bodyMirror{l.mirror}
	o.Fetch = func(ctx context.Context, id segment.ID) error {
		return l.puller.Fetch(ctx, body.ID(id))
	}
	store, err := segment.Open(o)
	if err != nil {
		return nil, nil, err
	}
	l.puller = body.NewPuller(body.PullOptions{Dial: dial, Store: bodyStore{store}, Logger: o.Logger})
	l.server = body.NewServer(bodyStore{store}, o.Logger)
	return store, l, nil
}

// Close ends all connections. Whoever waits for a second copy is let go as if none were
// promised, so it must be called when nothing can be acknowledged any more.
func (l *bodyLinks) Close() {
	l.puller.Close()
	l.mirror.Close()
	l.server.Close()
}

// wantedBodies names the bodies that the state refers to, those of the newest messages first.
// Names may come twice. When the state can't be read to its end, the names end early and *failed
// says why: then nothing may be concluded from a back-fill that found nothing missing.
func wantedBodies(s *state.State, failed *error) iter.Seq[body.ID] {
	return func(yield func(body.ID) bool) {
		more := true
		*failed = s.RecentBodies(recentPerMailbox, func(id model.BodyID) bool {
			more = yield(body.ID(id))
			return more
		})
		var after model.BodyID
		for more && *failed == nil {
			page, err := s.BodiesAfter(after, bodyPage)
			if *failed = err; err != nil || len(page) == 0 {
				return
			}
			for _, id := range page {
				if !yield(body.ID(id)) {
					return
				}
			}
			after = page[len(page)-1]
		}
	}
}

const (
	recentPerMailbox = 200  // what a client shows first
	bodyPage         = 4096 // names read at once
)
