package op

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

type sample struct {
	Name   string   `json:"name" arg:"1" help:"name"`
	More   []string `json:"more" arg:"2..." optional:"true"`
	Size   *int     `json:"size" flag:"size" min:"1" max:"10"`
	Count  int      `json:"count" flag:"count" min:"1"`
	Kind   string   `json:"kind" flag:"kind" enum:"a,b"`
	Kinds  []string `json:"kinds" flag:"kinds" enum:"a,b"`
	Pass   Secret   `json:"pass" secret:"pass" optional:"true"`
	Upload string   `json:"upload" file:"upload" optional:"true"`
}

func (s *sample) Validate() error {
	if s.Name == "bad" {
		return errors.New("bad is not allowed")
	}
	return nil
}

func TestCheck(t *testing.T) {
	num := func(n int) *int { return &n }
	for _, tc := range []struct {
		in   sample
		want string // in the error; empty: none
	}{
		{sample{Name: "x"}, ""},
		{sample{Name: "x", Size: num(10), Count: 5, Kind: "a", Kinds: []string{"a", "b"}}, ""},
		{sample{}, "name: is missing"},
		{sample{Name: "x", Size: num(0)}, "size: 0 is outside 1 to 10"},
		{sample{Name: "x", Size: num(11)}, "size: 11 is outside"},
		{sample{Name: "x", Count: -1}, "count: -1 is outside what is allowed, at least 1"},
		{sample{Name: "x", Kind: "c"}, `kind: "c" is not one of a, b`},
		{sample{Name: "x", Kinds: []string{"a", "c"}}, `kinds: "c" is not one of`},
		{sample{Name: "bad"}, "bad is not allowed"},
	} {
		err := Check(&tc.in)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tc.in, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Code != Usage || e.Exit() != 2 || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.in, err, tc.want)
		}
	}
}

// TestSecretsStayHidden: neither the admin log nor a careless print shows them.
func TestSecretsStayHidden(t *testing.T) {
	in := sample{Name: "x", Pass: "hunter2", Upload: strings.Repeat("y", 1000)}
	masked := fmt.Sprint(Masked(&in), in.Pass, fmt.Sprintf("%v %+v %s", in, in, in.Pass))
	if strings.Contains(masked, "hunter2") {
		t.Error(masked)
	}
	if len(Masked(&in)["upload"].(string)) > 300 {
		t.Error("a long value is kept whole")
	}
}

func TestDiffValues(t *testing.T) {
	type v struct {
		Format string   `json:"format"`
		List   []string `json:"list"`
		N      int      `json:"n"`
		Hidden string   `json:"-"`
	}
	got := fmt.Sprint(DiffValues(v{Format: "<a>", N: 1, Hidden: "x"}, v{Format: `<m> & "q"`, List: []string{"<x>"}, N: 1}))
	if want := `[{format <a> <m> & "q"} {list  ["<x>"]}]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if d := DiffValues(v{N: 1}, v{N: 1}); d != nil {
		t.Errorf("%v", d)
	}
	if d := fmt.Sprint(DiffValues(nil, v{N: 1})); d != "[{n  1}]" {
		t.Errorf("from nothing: %v", d)
	}
}

func TestNames(t *testing.T) {
	o := New[sample, None]("domain alias add", Spec{})
	if Path(o) != "/v1/domain/alias/add" || BulkPath(o) != "/v1/domain/alias/add:bulk" || Verb(o) != "add" {
		t.Error(Path(o), BulkPath(o), Verb(o))
	}
	if got := Object(&sample{Name: "x", More: []string{"y", "z"}}); got != "x [y z]" {
		t.Error(got)
	}
}
