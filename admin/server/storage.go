package server

import (
	"context"
	"encoding/hex"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
)

func (s *Server) storageShow(context.Context, *Call, *op.None) (api.StorageOut, error) {
	st := s.mail.Bodies.Stats()
	return api.StorageOut{Segments: st.Segments, Bodies: st.Bodies, Bytes: st.Bytes, Live: st.Live, Dead: st.Dead, Appends: st.Appends, Fsyncs: st.Fsyncs, MaxBatch: st.MaxBatch}, nil
}

func (s *Server) storageDigest(ctx context.Context, _ *Call, _ *op.None) (api.StorageDigestOut, error) {
	d, err := s.mail.State.Digest(ctx)
	if err != nil {
		return api.StorageDigestOut{}, err
	}
	return api.StorageDigestOut{Node: s.node, Applied: d.Applied, Digest: hex.EncodeToString(d.Sum[:])}, nil
}

func (s *Server) storageVerify(ctx context.Context, c *Call, _ *op.None, p *job.Progress) (api.StorageVerifyOut, error) {
	if c.DryRun {
		return api.StorageVerifyOut{}, nil
	}
	total := s.mail.Bodies.Stats().Bodies
	st, err := s.mail.Bodies.Verify(ctx, func(done int) { p.Set(int64(done), total, "bodies", "") })
	out := api.StorageVerifyOut{Bodies: st.Bodies, Bytes: st.Bytes, Found: st.Repaired + len(st.Damaged), Repaired: st.Repaired, Damaged: []string{}}
	for _, d := range st.Damaged {
		out.Damaged = append(out.Damaged, d.Error())
	}
	if err == nil && len(st.Damaged) > 0 {
		err = op.Errorf(op.Partial, "%d of %d bodies are damaged, %d repaired from the other node; %d could not be repaired and are not served", out.Found, st.Bodies, st.Repaired, len(st.Damaged)).
			With("bring the other node back and repeat, or restore these messages from a backup")
	}
	return out, err
}

func (s *Server) storageCompact(ctx context.Context, c *Call, _ *op.None, p *job.Progress) (api.StorageCompactOut, error) {
	if c.DryRun {
		return api.StorageCompactOut{}, nil
	}
	before := s.mail.Bodies.Stats()
	p.Set(0, 0, "", "removing bodies that nothing refers to")
	if err := s.mail.CollectBodies(ctx, time.Now()); err != nil {
		return api.StorageCompactOut{}, err
	}
	st, err := s.mail.Bodies.Compact(ctx, 0.01, func(done, total int) {
		p.Set(int64(done), int64(total), "segments", "rewriting")
	})
	after := s.mail.Bodies.Stats()
	return api.StorageCompactOut{Segments: st.Segments, Moved: st.Moved, Freed: before.Bytes - after.Bytes}, err
}
