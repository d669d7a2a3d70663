package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// bulkRows is how many rows one transaction holds: large enough that thousands of rows
// take few entries, small enough that the first results come at once.
const bulkRows = 250

func newLimited(b []byte) io.Reader { return bytes.NewReader(b) }

func cutBulk(path string) (string, bool) { return strings.CutSuffix(path, ":bulk") }

// serveBulk reads rows as NDJSON and answers with one line each.
func (s *Server) serveBulk(w http.ResponseWriter, r *http.Request, h *handler, c *Call) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	sc := bufio.NewScanner(io.LimitReader(r.Body, maxBulk))
	sc.Buffer(make([]byte, 64<<10), maxBody)
	failed, total := 0, 0
	var batch []json.RawMessage
	flush := func() error {
		first := total - len(batch) + 1
		results, err := s.bulkGuard(r.Context(), h, c, batch, first)
		if err != nil {
			return err
		}
		for _, res := range results {
			if res.Status == "failed" {
				failed++
			}
			if err := enc.Encode(op.Reply{Result: res}); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return rc.Flush()
	}
	var err error
	for sc.Scan() && err == nil {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		total++
		if batch = append(batch, bytes.Clone(sc.Bytes())); len(batch) == bulkRows {
			err = flush()
		}
	}
	if err == nil {
		err = sc.Err()
	}
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	rep := op.Reply{Done: true, DryRun: c.DryRun, Version: model.Version}
	switch {
	case err != nil:
		rep.Error = explain(err)
	case failed > 0:
		rep.Error = op.Errorf(op.Partial, "%d of %d rows failed", failed, total)
	}
	if err != nil {
		c.subject("", map[string]any{"rows": total, "failed": failed})
		s.audit(r.Context(), c, err)
	}
	enc.Encode(rep)
}

func (s *Server) bulkGuard(ctx context.Context, h *handler, c *Call, rows []json.RawMessage, first int) ([]op.BulkResult, error) {
	out, err := s.guard(func() (any, error) { return h.bulk(ctx, c, rows, first) }, h)
	if err != nil {
		return nil, err
	}
	return out.([]op.BulkResult), nil
}

// bulkBatch does the rows of one batch in one transaction. A row that is refused is left
// out; the others are stored together.
func bulkBatch[Row any](ctx context.Context, s *Server, c *Call, raw []json.RawMessage, first int, key func(*Row) string, prepare func(*Row) error, begin func(*state.Tx) (func(*Row) (bool, error), error)) ([]op.BulkResult, error) {
	rows := make([]*Row, len(raw))
	bad := make([]error, len(raw))
	parallel(len(raw), func(i int) {
		rows[i] = new(Row)
		if bad[i] = decode(raw[i], rows[i]); bad[i] == nil && prepare != nil {
			bad[i] = prepare(rows[i])
		}
	})
	var results []op.BulkResult
	work := func(tx *state.Tx) error {
		results = results[:0]
		f, err := begin(tx)
		if err != nil {
			return err
		}
		for i, row := range rows {
			res := op.BulkResult{Row: first + i, Key: key(row), Status: "ok"}
			err := bad[i]
			if err == nil {
				var changed bool
				err = tx.Sub(func() (e error) { changed, e = f(row); return e })
				if err == nil && !changed {
					res.Status = "unchanged"
				}
			}
			if err != nil {
				if errors.Is(err, state.ErrConflict) {
					return err
				}
				res.Status, res.Error = "failed", explain(err)
			}
			results = append(results, res)
		}
		return nil
	}
	c.subject("", nil)
	err := s.change(ctx, c, func(tx *state.Tx) error {
		if err := work(tx); err != nil {
			return err
		}
		c.subject(changedKeys(results), map[string]any{"rows": len(results), "first": first})
		return nil
	})
	if err == nil && !c.DryRun {
		s.audit(ctx, c, nil)
	}
	return results, err
}

// changedKeys names the rows that changed something.
func changedKeys(results []op.BulkResult) string {
	var keys []string
	for _, r := range results {
		if r.Status == "ok" {
			keys = append(keys, r.Key)
		}
	}
	return strings.Join(keys, " ")
}
