package imapparse

import "testing"

func TestModifiers(t *testing.T) {
	for _, c := range []struct {
		in   string
		read func(*Parser) error
		ok   bool
	}{
		{" (CONDSTORE)", sel, true}, {"", sel, true}, {" (QRESYNC (1 2))", sel, true}, {" (condstore qresync (1 9223372036854775807 1:5,7 (1,3 5,9)))", sel, true}, {" (QRESYNC (1 2 (1 1)))", sel, true},
		{" (QRESYNC (1 9223372036854775808))", sel, false}, {" (QRESYNC (1 2 1:*))", sel, false}, {" (QRESYNC 1 2)", sel, false}, {"(CONDSTORE)", sel, false}, {" (CONDSTORE", sel, false}, {" (QRESYNC (1 2 3 4))", sel, false},
		{" (CHANGEDSINCE 5)", mods, true}, {" (CHANGEDSINCE 5 VANISHED)", mods, true}, {" (VANISHED CHANGEDSINCE 5)", mods, true}, {" (VANISHED)", mods, false}, {" (CHANGEDSINCE)", mods, false}, {" CHANGEDSINCE 5", mods, false},
		{"(UNCHANGEDSINCE 0) ", since, true}, {"", since, true}, {"(UNCHANGEDSINCE 1)", since, false}, {"() ", since, false}, {"(UNCHANGEDSINCE -1) ", since, false},
		{"(REVERSE DATE subject)", sorts, true}, {"(DISPLAYFROM REVERSE DISPLAYTO)", sorts, true}, {"()", sorts, false}, {"(DATE REVERSE)", sorts, false}, {"(REVERSE REVERSE DATE)", sorts, false}, {"DATE", sorts, false},
		{"RETURN () ", ret, true}, {"return (min MAX count all save) ", ret, true}, {"RETURN (MIN)", ret, false}, {"RETURN (NOPE) ", ret, false}, {"ALL", ret, true},
	} {
		p := New(c.in, nil)
		err := c.read(p)
		if err == nil {
			err = p.End()
		}
		if c.in == "ALL" {
			err = nil // nothing is read
		}
		if (err == nil) != c.ok {
			t.Errorf("%q: %v", c.in, err)
		}
	}
}

func sel(p *Parser) error   { _, err := p.Select(); return err }
func mods(p *Parser) error  { _, err := p.FetchModifiers(); return err }
func since(p *Parser) error { _, err := p.UnchangedSince(); return err }
func sorts(p *Parser) error { _, err := p.Sort(); return err }
func ret(p *Parser) error   { _, err := p.Return(); return err }

func FuzzModifiers(f *testing.F) {
	f.Add(" (QRESYNC (1 2 1:5 (1 1)))")
	f.Add("(UNCHANGEDSINCE 1) +FLAGS")
	f.Add("RETURN (SAVE) $ MODSEQ \"/flags/\\\\seen\" all 1")
	f.Fuzz(func(t *testing.T, s string) {
		for _, read := range []func(*Parser) error{sel, mods, since, sorts, ret} {
			read(New(s, nil))
		}
		p := New(s, nil)
		if _, err := p.Return(); err == nil {
			if k, _, err := p.Search(); err == nil {
				k.Asks("MODSEQ")
			}
		}
	})
}
