package api

import (
	"encoding/json"

	"mailplusd/admin/op"
)

// JobRow is long work in the background.
type JobRow struct {
	ID      int             `json:"id" col:"JOB"`
	Kind    string          `json:"kind" col:"WHAT"`
	Subject string          `json:"subject" col:"OF"`
	State   string          `json:"state" col:"STATE"` // running, done, partly done, failed, cancelled or interrupted
	Percent int             `json:"percent" col:"PERCENT"`
	Done    int64           `json:"done" col:"DONE,wide"`
	Total   int64           `json:"total" col:"OF,wide"`
	Unit    string          `json:"unit" col:"UNIT,wide"`
	Note    string          `json:"note" col:"AT"`
	Actor   string          `json:"actor" col:"BY"`
	Started string          `json:"started" col:"STARTED"`
	Ended   string          `json:"ended" col:"ENDED"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *op.Error       `json:"error,omitempty" col:"WHY"`
}

// Final tells whether the job has ended.
func (r *JobRow) Final() bool { return r.State != "running" }

// JobIn names a job.
type JobIn struct {
	ID int `json:"id" arg:"1" min:"1" complete:"job" help:"number of the job"`
}

// JobListIn says which jobs.
type JobListIn struct {
	Running bool `json:"running" flag:"running" help:"only those that are not finished"`
}

// Long work.
var (
	JobList   = op.New[JobListIn, []JobRow]("job list", op.Spec{Summary: "list long work of this node, the newest first", Effect: op.Read, Local: true})
	JobShow   = op.New[JobIn, JobRow]("job show", op.Spec{Summary: "show a job and what came of it", Effect: op.Read, Local: true})
	JobWait   = op.New[JobIn, JobRow]("job wait", op.Spec{Summary: "wait until a job has ended", Help: "Shows how far it is; ends with the exit status of the job's own command. Leaving with Ctrl-C leaves the job running.", Effect: op.Read, Local: true, Stream: true})
	JobCancel = op.New[JobIn, JobRow]("job cancel", op.Spec{Summary: "end a job before it is done", Effect: op.Run, Alone: true, Local: true})
)
