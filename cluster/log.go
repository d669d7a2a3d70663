package cluster

import (
	"context"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// repeatAfter is how long the same message of the library stays quiet: with a dead
	// peer it would write dozens of lines a second.
	repeatAfter = 30 * time.Second
	maxMessages = 256 // different messages remembered
)

// raftLogger gives the library's log lines to slog, each message at most once in
// repeatAfter with the number of those left out.
type raftLogger struct {
	log  *slog.Logger
	name string
	args []interface{}
	seen *seen
}

type seen struct {
	mu   sync.Mutex
	msgs map[string]*repeats
	now  func() time.Time
}

type repeats struct {
	last time.Time
	left int
}

var _ hclog.Logger = (*raftLogger)(nil)

func newRaftLogger(l *slog.Logger) *raftLogger {
	return &raftLogger{log: l, name: "raft", seen: &seen{msgs: map[string]*repeats{}, now: time.Now}}
}

// pass says whether msg may be written, and how many like it were not.
func (s *seen) pass(msg string) (left int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	r := s.msgs[msg]
	if r == nil {
		if len(s.msgs) >= maxMessages {
			clear(s.msgs)
		}
		s.msgs[msg] = &repeats{last: now}
		return 0, true
	}
	if now.Sub(r.last) < repeatAfter {
		r.left++
		return 0, false
	}
	left, r.left, r.last = r.left, 0, now
	return left, true
}

// level maps the library's levels: its Info tells each step of each election and
// snapshot, which only a developer wants to read.
func level(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

func (r *raftLogger) Log(l hclog.Level, msg string, args ...interface{}) {
	lv := level(l)
	if !r.log.Enabled(context.Background(), lv) {
		return
	}
	left, ok := r.seen.pass(msg)
	if !ok {
		return
	}
	out := make([]any, 0, len(args)+len(r.args)+2)
	for _, a := range append(append(out, r.args...), args...) {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = f[1:]
		}
		out = append(out, a)
	}
	if left > 0 {
		out = append(out, "repeated", left)
	}
	r.log.Log(context.Background(), lv, r.name+": "+msg, out...)
}

func (r *raftLogger) Trace(msg string, args ...interface{}) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLogger) Debug(msg string, args ...interface{}) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLogger) Info(msg string, args ...interface{})  { r.Log(hclog.Info, msg, args...) }
func (r *raftLogger) Warn(msg string, args ...interface{})  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLogger) Error(msg string, args ...interface{}) { r.Log(hclog.Error, msg, args...) }

func (r *raftLogger) enabled(l hclog.Level) bool {
	return r.log.Enabled(context.Background(), level(l))
}

func (r *raftLogger) IsTrace() bool { return r.enabled(hclog.Trace) }
func (r *raftLogger) IsDebug() bool { return r.enabled(hclog.Debug) }
func (r *raftLogger) IsInfo() bool  { return r.enabled(hclog.Info) }
func (r *raftLogger) IsWarn() bool  { return r.enabled(hclog.Warn) }
func (r *raftLogger) IsError() bool { return r.enabled(hclog.Error) }

func (r *raftLogger) ImpliedArgs() []interface{} { return r.args }
func (r *raftLogger) Name() string               { return r.name }

func (r *raftLogger) With(args ...interface{}) hclog.Logger {
	c := *r
	c.args = append(append([]interface{}(nil), r.args...), args...)
	return &c
}

func (r *raftLogger) Named(name string) hclog.Logger { return r.ResetNamed(r.name + "." + name) }

func (r *raftLogger) ResetNamed(name string) hclog.Logger {
	c := *r
	c.name = name
	return &c
}

// SetLevel does nothing: slog's handler decides.
func (r *raftLogger) SetLevel(hclog.Level) {}

func (r *raftLogger) GetLevel() hclog.Level {
	if r.IsDebug() {
		return hclog.Debug
	}
	return hclog.Warn
}

func (r *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(r.StandardWriter(nil), "", 0)
}

func (r *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return slog.NewLogLogger(r.log.Handler(), slog.LevelDebug).Writer()
}
