package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// Forwarder knows the node that may change the state, and the way to it. A node without one
// carries out everything itself.
type Forwarder interface {
	// Leader names the leader as this node knows it; empty: there is none now.
	Leader() (node string, self bool)
	// Dial opens a connection to another node's admin plane. Both ends are known to each other
	// by then, so the other trusts what this node says about the caller.
	Dial(ctx context.Context, node string) (net.Conn, error)
	// WaitApplied returns when this node has applied the log up to index.
	WaitApplied(ctx context.Context, index uint64) error
	// Fresh returns when this node has applied what any node acknowledged before the call; an
	// error says that it is not known whether it has.
	Fresh(ctx context.Context) error
}

const (
	headerActor   = "X-Mailplus-Actor"   // JSON of auth.Actor; believed on connections of ServeNodes only
	headerApplied = "X-Mailplus-Applied" // trailer: the index that the call's changes are behind
)

// nodeConn marks a connection from another node of the cluster.
type nodeConn struct{ net.Conn }

// nodeListener hands out connections of other nodes.
type nodeListener struct{ net.Listener }

func (l nodeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return nodeConn{c}, nil
}

// ServeNodes answers calls that other nodes forward. The listener must hand out connections of
// this cluster's nodes only: who calls is taken from what they say.
func (s *Server) ServeNodes(l net.Listener) { s.Serve(nodeListener{l}) }

// forwarded gives the caller of a call that another node has checked and passed on.
func forwarded(r *http.Request) (a auth.Actor, ok bool, err error) {
	if _, node := r.Context().Value(connKey{}).(nodeConn); !node {
		return a, false, nil
	}
	if err := json.Unmarshal([]byte(r.Header.Get(headerActor)), &a); err != nil || a.Name == "" {
		return a, true, op.Errorf(op.Forbidden, "the other node does not say who calls")
	}
	return a, true, nil
}

// leaderFor gives the node that has to carry out an operation; empty: this one.
func (s *Server) leaderFor(h *handler, fromNode bool) (string, error) {
	if s.forwarder == nil || h.op.Spec().Local || h.op.Spec().Effect == op.Read {
		return "", nil
	}
	node, self := s.forwarder.Leader()
	switch {
	case self:
		return "", nil
	case node == "":
		return "", op.Errorf(op.Unreachable, "no node leads just now, so nothing can be changed").With("mpctl ha show")
	case fromNode:
		return "", op.Errorf(op.Unreachable, "the leader has changed meanwhile; nothing was done, repeat the command")
	}
	return node, nil
}

// freshFor waits until a read shows what was changed at the other node before. A node that is cut
// off answers with what it knows, and says so: at 3 a.m. an old answer is better than none.
func (s *Server) freshFor(r *http.Request, h *handler, c *Call) {
	if s.forwarder == nil || h.op.Spec().Local || h.op.Spec().Effect != op.Read {
		return
	}
	leader, self := s.forwarder.Leader()
	if self {
		return
	}
	if leader != "" && s.forwarder.Fresh(r.Context()) == nil {
		return
	}
	c.Warn("this node can't ask the one that leads: the latest changes may be missing here (mpctl ha show)")
}

// forward passes a call on to the leader and its answer back. The last line of the answer waits
// until this node has applied what the call changed, so that the caller's next read sees it.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, node string, actor auth.Actor) {
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.forwarder.Dial(ctx, node)
	}}
	limit := int64(maxBulk)
	if _, upload := cutUpload(r.URL.Path); upload {
		limit = maxUpload
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://leader"+r.URL.Path, http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		s.reply(w, op.Reply{Error: explain(err), Done: true})
		return
	}
	who, err := json.Marshal(actor)
	if err != nil {
		s.reply(w, op.Reply{Error: explain(err), Done: true})
		return
	}
	req.Header.Set(headerActor, string(who))
	req.Header.Set("X-Dry-Run", r.Header.Get("X-Dry-Run"))
	http.NewResponseController(w).EnableFullDuplex()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		s.reply(w, op.Reply{Error: op.Errorf(op.Unreachable, "the leader, %s, does not answer: %v; it may have done it, look again", node, err), Done: true, Version: model.Version})
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	if err := s.passOn(r.Context(), w, resp); err != nil && r.Context().Err() == nil {
		s.log.Warn("answer of the leader", "node", node, "err", err)
	}
}

// passOn copies an answer line by line, one line behind.
func (s *Server) passOn(ctx context.Context, w http.ResponseWriter, resp *http.Response) error {
	rc := http.NewResponseController(w)
	br := bufio.NewReaderSize(resp.Body, 64<<10)
	var held []byte
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			if _, werr := w.Write(held); werr != nil {
				return werr
			}
			if len(held) > 0 {
				rc.Flush()
			}
			held = line
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			json.NewEncoder(w).Encode(op.Reply{Error: op.Errorf(op.Unreachable, "the leader went away in the middle; it may have done it, look again"), Done: true})
			return err
		}
	}
	if index, err := strconv.ParseUint(resp.Trailer.Get(headerApplied), 10, 64); err == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := s.forwarder.WaitApplied(ctx, index); err != nil {
			s.log.Warn("this node is behind the leader", "index", index, "err", err)
		}
	}
	_, err := w.Write(held)
	return err
}
