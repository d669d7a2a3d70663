package server

import (
	"context"
	"errors"
	"fmt"

	"mailplusd/admin/api"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/search"
)

func ftsOut(f *model.FTS) api.FTSOut { return api.FTSOut{Enable: f.Enabled, CJK: f.CJK, CPU: f.CPU} }

func (s *Server) serviceFTSShow(context.Context, *Call, *op.None) (api.FTSOut, error) {
	return ftsOut(&s.mail.State.Current().FTS), nil
}

func (s *Server) serviceFTSSet(ctx context.Context, c *Call, in *api.FTSSetIn) (out api.FTSOut, err error) {
	var was bool
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		f := &set.FTS
		was = f.Enabled
		assign(&f.Enabled, in.Enable)
		assign(&f.CJK, in.CJK)
		assign(&f.CPU, in.CPU)
		if in.CJK != nil && *in.CJK && !f.Enabled { // R7.18 needs R7.10
			return refused("characters of Chinese, Japanese and Korean mail are indexed only with full-text search", "mpctl service fts set --enable on --cjk on")
		}
		out = ftsOut(f)
		return nil
	})
	if err == nil && out.Enable && !was { // R7.16
		c.Warn("all mail is indexed now, in the background; with much mail the load of the servers rises meanwhile: mpctl fts status")
	}
	return out, err
}

func (s *Server) ftsStatus(_ context.Context, _ *Call, in *api.FTSStatusIn) ([]api.FTSRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	have := map[model.AccountID]search.Status{}
	for _, st := range s.mail.Search.Status() {
		have[st.Account] = st
	}
	on := s.mail.State.Current().FTS.Enabled
	out := []api.FTSRow{}
	for _, a := range pic.Users {
		if in.User != "" && model.FoldName(in.User) != a.Name {
			continue
		}
		out = append(out, ftsRow(a, have, on))
	}
	if in.User != "" && len(out) == 0 {
		return nil, notFound("user", in.User, "mpctl user list")
	}
	return out, nil
}

func ftsRow(a *directory.Account, have map[model.AccountID]search.Status, on bool) api.FTSRow {
	st, ok := have[a.ID]
	switch {
	case !on:
		return api.FTSRow{User: a.Name, State: "off", Why: "full-text search is off: mpctl service fts set --enable on"}
	case a.NoFTS:
		return api.FTSRow{User: a.Name, State: "off", Why: "it is off for this user: mpctl user set " + a.Name + " --fts on"}
	case !a.Policy.FTS:
		return api.FTSRow{User: a.Name, State: "off", Why: "the policy " + a.Policy.Name + " switches it off: mpctl policy set '" + a.Policy.Name + "' --fts on"}
	case !ok:
		return api.FTSRow{User: a.Name, State: search.Waiting}
	}
	return api.FTSRow{User: a.Name, State: st.State, Messages: st.Messages, Indexed: st.Indexed, Skipped: st.Skipped, Size: st.Size, Why: st.Fault}
}

func (s *Server) ftsReindex(ctx context.Context, c *Call, in *api.FTSReindexIn, p *job.Progress) (out api.FTSReindexOut, err error) {
	rows, err := s.ftsStatus(ctx, c, &api.FTSStatusIn{User: in.User})
	if err != nil {
		return out, err
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	ids := []model.AccountID{}
	for _, r := range rows {
		if r.State != "off" {
			ids = append(ids, pic.User(r.User).ID)
		} else if in.User != "" {
			return out, refused("there is no index of "+r.User, "mpctl fts status "+r.User)
		}
	}
	if len(ids) == 0 {
		return out, refused("full-text search is off", "mpctl service fts set --enable on")
	}
	out.Users = len(ids)
	if c.DryRun {
		return out, nil
	}
	err = s.mail.Search.Reindex(ctx, ids, func(done, total int64) {
		out.Indexed, out.Messages = done, total
		p.Set(done, total, "messages", fmt.Sprintf("%d users", len(ids)))
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		err = op.Errorf(op.Partial, "%v", err).With("mpctl fts status")
	}
	return out, err
}

// ftsFunction is the state of full-text search in server show.
func (s *Server) ftsFunction() string {
	if !s.mail.State.Current().FTS.Enabled {
		return fnStopped
	}
	out := fnRunning
	for _, st := range s.mail.Search.Status() {
		switch st.State {
		case search.Faulty:
			return fnAbnormal
		case search.Building, search.Waiting:
			out = fnReady
		}
	}
	return out
}
