package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

// slowJob is a daemon that knows one job, half done until finish is closed.
func slowJob(t *testing.T) (socket string, finish chan struct{}) {
	t.Helper()
	socket, finish = filepath.Join(t.TempDir(), "s"), make(chan struct{})
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	row := func(state string, done int64) json.RawMessage {
		j := api.JobRow{ID: 7, Kind: "storage verify", State: state, Done: done, Total: 100, Unit: "bodies", Percent: int(done)}
		if state == "done" {
			j.Result = json.RawMessage(`{"bodies":100}`)
		}
		raw, _ := json.Marshal(j)
		return raw
	}
	mux := http.NewServeMux()
	mux.HandleFunc(op.Path(api.StorageVerify), func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(op.Reply{Result: row("running", 0), Done: true})
	})
	mux.HandleFunc(op.Path(api.JobWait), func(w http.ResponseWriter, r *http.Request) {
		enc, rc := json.NewEncoder(w), http.NewResponseController(w)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for waiting := true; waiting; {
			enc.Encode(op.Reply{Result: row("running", 42)})
			rc.Flush()
			select {
			case <-tick.C:
			case <-finish:
				waiting = false
			case <-r.Context().Done():
				return
			}
		}
		enc.Encode(op.Reply{Result: row("done", 100)})
		enc.Encode(op.Reply{Done: true})
	})
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return socket, finish
}

// seen collects output and tells when it has words.
type seen struct {
	mu    sync.Mutex
	all   bytes.Buffer
	words string
	found chan struct{}
}

func newSeen(words string) *seen { return &seen{words: words, found: make(chan struct{})} }

func (s *seen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := strings.Contains(s.all.String(), s.words)
	s.all.Write(b)
	if !had && strings.Contains(s.all.String(), s.words) {
		close(s.found)
	}
	return len(b), nil
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// TestProgressOfAJob: a person at a terminal sees a bar, which goes away; a program reads JSON lines
// on standard error.
func TestProgressOfAJob(t *testing.T) {
	// covers: I.85
	build(t)
	run := func(t *testing.T, cmd *exec.Cmd, watch *seen, finish chan struct{}) {
		t.Helper()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-watch.found:
		case <-time.After(60 * time.Second):
			t.Errorf("%q does not come: %q", watch.words, watch)
		}
		close(finish)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %q", err, watch)
		}
	}
	t.Run("terminal", func(t *testing.T) {
		if _, err := exec.LookPath("script"); err != nil {
			t.Skip("script (bsdutils) is not installed")
		}
		socket, finish := slowJob(t)
		cmd := exec.Command("script", "-qec", fmt.Sprintf("stty cols 120 rows 40; %s --socket %s storage verify", bins.mpctl, socket), "/dev/null")
		cmd.Env = append(cmd.Environ(), "TERM=xterm")
		in, err := cmd.StdinPipe() // open: the end of the input would hang up the terminal
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		watch := newSeen("42 of 100")
		cmd.Stdout = watch
		run(t, cmd, watch, finish)
		text := watch.String()
		last := text[strings.LastIndexByte(strings.TrimRight(text, "\r\n"), '\n')+1:]
		if !strings.Contains(text, "storage verify") || !strings.Contains(text, "42 %") || !strings.Contains(text, "=>") {
			t.Errorf("no bar: %q", text)
		}
		if !strings.Contains(text, "bodies") || strings.Contains(last, "=>") {
			t.Errorf("the bar stays, or the result does not come: %q", text)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		socket, finish := slowJob(t)
		cmd := exec.Command(bins.mpctl, "--socket", socket, "storage", "verify", "-o", "json")
		out, watch := new(bytes.Buffer), newSeen("\n")
		cmd.Stdout, cmd.Stderr = out, watch
		run(t, cmd, watch, finish)
		var line struct {
			Job, Done, Total, Percent int64
			State, Unit               string
		}
		text := watch.String()
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&line); err != nil && err != io.EOF || line.Job != 7 || line.Done != 42 || line.Total != 100 || line.Percent != 42 || line.State != "running" || line.Unit != "bodies" {
			t.Errorf("%v: %q", err, text)
		}
		if strings.Contains(text, "\x1b") || !json.Valid(out.Bytes()) {
			t.Errorf("stdout %q, stderr %q", out, text)
		}
	})
}
