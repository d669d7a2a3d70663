package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"mailplusd/admin/feed"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

func cutUpload(path string) (string, bool) { return strings.CutSuffix(path, ":upload") }

// bindUpload joins a declaration whose call brings messages along with the function that takes
// them. The work is a job, which can be seen and cancelled; it ends with the call.
func bindUpload[In, Out, Result any](s *Server, o *op.Op[In, Out], f func(context.Context, *Call, *In, *feed.Reader, *job.Progress) (Result, error)) {
	s.add(o).upload = func(ctx context.Context, c *Call, body []byte, r *feed.Reader, stop func()) error {
		in := new(In)
		if err := decode(body, in); err != nil {
			return err
		}
		c.subject(op.Object(in), op.Masked(in))
		var fault error
		j, err := s.jobs.Start(o.Name(), op.Object(in), c.Actor.String(), func(jctx context.Context, p *job.Progress) job.Outcome {
			jctx, cancel := context.WithCancel(jctx)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			defer context.AfterFunc(jctx, stop)() // a read that waits for the client ends, too
			var out any
			out, fault = s.guard(func() (any, error) { return f(jctx, c, in, r, p) }, s.handlers[op.Path(o)])
			if fault != nil && jctx.Err() != nil {
				fault = op.Errorf(op.Failed, "cancelled; what was stored stays, repeat the command for the rest")
			}
			s.audit(jctx, c, fault)
			if fault == nil {
				return job.Outcome{Result: out}
			}
			if !isPartial(fault) {
				out = nil
			}
			return job.Outcome{Result: out, Err: fault, Fault: explain(fault)}
		})
		if err != nil {
			return op.Errorf(op.Refused, "%v", err).With("mpctl job list --running")
		}
		// The body of the request is read by the job: the call must outlive it.
		if _, err := s.jobs.Wait(context.WithoutCancel(ctx), j.ID, time.Second, func(job.Job) error { return nil }); err != nil {
			return err
		}
		return fault
	}
}

// serveUpload takes a feed of messages and answers with rows while it comes.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request, h *handler, c *Call) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	c.emit = func(row any) error {
		if err := enc.Encode(op.Reply{Result: row}); err != nil {
			return err
		}
		return rc.Flush()
	}
	rc.Flush()
	in, head, err := feed.NewReader(http.MaxBytesReader(w, r.Body, maxUpload))
	if errors.Is(err, io.EOF) {
		err = op.Errorf(op.Usage, "nothing was sent")
	}
	if err == nil {
		err = h.upload(r.Context(), c, head, in, func() { rc.SetReadDeadline(time.Unix(1, 0)) })
	}
	rep := op.Reply{Done: true, DryRun: c.DryRun, Warning: c.warning, Version: model.Version}
	if err != nil {
		rep.Error = explain(err)
	}
	enc.Encode(rep)
}
