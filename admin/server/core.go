package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"mailplusd/admin/auth"
	"mailplusd/admin/feed"
	"mailplusd/admin/op"
	"mailplusd/cluster"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
)

// Limits of the admin plane.
const (
	maxBody    = 16 << 20 // octets of one input
	maxBulk    = 1 << 30  // octets of a bulk stream
	maxUpload  = 1 << 42  // octets of messages in one call
	callTime   = 2 * time.Minute
	maxCalls   = 64 // at a time
	headerTime = 10 * time.Second
)

// Call is one request: who asks, and what the handler has to say besides its result.
type Call struct {
	Actor   auth.Actor
	DryRun  bool
	Op      op.Any
	diff    []op.FieldDiff
	warning []string
	emit    func(row any) error
	event   model.AdminEvent // the call's line in the admin log
	logged  bool             // that line is stored
}

// Warn adds a remark that doesn't stop the change.
func (c *Call) Warn(format string, args ...any) {
	c.warning = append(c.warning, fmt.Sprintf(format, args...))
}

// Diff adds what a change replaces.
func (c *Call) Diff(d ...op.FieldDiff) { c.diff = append(c.diff, d...) }

// Emit sends one row of a stream.
func (c *Call) Emit(row any) error { return c.emit(row) }

// handler carries out an operation on decoded JSON.
type handler struct {
	op   op.Any
	call func(ctx context.Context, c *Call, body []byte) (any, error)
	// upload takes messages; stop makes a read of them that waits end.
	upload func(ctx context.Context, c *Call, body []byte, r *feed.Reader, stop func()) error
	bulk   func(ctx context.Context, c *Call, rows []json.RawMessage, first int) ([]op.BulkResult, error)
}

// bind joins a declaration with the function that does it.
func bind[In, Out any](s *Server, o *op.Op[In, Out], f func(context.Context, *Call, *In) (Out, error)) {
	s.add(o).call = func(ctx context.Context, c *Call, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		c.subject(op.Object(in), op.Masked(in))
		out, err := f(ctx, c, in)
		s.audit(ctx, c, err)
		return out, err
	}
}

// bindBulk adds the form that takes many rows. prepare does the slow part of a row, such as
// hashing, outside of any transaction; begin starts a batch and gives the function that
// does one row in it. What that refuses concerns its row only.
func bindBulk[Row any](s *Server, o op.Any, key func(*Row) string, prepare func(*Row) error, begin func(*state.Tx) (func(*Row) (changed bool, err error), error)) {
	s.add(o).bulk = func(ctx context.Context, c *Call, rows []json.RawMessage, first int) ([]op.BulkResult, error) {
		return bulkBatch(ctx, s, c, rows, first, key, prepare, begin)
	}
}

func (s *Server) add(o op.Any) *handler {
	h := s.handlers[op.Path(o)]
	if h == nil {
		h = &handler{op: o}
		s.handlers[op.Path(o)] = h
	}
	return h
}

// decode reads an input strictly and validates it.
func decode(body []byte, in any) error {
	if len(body) == 0 {
		body = []byte("{}")
	}
	dec := json.NewDecoder(newLimited(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return op.Errorf(op.Usage, "the input can't be read: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return op.Errorf(op.Usage, "the input has something behind its end")
	}
	return op.Check(in)
}

// ServeHTTP answers one call: identity, permission, limits, handler, reply.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, isBulk := cutBulk(r.URL.Path)
	path, isUpload := cutUpload(path)
	w, r = s.patience.limitClient(w, r, isBulk || isUpload)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.reply(w, op.Reply{Error: op.Errorf(op.Failed, "%d calls are under way already, try again", maxCalls), Done: true})
		return
	}
	h := s.handlers[path]
	if h == nil || r.Method != http.MethodPost || isBulk && h.bulk == nil || isUpload != (h.upload != nil) {
		s.reply(w, op.Reply{Error: op.Errorf(op.Usage, "the daemon (version %s) doesn't know %s %s; is mpctl newer?", model.Version, r.Method, r.URL.Path), Done: true})
		return
	}
	actor, fromNode, err := forwarded(r)
	if fromNode {
		w.Header().Set("Trailer", headerApplied)
		defer func() { w.Header().Set(headerApplied, strconv.FormatUint(s.mail.State.Applied(), 10)) }()
	} else {
		actor, err = s.identify(r)
	}
	if err == nil && !actor.May(h.op.Spec().Role) {
		err = auth.Denied(actor, h.op)
	}
	if err == nil && !h.op.Spec().Early && s.mail.State.Current().System.SetUp == 0 {
		err = op.Errorf(op.Refused, "this node is not set up yet").With("mpctl setup new --domain example.com")
	}
	if err == nil {
		err = s.settingsOpen(h.op)
	}
	if err != nil {
		s.reply(w, op.Reply{Error: explain(err), Done: true})
		return
	}
	leader, err := s.leaderFor(h, fromNode)
	if err != nil {
		s.reply(w, op.Reply{Error: explain(err), Done: true, Version: model.Version})
		return
	}
	if leader != "" {
		s.forward(w, r, leader, actor)
		return
	}
	c := &Call{Actor: actor, DryRun: r.Header.Get("X-Dry-Run") == "1", Op: h.op}
	s.freshFor(r, h, c)
	switch {
	case isBulk:
		s.serveBulk(w, r, h, c)
	case isUpload:
		s.serveUpload(w, r, h, c)
	case h.op.Spec().Stream:
		s.serveStream(w, r, h, c)
	default:
		s.serveCall(w, r, h, c)
	}
}

