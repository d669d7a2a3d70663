package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/state"
)

func (s *Server) haMergeList(context.Context, *Call, *op.None) ([]api.HAMergeRow, error) {
	list, err := s.mail.State.MergeReportList()
	out := []api.HAMergeRow{}
	for i, r := range list {
		out = append(out, mergeRow(uint64(i+1), r))
	}
	return out, err
}

func mergeRow(id uint64, r *state.MergeReport) api.HAMergeRow {
	row := api.HAMergeRow{ID: id, Time: stamp(r.Started), From: r.Loser, State: "under way",
		Summary: fmt.Sprintf("%d messages added, %d the same, %d flags, %d expunged, %d recovered, %d conflicts", r.Counts.Added, r.Counts.Same, r.Counts.Flags, r.Counts.Expunged, r.Counts.Recovered, r.Counts.Conflicts)}
	if r.Done != 0 {
		row.State = "done"
	}
	return row
}

func (s *Server) haMergeShow(_ context.Context, _ *Call, in *api.HAMergeIn) (api.HAMergeOut, error) {
	list, err := s.mail.State.MergeReportList()
	if err != nil {
		return api.HAMergeOut{}, err
	}
	id, err := strconv.ParseUint(in.ID, 10, 32)
	if err != nil || id < 1 || id > uint64(len(list)) {
		return api.HAMergeOut{}, notFound("merge", in.ID, "mpctl ha merge list")
	}
	r := list[id-1]
	out := api.HAMergeOut{HAMergeRow: mergeRow(id, r), Counts: map[string]int64{}, Lines: append([]string{}, r.Lines...)}
	raw, err := json.Marshal(r.Counts)
	if err == nil {
		err = json.Unmarshal(raw, &out.Counts)
	}
	return out, err
}
