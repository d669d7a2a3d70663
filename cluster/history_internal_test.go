package cluster

import "testing"

// FuzzParseHistory: no content of ha-state.json brings a panic or an impossible history.
func FuzzParseHistory(f *testing.F) {
	f.Add([]byte(`{"format":1,"history":[{"epoch":1,"owner":"a","index":3,"term":1}],"facts":{"vip":["x"],"extra":{}}}`))
	f.Add([]byte(`{"format":1,"history":[{"epoch":0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseHistory(b)
		if err == nil && s.History.Validate() != nil {
			t.Errorf("%q accepted", b)
		}
	})
}
