package mail

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"mailplusd/mail/flow"
)

var update = flag.Bool("update", false, "write docs/flow.md")

const flowPage = "../docs/flow.md"

func flowPageText() string {
	var b strings.Builder
	b.WriteString(`# The way of a message

Every message passes these stages in this order: mail from other servers (in), mail that users send
(out) and what the server writes itself (own: notifications of delivery). The list is made from
mail/chain.go by ` + "`make docs`" + `; ` + "`mpctl flow show`" + ` prints it, ` + "`mpctl flow trace`" + ` runs a message through it
without delivering it. Limits on connections and lines act before the first stage. 250 is
answered after the last one, when everything is on disk.

| # | phase | stage | for | what it can say |
|---|---|---|---|---|
`)
	for i, s := range Chain {
		var dirs []string
		for _, d := range []struct {
			bit  flow.Direction
			name string
		}{{flow.In, "in"}, {flow.Out, "out"}, {flow.Own, "own"}} {
			if s.For&d.bit != 0 {
				dirs = append(dirs, d.name)
			}
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", i+1, s.Phase, s.Name, strings.Join(dirs, ", "), s.Help)
	}
	return b.String()
}

// TestFlowPage keeps docs/flow.md what the chain is.
func TestFlowPage(t *testing.T) {
	want := flowPageText()
	if *update {
		if err := os.WriteFile(flowPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(flowPage)
	if err != nil || string(have) != want {
		t.Errorf("%s is not what the chain says (%v); run make docs", flowPage, err)
	}
}

// TestChainIsInPhaseOrder: a stage of an earlier phase below one of a later would never be where it stands.
func TestChainIsInPhaseOrder(t *testing.T) {
	order := map[flow.Phase]int{flow.Connect: 0, flow.Helo: 1, flow.Mail: 2, flow.Rcpt: 3, flow.Data: 4, flow.Commit: 5, flow.After: 6}
	last, names := 0, map[string]bool{}
	for _, s := range Chain {
		n, known := order[s.Phase]
		if !known || n < last || names[s.Name] || s.Help == "" || s.For == 0 || s.Check == nil {
			t.Errorf("stage %s of phase %s is out of order, twice there, or incomplete", s.Name, s.Phase)
		}
		last, names[s.Name] = n, true
	}
}
