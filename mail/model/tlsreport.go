package model

import "slices"

// TLSReport is what one node has counted in a day of how TLS towards a domain went (RFC 8460).
type TLSReport struct {
	Day      string            `cbor:"day"`  // UTC, such as 2026-01-31
	Node     uint16            `cbor:"node"` // that counted
	Domain   string            `cbor:"domain"`
	Policies []TLSReportPolicy `cbor:"policies"`
}

// TLSReportPolicy is what was counted under one policy.
type TLSReportPolicy struct {
	Kind     string             `cbor:"kind"` // tlsa, sts or no-policy-found
	Strings  []string           `cbor:"strings,omitempty"`
	MX       []string           `cbor:"mx,omitempty"`
	OK       int64              `cbor:"ok"`
	Failures []TLSReportFailure `cbor:"failures,omitempty"`
}

// TLSReportFailure is a kind of failure towards one host.
type TLSReportFailure struct {
	Kind    string `cbor:"kind"` // result type of RFC 8460 §4.3
	Sending string `cbor:"from,omitempty"`
	Host    string `cbor:"host,omitempty"`
	Address string `cbor:"addr,omitempty"`
	Detail  string `cbor:"detail,omitempty"`
	Count   int64  `cbor:"count"`
}

// Bounds of one day's report on one domain.
const (
	MaxReportPolicies = 10
	MaxReportFailures = 20 // kinds and hosts of one policy; more are counted with the last
)

// Add counts n connections under a policy; a failure without a kind is a success.
func (r *TLSReport) Add(p TLSReportPolicy, f TLSReportFailure, n int64) {
	policy := r.policy(p)
	if policy == nil {
		return
	}
	if f.Kind == "" {
		policy.OK += n
		return
	}
	f.Count = n
	for i := range policy.Failures {
		has := &policy.Failures[i]
		if has.Kind == f.Kind && has.Host == f.Host && has.Address == f.Address && has.Sending == f.Sending {
			has.Count += n
			return
		}
	}
	if len(policy.Failures) == MaxReportFailures {
		policy.Failures[MaxReportFailures-1].Count += n
		return
	}
	policy.Failures = append(policy.Failures, f)
}

// policy finds or makes the place of a policy; nil: there are too many.
func (r *TLSReport) policy(p TLSReportPolicy) *TLSReportPolicy {
	for i := range r.Policies {
		has := &r.Policies[i]
		if has.Kind == p.Kind && slices.Equal(has.Strings, p.Strings) {
			return has
		}
	}
	if len(r.Policies) == MaxReportPolicies {
		return nil
	}
	r.Policies = append(r.Policies, TLSReportPolicy{Kind: p.Kind, Strings: p.Strings, MX: p.MX})
	return &r.Policies[len(r.Policies)-1]
}

// Merge adds what another one has counted.
func (r *TLSReport) Merge(o *TLSReport) {
	for i := range o.Policies {
		p := &o.Policies[i]
		r.Add(*p, TLSReportFailure{}, p.OK)
		for _, f := range p.Failures {
			r.Add(*p, f, f.Count)
		}
	}
}
