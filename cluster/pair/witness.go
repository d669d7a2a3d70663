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

func (w *Witness) call(ctx context.Context, method string, req any) ([]byte, error) {
	if w.Node == "" {
		return nil, errors.New("no witness is set (mpctl ha witness add)")
	}
	raw, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	return w.Link.Call(ctx, w.Node, method, raw)
}

// RequestSolo implements Arbiter.
func (w *Witness) RequestSolo(ctx context.Context, r SoloRequest) (lasting bool, err error) {
	_, err = w.call(ctx, "witness.solo", r)
	return true, err
}

// Serial implements Arbiter.
func (w *Witness) Serial(ctx context.Context) (serial uint64, err error) {
	raw, err := w.call(ctx, "witness.serial", nil)
	if err != nil {
		return 0, err
	}
	return serial, json.Unmarshal(raw, &serial)
}

// ReportPair implements Arbiter.
func (w *Witness) ReportPair(ctx context.Context, r PairReport) error {
	_, err := w.call(ctx, "witness.pair", r)
	return err
}

// Contact implements Arbiter.
func (w *Witness) Contact(ctx context.Context, r SoloRequest) (revision uint64, err error) {
	raw, err := w.call(ctx, "witness.contact", r)
	if err != nil || len(raw) == 0 { // one of an older version says nothing
		return 0, err
	}
	return revision, json.Unmarshal(raw, &revision)
}
