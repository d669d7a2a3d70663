// Package job keeps long work that goes on when the caller has left: it can be listed, waited
// for and cancelled, and what became of it is remembered over a restart (I.85).
//
// Jobs belong to the node that does the work. Their list is a small JSON file, written through
// a temporary name at each start and end of a job; a job that was running when the process
// ended is shown as interrupted.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// State says how far a job is.
type State string

// The states of a job. All but Running are final.
const (
	Running     State = "running"
	Done        State = "done"
	Partial     State = "partly done" // finished, with a result and an error
	Failed      State = "failed"
	Cancelled   State = "cancelled"
	Interrupted State = "interrupted" // the process ended before the job did
)

// Limits of a list of jobs.
const (
	MaxRunning = 16
	MaxKept    = 200 // ended jobs that are remembered
)

// Job is a piece of long work. Done and Total count in Unit; a Total of 0 is unknown.
type Job struct {
	ID      int             `json:"id"`
	Kind    string          `json:"kind"` // the operation that started it
	Subject string          `json:"subject,omitempty"`
	Actor   string          `json:"actor"`
	State   State           `json:"state"`
	Note    string          `json:"note,omitempty"` // what it is at
	Unit    string          `json:"unit,omitempty"`
	Done    int64           `json:"done"`
	Total   int64           `json:"total"`
	Started time.Time       `json:"started"`
	Ended   time.Time       `json:"ended,omitzero"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"` // as the starter of the job encodes errors
}

// Final tells whether nothing will change any more.
func (j *Job) Final() bool { return j.State != Running }

// Errors of List.
var (
	ErrNotFound = errors.New("no such job")
	ErrFinal    = errors.New("the job has ended already")
	ErrBusy     = fmt.Errorf("%d jobs are running already; wait for one or cancel one", MaxRunning)
	ErrClosed   = errors.New("the node is stopping")
)

// Progress is how a job tells how far it is. It may be used from several goroutines.
type Progress struct {
	l *List
	t *task
}

// Set tells how much is done out of how much, in which unit, and what it is at.
func (p *Progress) Set(done, total int64, unit, note string) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	p.t.Done, p.t.Total, p.t.Unit, p.t.Note = done, total, unit, note
}

// task is a job with what is needed while it runs.
type task struct {
	Job
	cancel    context.CancelFunc
	cancelled bool
	ended     chan struct{}
}

// List keeps the jobs of a node.
type List struct {
	path   string
	now    func() time.Time
	onErr  func(error)
	mu     sync.Mutex
	tasks  []*task // oldest first
	next   int
	closed bool
	wg     sync.WaitGroup
	ctx    context.Context
	stop   context.CancelFunc
	saving sync.Mutex
}

// Open reads the list in a file, or starts an empty one. onErr is told when the file can't be
// written; work goes on then. A damaged file is put aside, not deleted.
func Open(path string, onErr func(error)) (*List, error) {
	l := &List{path: path, now: time.Now, onErr: onErr, next: 1}
	l.ctx, l.stop = context.WithCancel(context.Background())
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	var jobs []Job
	if err := json.Unmarshal(b, &jobs); err != nil {
		return l, os.Rename(path, path+".damaged")
	}
	for _, j := range jobs {
		if j.State == Running {
			j.State, j.Ended = Interrupted, l.now()
		}
		t := &task{Job: j, ended: make(chan struct{})}
		close(t.ended)
		l.tasks = append(l.tasks, t)
		l.next = max(l.next, j.ID+1)
	}
	return l, nil
}

// Outcome is what the work of a job gives: a result, an error, or both when it is partly done.
type Outcome struct {
	Result any
	Err    error
	Fault  any // Err for the reader of the job, to be encoded; nil: its text
}

