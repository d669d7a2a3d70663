package server

import (
	"context"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

func (s *Server) lockList(context.Context, *Call, *op.None) ([]api.LockRow, error) {
	out := []api.LockRow{}
	for _, l := range s.mail.Login.Locks() {
		out = append(out, api.LockRow{Account: l.Key, Until: l.Until.Format(time.RFC3339)})
	}
	return out, nil
}

func (s *Server) lockClear(_ context.Context, c *Call, in *api.LockClearIn) (op.None, error) {
	if !c.DryRun && s.mail.Login.Unlock(model.FoldName(in.Name)) == 0 {
		return op.None{}, notFound("lock-out of", in.Name, "mpctl login lock list")
	}
	return op.None{}, nil
}
