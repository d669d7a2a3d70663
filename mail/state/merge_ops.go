package state

type MergeReport struct{ ID string }
type Merge struct{}
type MergeDone struct{}

func (Merge) kind() Kind                              { return KindMerge }
func (MergeDone) kind() Kind                          { return KindMergeDone }
func (a *apply) merge(op *Merge) (any, error)         { return nil, nil }
func (a *apply) mergeDone(op *MergeDone) (any, error) { return nil, nil }
