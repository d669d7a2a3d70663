package transport

type Pairing struct{}
type pairings struct{}

func (p *pairings) init(Pairing) {}
