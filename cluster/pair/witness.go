package pair

import (
	"context"
	"encoding/json"
	"errors"
)

// Witness is the arbiter on a third machine, as the nodes see it.
type Witness struct {
	Link Link
	Node string // its ID on the link
}

// Name implements Arbiter.
func (w *Witness) Name() string { return "witness" }

func (w *Witness) call(ctx context.Context, method string, req any) error {
	if w.Node == "" {
		return errors.New("no witness is set (mpctl ha witness add)")
	}
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	_, err = w.Link.Call(ctx, w.Node, method, raw)
	return err
}

// RequestSolo implements Arbiter.
func (w *Witness) RequestSolo(ctx context.Context, r SoloRequest) error {
	return w.call(ctx, "witness.solo", r)
}

// ReportPair implements Arbiter.
func (w *Witness) ReportPair(ctx context.Context, r PairReport) error {
	return w.call(ctx, "witness.pair", r)
}

// Contact implements Arbiter.
func (w *Witness) Contact(ctx context.Context, r SoloRequest) error {
	return w.call(ctx, "witness.contact", r)
}
