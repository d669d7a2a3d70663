package job

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *List {
	t.Helper()
	l, err := Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func wait(t *testing.T, l *List, id int) Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	j, err := l.Wait(ctx, id, time.Millisecond, func(Job) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// covers: I.85
func TestOutcomes(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	fault := errors.New("no luck")
	for _, tc := range []struct {
		name          string
		out           Outcome
		want          State
		result, error string
	}{
		{"done", Outcome{Result: 7}, Done, "7", ""},
		{"failed", Outcome{Err: fault}, Failed, "", `"no luck"`},
		{"partly", Outcome{Result: 3, Err: fault, Fault: map[string]int{"code": 6}}, Partial, "3", `{"code":6}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j, err := l.Start("test", "", "me", func(_ context.Context, p *Progress) Outcome {
				p.Set(1, 2, "things", "half")
				return tc.out
			})
			if err != nil {
				t.Fatal(err)
			}
			j = wait(t, l, j.ID)
			if j.State != tc.want || string(j.Result) != tc.result || string(j.Error) != tc.error || j.Done != 1 || j.Total != 2 {
				t.Errorf("%+v, want %s %s %s", j, tc.want, tc.result, tc.error)
			}
			if err := l.Cancel(j.ID); !errors.Is(err, ErrFinal) {
				t.Errorf("cancel of an ended job: %v", err)
			}
		})
	}
	if _, err := l.Get(99); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown job: %v", err)
	}
}

func TestCancelAndLimit(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	block := func(ctx context.Context, _ *Progress) Outcome { <-ctx.Done(); return Outcome{Err: ctx.Err()} }
	var first Job
	for i := range MaxRunning {
		j, err := l.Start("test", "", "me", block)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = j
		}
	}
	if _, err := l.Start("test", "", "me", block); !errors.Is(err, ErrBusy) {
		t.Fatalf("one too many: %v", err)
	}
	if err := l.Cancel(first.ID); err != nil {
		t.Fatal(err)
	}
	if j := wait(t, l, first.ID); j.State != Cancelled {
		t.Errorf("state %s", j.State)
	}
	l.Close()
	for _, j := range l.All() {
		if !j.Final() {
			t.Errorf("job %d is still %s after Close", j.ID, j.State)
		}
	}
	if _, err := l.Start("test", "", "me", block); !errors.Is(err, ErrClosed) {
		t.Errorf("start after Close: %v", err)
	}
}

func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.json")
	// A process that was killed leaves a job as running.
	if err := os.WriteFile(path, []byte(`[{"id":41,"kind":"storage verify","state":"running","started":"2026-01-01T00:00:00Z"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	if j, err := l.Get(41); err != nil || j.State != Interrupted {
		t.Errorf("%+v %v", j, err)
	}
	j, err := l.Start("test", "", "me", func(context.Context, *Progress) Outcome { return Outcome{} })
	if err != nil || j.ID != 42 {
		t.Errorf("the next job is %d, %v", j.ID, err)
	}
	wait(t, l, j.ID)
	l.Close()
	again := open(t, path)
	if all := again.All(); len(all) != 2 || all[0].ID != 42 || all[0].State != Done {
		t.Errorf("%+v", all)
	}
}

func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.json")
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := open(t, path); len(l.All()) != 0 {
		t.Error("jobs out of nothing")
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

func TestKept(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "jobs.json"))
	for range MaxKept + 5 {
		j, err := l.Start("test", "", "me", func(context.Context, *Progress) Outcome { return Outcome{} })
		if err != nil {
			t.Fatal(err)
		}
		wait(t, l, j.ID)
	}
	if all := l.All(); len(all) != MaxKept || all[0].ID != MaxKept+5 {
		t.Errorf("%d kept, newest %d", len(all), all[0].ID)
	}
}
