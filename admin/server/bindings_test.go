package server

import (
	"testing"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
)

func TestEveryOperationHasAHandler(t *testing.T) {
	s := &Server{handlers: map[string]*handler{}}
	s.bindAll()
	declared := map[string]bool{}
	for _, o := range api.All {
		declared[op.Path(o)] = true
		h := s.handlers[op.Path(o)]
		if h == nil || h.call == nil && !o.Spec().Upload {
			t.Errorf("%q is declared, but nothing carries it out", o.Name())
			continue
		}
		if o.Spec().Upload != (h.upload != nil) {
			t.Errorf("%q: declared upload %v, bound %v", o.Name(), o.Spec().Upload, h.upload != nil)
		}
		if o.Spec().Bulk != (h.bulk != nil) {
			t.Errorf("%q: declared bulk %v, bound %v", o.Name(), o.Spec().Bulk, h.bulk != nil)
		}
	}
	for path := range s.handlers {
		if !declared[path] {
			t.Errorf("%s is carried out, but not declared in api.All", path)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","groups":["x"]}`))
	f.Add([]byte(`{"name":1}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		decode(data, new(api.UserAddIn))
		decode(data, new(api.QueueActIn))
		parseConfig(string(data), defaults())
	})
}

func FuzzAliases(f *testing.F) {
	f.Add("a: b, c\n  d\n# x\n\"q\": r\n")
	f.Fuzz(func(t *testing.T, s string) { parseAliases(reader(s)) })
}
