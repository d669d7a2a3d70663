package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
)

// bindJob joins a declaration whose work takes long with the function that does it. The call is
// answered with the job at once; mpctl waits for it unless told not to.
func bindJob[In, Out any](s *Server, o *op.Op[In, Out], f func(context.Context, *Call, *In, *job.Progress) (Out, error)) {
	s.add(o).call = func(ctx context.Context, c *Call, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		c.subject(op.Object(in), op.Masked(in))
		if c.DryRun {
			return f(ctx, c, in, nil)
		}
		j, err := s.jobs.Start(o.Name(), op.Object(in), c.Actor.String(), func(ctx context.Context, p *job.Progress) job.Outcome {
			out, err := s.guard(func() (any, error) { return f(ctx, c, in, p) }, s.handlers[op.Path(o)])
			s.audit(ctx, c, err)
			if err == nil {
				return job.Outcome{Result: out}
			}
			if !isPartial(err) {
				out = nil
			}
			return job.Outcome{Result: out, Err: err, Fault: explain(err)}
		})
		if err != nil {
			return nil, op.Errorf(op.Refused, "%v", err).With("mpctl job list --running")
		}
		return jobRow(&j), nil
	}
}

func jobRow(j *job.Job) api.JobRow {
	r := api.JobRow{ID: j.ID, Kind: j.Kind, Subject: j.Subject, State: string(j.State), Done: j.Done, Total: j.Total, Unit: j.Unit, Note: j.Note,
		Actor: j.Actor, Started: j.Started.Format(time.RFC3339), Result: j.Result}
	switch {
	case j.State == job.Done:
		r.Percent = 100
	case j.Total > 0:
		r.Percent = int(min(j.Done*100/j.Total, 100))
	}
	if !j.Ended.IsZero() {
		r.Ended = j.Ended.Format(time.RFC3339)
	}
	if j.Error != nil {
		r.Error = &op.Error{}
		if json.Unmarshal(j.Error, r.Error) != nil {
			r.Error = op.Errorf(op.Failed, "%s", j.Error)
		}
	} else if j.State == job.Interrupted {
		r.Error = op.Errorf(op.Failed, "mailplusd was stopped before the job had ended; start it again")
	}
	return r
}

func (s *Server) jobList(_ context.Context, _ *Call, in *api.JobListIn) ([]api.JobRow, error) {
	out := []api.JobRow{}
	for _, j := range s.jobs.All() {
		if !in.Running || !j.Final() {
			out = append(out, jobRow(&j))
		}
	}
	return out, nil
}

func jobError(err error, id int) error {
	switch {
	case errors.Is(err, job.ErrNotFound):
		return op.Errorf(op.NotFound, "there is no job %d", id).With("mpctl job list")
	case errors.Is(err, job.ErrFinal):
		return op.Errorf(op.Refused, "job %d has ended already", id)
	}
	return err
}

func (s *Server) jobShow(_ context.Context, _ *Call, in *api.JobIn) (api.JobRow, error) {
	j, err := s.jobs.Get(in.ID)
	return jobRow(&j), jobError(err, in.ID)
}

// jobWait sends a row when something has moved, and one when the job has ended.
func (s *Server) jobWait(ctx context.Context, c *Call, in *api.JobIn) (api.JobRow, error) {
	last := int64(-1)
	j, err := s.jobs.Wait(ctx, in.ID, 200*time.Millisecond, func(j job.Job) error {
		if j.Done == last {
			return nil
		}
		last = j.Done
		return c.Emit(jobRow(&j))
	})
	if err != nil {
		return api.JobRow{}, jobError(err, in.ID)
	}
	return api.JobRow{}, c.Emit(jobRow(&j))
}

func (s *Server) jobCancel(ctx context.Context, c *Call, in *api.JobIn) (api.JobRow, error) {
	if c.DryRun {
		return s.jobShow(ctx, c, in)
	}
	if err := s.jobs.Cancel(in.ID); err != nil {
		return api.JobRow{}, jobError(err, in.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	j, err := s.jobs.Wait(ctx, in.ID, time.Second, func(job.Job) error { return nil })
	return jobRow(&j), err
}
