package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailplusd/admin/auth"
	"mailplusd/admin/client"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
)

type echoIn struct {
	Text string `json:"text" arg:"1"`
}

type echoOut struct {
	Who, Text string
}

var (
	opEcho   = op.New[echoIn, echoOut]("test echo", op.Spec{Effect: op.Update})
	opHere   = op.New[op.None, echoOut]("test here", op.Spec{Effect: op.Read})
	opStream = op.New[op.None, echoOut]("test stream", op.Spec{Effect: op.Run, Stream: true})
)

// testNode is an admin plane with a state and a few operations.
func testNode(t *testing.T, name string, f Forwarder) *Server {
	t.Helper()
	st, _ := statetest.Open(t)
	log := slog.New(slog.DiscardHandler)
	if err := st.Update(context.Background(), func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		set.System.SetUp = 1
		return state.StoreSettings(tx, set)
	}); err != nil {
		t.Fatal(err)
	}
	s := &Server{mail: &mail.Server{State: st, Directory: directory.New(st, log)}, log: log, node: name, forwarder: f,
		handlers: map[string]*handler{}, slots: make(chan struct{}, maxCalls), patience: defaultPatience}
	bind(s, opEcho, func(ctx context.Context, c *Call, in *echoIn) (echoOut, error) {
		if in.Text == "no" {
			return echoOut{}, refused("no", "mpctl test echo yes")
		}
		err := s.change(ctx, c, func(tx *state.Tx) error {
			return state.Groups.Put(tx, &model.Group{Name: in.Text})
		})
		return echoOut{Who: c.Actor.Name + " at " + name, Text: in.Text}, err
	})
	bind(s, opHere, func(context.Context, *Call, *op.None) (echoOut, error) { return echoOut{Who: name}, nil })
	bind(s, opStream, func(_ context.Context, c *Call, _ *op.None) (echoOut, error) {
		for range 3 {
			if err := c.Emit(echoOut{Who: name}); err != nil {
				return echoOut{}, err
			}
		}
		return echoOut{}, nil
	})
	return s
}

// route is the way to the leader.
type route struct {
	leader string
	self   bool
	addr   string
	waited atomic.Uint64
	asked  atomic.Int32 // calls of Fresh
	cut    atomic.Bool  // the leader can't be asked
}

func (r *route) Leader() (string, bool) { return r.leader, r.self }
func (r *route) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
}
func (r *route) Fresh(context.Context) error {
	r.asked.Add(1)
	if r.cut.Load() {
		return io.ErrUnexpectedEOF
	}
	return nil
}
func (r *route) WaitApplied(_ context.Context, index uint64) error { r.waited.Store(index); return nil }

// TestForwardToTheLeader: a change is carried out by the leader in the caller's name, a read here;
// errors come back as they are, and the answer waits for this node.
func TestForwardToTheLeader(t *testing.T) {
	lead := testNode(t, "lead", &route{leader: "lead", self: true})
	nodes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lead.ServeNodes(nodes)
	way := &route{leader: "lead", addr: nodes.Addr().String()}
	follow := testNode(t, "follow", way)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	follow.Serve(l)
	t.Cleanup(func() { shut(follow); shut(lead) })
	c, err := client.New(client.Options{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	r, err := c.Call(ctx, op.Path(opEcho), echoIn{"hello"}, false)
	if err != nil || !strings.Contains(string(r.Result), " at lead") || strings.Contains(string(r.Result), `"Who":" at`) {
		t.Fatalf("%s %v", r.Result, err)
	}
	if has, _ := state.Groups.Has(lead.mail.State, "hello"); !has {
		t.Error("the leader did not do it")
	}
	if has, _ := state.Groups.Has(follow.mail.State, "hello"); has {
		t.Error("the follower did it itself")
	}
	if want := lead.mail.State.Applied(); way.waited.Load() != want {
		t.Errorf("the answer waited for %d, want %d", way.waited.Load(), want)
	}
	lines, err := state.AdminLog.List(lead.mail.State, "")
	if err != nil || len(lines) != 1 || !strings.Contains(lines[0].Actor, "(socket)") {
		t.Errorf("admin log of the leader: %v %v", lines, err)
	}
	if r, err := c.Call(ctx, op.Path(opHere), nil, false); err != nil || !strings.Contains(string(r.Result), "follow") {
		t.Errorf("a read was not done here: %s %v", r.Result, err)
	} else if way.asked.Load() != 1 || len(r.Warning) != 0 {
		t.Errorf("a read asked %d times whether this node knows everything, and warns %q", way.asked.Load(), r.Warning)
	}
	way.cut.Store(true)
	if r, err := c.Call(ctx, op.Path(opHere), nil, false); err != nil || !strings.Contains(string(r.Result), "follow") || len(r.Warning) != 1 {
		t.Errorf("a read of a node that is cut off: %s %q %v", r.Result, r.Warning, err)
	}
	if _, err := c.Call(ctx, op.Path(opEcho), echoIn{"no"}, false); err == nil || err.(*op.Error).Code != op.Refused || err.(*op.Error).Remedy == "" {
		t.Errorf("a refusal of the leader: %v", err)
	}
	if r, err := c.Call(ctx, op.Path(opEcho), echoIn{"dry"}, true); err != nil || !r.DryRun {
		t.Errorf("dry run: %+v %v", r, err)
	}
	if has, _ := state.Groups.Has(lead.mail.State, "dry"); has {
		t.Error("a forwarded dry run changed something")
	}
	rows := 0
	if err := c.Stream(ctx, op.Path(opStream), nil, false, func(json.RawMessage) error { rows++; return nil }); err != nil || rows != 3 {
		t.Errorf("stream: %d rows, %v", rows, err)
	}

	way.leader = ""
	if _, err := c.Call(ctx, op.Path(opEcho), echoIn{"x"}, false); err == nil || err.(*op.Error).Code != op.Unreachable {
		t.Errorf("without a leader: %v", err)
	}
	way.leader = "follow2"
	way.addr = "127.0.0.1:1"
	if _, err := c.Call(ctx, op.Path(opEcho), echoIn{"x"}, false); err == nil || err.(*op.Error).Code != op.Unreachable {
		t.Errorf("a leader that is not there: %v", err)
	}
}

// TestForwardedCallerIsBelievedFromNodesOnly: the header means nothing on another listener, and a
// call is not passed on twice.
func TestForwardedCallerIsBelievedFromNodesOnly(t *testing.T) {
	way := &route{leader: "elsewhere"}
	s := testNode(t, "n", way)
	actor, _ := json.Marshal(auth.Actor{Name: "root", Admin: true})
	for _, tc := range []struct {
		name  string
		serve func(net.Listener)
		actor string
		want  int
	}{
		{"plain TCP", s.Serve, string(actor), http.StatusForbidden},
		{"node without a caller", s.ServeNodes, "", http.StatusForbidden},
		{"node, but not the leader any more", s.ServeNodes, string(actor), http.StatusServiceUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			tc.serve(l)
			req, _ := http.NewRequest(http.MethodPost, "http://"+l.Addr().String()+op.Path(opEcho), strings.NewReader(`{"text":"x"}`))
			req.Header.Set(headerActor, tc.actor)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.want)
			}
		})
	}
	t.Cleanup(func() { shut(s) })
	if list, _ := state.Groups.List(s.mail.State, ""); len(list) != 0 {
		t.Errorf("something was done: %v", list)
	}
}

func shut(s *Server) {
	for _, srv := range s.servers {
		srv.Close()
	}
	s.wg.Wait()
}