// Start runs work in the background. What it changed when it is cancelled is the work's own affair.
func (l *List) Start(kind, subject, actor string, work func(context.Context, *Progress) Outcome) (Job, error) {
	l.mu.Lock()
	running := 0
	for _, t := range l.tasks {
		if !t.Final() {
			running++
		}
	}
	if l.closed || running >= MaxRunning {
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return Job{}, ErrClosed
		}
		return Job{}, ErrBusy
	}
	ctx, cancel := context.WithCancel(l.ctx)
	t := &task{Job: Job{ID: l.next, Kind: kind, Subject: subject, Actor: actor, State: Running, Started: l.now()}, cancel: cancel, ended: make(chan struct{})}
	l.next++
	l.tasks = append(l.tasks, t)
	l.forget()
	l.wg.Add(1)
	j := t.Job
	l.mu.Unlock()
	l.save()
	go l.run(ctx, t, work)
	return j, nil
}

func (l *List) run(ctx context.Context, t *task, work func(context.Context, *Progress) Outcome) {
	defer l.wg.Done()
	defer t.cancel()
	out := work(ctx, &Progress{l, t})
	l.mu.Lock()
	t.finish(out, l.now())
	l.mu.Unlock()
	l.save()
	close(t.ended)
}

func (t *task) finish(out Outcome, now time.Time) {
	t.Ended = now
	if out.Result != nil {
		t.Result, _ = json.Marshal(out.Result)
	}
	switch {
	case out.Err == nil:
		t.State, t.Note = Done, ""
		return
	case t.cancelled:
		t.State = Cancelled
	case errors.Is(out.Err, context.Canceled):
		t.State = Interrupted
	case out.Result != nil:
		t.State = Partial
	default:
		t.State = Failed
	}
	if out.Fault == nil {
		out.Fault = out.Err.Error()
	}
	t.Error, _ = json.Marshal(out.Fault)
}

// forget drops the oldest ended jobs beyond MaxKept.
func (l *List) forget() {
	surplus := len(l.tasks) - MaxKept
	kept := l.tasks[:0]
	for _, t := range l.tasks {
		if surplus > 0 && t.Final() {
			surplus--
			continue
		}
		kept = append(kept, t)
	}
	l.tasks = kept
}

// All gives every job, the newest first.
func (l *List) All() []Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Job, 0, len(l.tasks))
	for i := len(l.tasks) - 1; i >= 0; i-- {
		out = append(out, l.tasks[i].Job)
	}
	return out
}

func (l *List) find(id int) *task {
	for _, t := range l.tasks {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// Get gives one job as it is now.
func (l *List) Get(id int) (Job, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.find(id); t != nil {
		return t.Job, nil
	}
	return Job{}, ErrNotFound
}

// Cancel asks a job to end; Wait tells when it has.
func (l *List) Cancel(id int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.find(id)
	switch {
	case t == nil:
		return ErrNotFound
	case t.Final():
		return ErrFinal
	}
	t.cancelled = true
	t.cancel()
	return nil
}

// Wait calls tell at each step of so long while the job runs, and gives it when it has ended.
func (l *List) Wait(ctx context.Context, id int, step time.Duration, tell func(Job) error) (Job, error) {
	l.mu.Lock()
	t := l.find(id)
	l.mu.Unlock()
	if t == nil {
		return Job{}, ErrNotFound
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-t.ended:
			return l.Get(id)
		case <-ctx.Done():
			return Job{}, ctx.Err()
		case <-tick.C:
			j, err := l.Get(id)
			if err != nil || j.Final() {
				continue
			}
			if err := tell(j); err != nil {
				return j, err
			}
		}
	}
}

// Close ends what runs and writes the list.
func (l *List) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.wg.Wait()
	l.save()
}

// save writes the list durably.
func (l *List) save() {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	jobs := make([]Job, 0, len(l.tasks))
	for _, t := range l.tasks {
		jobs = append(jobs, t.Job)
	}
	l.mu.Unlock()
	b, err := json.MarshalIndent(jobs, "", " ")
	if err == nil {
		err = writeFile(l.path, b)
	}
	if err != nil && l.onErr != nil {
		l.onErr(err)
	}
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