func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, h *handler, c *Call) {
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var out any
	if err != nil {
		err = op.Errorf(op.Usage, "the input is larger than %d MB or was cut", maxBody>>20)
	} else {
		out, err = s.guard(func() (any, error) { return h.call(ctx, c, body) }, h)
	}
	rep := op.Reply{Result: out, DryRun: c.DryRun, Diff: c.diff, Warning: c.warning, Done: true, Version: model.Version}
	if err != nil {
		rep.Error = explain(err)
		if !isPartial(err) {
			rep.Result = nil
		}
	}
	s.reply(w, rep)
}

func isPartial(err error) bool {
	var e *op.Error
	return errors.As(err, &e) && e.Code == op.Partial
}

func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, h *handler, c *Call) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.reply(w, op.Reply{Error: op.Errorf(op.Usage, "the input is too large"), Done: true})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	c.emit = func(row any) error {
		if err := enc.Encode(op.Reply{Result: row}); err != nil {
			return err
		}
		return rc.Flush()
	}
	rc.Flush()
	_, err = s.guard(func() (any, error) { return h.call(r.Context(), c, body) }, h)
	rep := op.Reply{Warning: c.warning, Done: true, Version: model.Version}
	if err != nil && !errors.Is(err, context.Canceled) {
		rep.Error = explain(err)
	}
	enc.Encode(rep)
}

// guard turns a panic of a handler into an error that names it in the log.
func (s *Server) guard(f func() (any, error), h *handler) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", "op", h.op.Name(), "panic", p, "stack", string(debug.Stack()))
			err = op.Errorf(op.Failed, "the daemon met a fault in %q and has logged it; nothing more was done", h.op.Name())
		}
	}()
	return f()
}

func (s *Server) reply(w http.ResponseWriter, rep op.Reply) {
	w.Header().Set("Content-Type", "application/json")
	if rep.Error != nil {
		w.WriteHeader(statusOf(rep.Error.Code))
	}
	json.NewEncoder(w).Encode(rep)
}

func statusOf(c op.Code) int {
	switch c {
	case op.Usage:
		return http.StatusBadRequest
	case op.Refused, op.Exists, op.Conflict:
		return http.StatusConflict
	case op.Forbidden:
		return http.StatusForbidden
	case op.NotFound:
		return http.StatusNotFound
	case op.Unreachable:
		return http.StatusServiceUnavailable
	case op.Partial:
		return http.StatusOK
	}
	return http.StatusInternalServerError
}

// explain turns any error into one for the administrator.
func explain(err error) *op.Error {
	var e *op.Error
	var fe *model.FieldError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &fe):
		return &op.Error{Code: op.Usage, Message: fe.Reason, Field: fe.Field}
	case errors.Is(err, state.ErrConflict):
		return op.Errorf(op.Conflict, "somebody else changed the same thing at the same time; look again and repeat")
	case errors.Is(err, state.ErrNotFound):
		return op.Errorf(op.NotFound, "%v", err)
	case errors.Is(err, state.ErrExists), errors.Is(err, state.ErrLimit), errors.Is(err, state.ErrInvalid):
		return op.Errorf(op.Refused, "%v", err)
	case errors.Is(err, state.ErrReadOnly):
		return op.Errorf(op.Refused, "%v", err)
	case errors.As(err, new(cluster.ErrNotLeader)):
		return op.Errorf(op.Unreachable, "the leader has changed meanwhile: %v; nothing was done, repeat the command", err)
	case errors.Is(err, cluster.ErrClosed), errors.Is(err, cluster.ErrBusy):
		return op.Errorf(op.Unreachable, "%v", err)
	case errors.Is(err, store.ErrNoSpace):
		return op.Errorf(op.Failed, "the disk is full; nothing was changed")
	case errors.Is(err, context.DeadlineExceeded):
		return op.Errorf(op.Failed, "not done within %s; it may still happen, look again", callTime)
	}
	return op.Errorf(op.Failed, "%v", err)
}

func notFound(what, name, list string) error {
	return op.Errorf(op.NotFound, "there is no %s %q", what, name).With(list)
}

func exists(what, name, remedy string) error {
	return op.Errorf(op.Exists, "the %s %q exists already", what, name).With(remedy)
}

func refused(why, remedy string) error { return op.Errorf(op.Refused, "%s", why).With(remedy) }

// ListenUnix opens the admin socket. A socket that nobody serves is replaced; one that is
// served is an error.
func ListenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("the admin socket %s is served by another process; stop it, or give another --admin-socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o666) // the peer's credentials decide, not the file mode
}

// Serve answers on a listener until Close.
func (s *Server) Serve(l net.Listener) {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: s.patience.header, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState:   limitConns(maxConns),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.mu.Lock()
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("admin listener", "err", err)
		}
	}()
}

// Close ends jobs, finishes calls under way and closes the listeners.
func (s *Server) Close() {
	if s.end != nil {
		s.end()
	}
	s.jobs.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var wg sync.WaitGroup
	for _, srv := range s.servers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if srv.Shutdown(ctx) != nil {
				srv.Close()
			}
		}()
	}
	wg.Wait()
	s.wg.Wait()
}

type connKey struct{}
