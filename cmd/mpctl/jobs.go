package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/client"
	"mailplusd/admin/op"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// finishJob waits for the job that an operation has started and prints the operation's result.
func (g *globals) finishJob(ctx context.Context, c *client.Client, o op.Any, started json.RawMessage) error {
	var j api.JobRow
	if err := json.Unmarshal(started, &j); err != nil {
		return err
	}
	if g.noWait {
		return g.print(api.JobShow, started)
	}
	j, _, err := g.waitJob(ctx, c, j.ID)
	if err != nil {
		return err
	}
	if len(j.Result) > 0 {
		if err := g.print(o, j.Result); err != nil {
			return err
		}
	}
	return jobFailure(&j)
}

func jobFailure(j *api.JobRow) error {
	if j.Error != nil {
		return j.Error
	}
	return nil
}

// jobWait is the command "job wait": the job's last state, and its error as one's own.
func (g *globals) jobWait(ctx context.Context, c *client.Client, in map[string]any) error {
	j, raw, err := g.waitJob(ctx, c, in["id"])
	if err != nil {
		return err
	}
	if err := g.print(api.JobShow, raw); err != nil {
		return err
	}
	return jobFailure(&j)
}

// waitJob follows a job to its end: with a bar on a terminal, with a JSON line on standard error
// now and then elsewhere.
func (g *globals) waitJob(ctx context.Context, c *client.Client, id any) (j api.JobRow, raw json.RawMessage, err error) {
	tell, done := jobLines()
	if term.IsTerminal(int(os.Stderr.Fd())) {
		tell, done = jobBar()
	}
	err = c.Stream(ctx, op.Path(api.JobWait), map[string]any{"id": id}, false, func(r json.RawMessage) error {
		if err := json.Unmarshal(r, &j); err != nil {
			return err
		}
		raw = r
		tell(&j)
		return nil
	})
	done()
	if ctx.Err() != nil || err == nil && !j.Final() {
		return j, raw, op.Errorf(op.Failed, "not waited for: job %v goes on", id).With(fmt.Sprintf("mpctl job wait %v; or mpctl job cancel %v", id, id))
	}
	var e *op.Error
	if errors.As(err, &e) && e.Code == op.Unreachable {
		e.Remedy = fmt.Sprintf("mpctl job show %v", id)
	}
	return j, raw, err
}

// jobLines prints the state of a job as JSON on standard error, at most every five seconds.
func jobLines() (tell func(*api.JobRow), done func()) {
	last := time.Now()
	return func(j *api.JobRow) {
		if !j.Final() && time.Since(last) >= 5*time.Second {
			last = time.Now()
			json.NewEncoder(os.Stderr).Encode(map[string]any{"job": j.ID, "state": j.State, "done": j.Done, "total": j.Total, "unit": j.Unit, "percent": j.Percent, "note": j.Note})
		}
	}, func() {}
}

// jobBar draws a bar that goes away when the job has ended.
func jobBar() (tell func(*api.JobRow), done func()) {
	p := mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40))
	note := ""
	bar := p.New(0, mpb.BarStyle().Rbound("|").Lbound("|"),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return note })),
		mpb.AppendDecorators(decor.Percentage(), decor.CountersNoUnit("  %d of %d")))
	return func(j *api.JobRow) {
			note = j.Kind
			if j.Note != "" {
				note += ": " + j.Note
			}
			bar.SetTotal(j.Total, false)
			bar.SetCurrent(j.Done)
		}, func() {
			bar.Abort(true)
			p.Wait()
		}
}
