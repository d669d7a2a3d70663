package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"mailplusd/admin/api"
)

// viewPair is the screen for 3 a.m.: what is up, who holds the address, what is wrong and what to
// do about it; then the nodes, then what may fail, then the rest. The history comes with -o wide only.
func viewPair(w io.Writer, raw json.RawMessage, wide bool) error {
	var v api.HAShowOut
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	fmt.Fprintln(w, headline(v))
	if v.Alarm != "" {
		fmt.Fprintln(w, "  !", v.Alarm)
	}
	if v.Advice != "" {
		fmt.Fprintln(w, "  →", v.Advice)
	}
	if len(v.Nodes) > 0 {
		fmt.Fprintln(w)
		if err := nodeTable(w, v, wide); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range pairLines(v, wide) {
		fmt.Fprintf(tw, "%s\t%s\n", l[0], l[1])
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if wide && len(v.History) > 0 {
		fmt.Fprintln(w, "\nhistory")
		for _, h := range slices.Backward(v.History) {
			fmt.Fprintln(w, " ", h)
		}
	}
	return nil
}

// headline says in one line what is up and where the address is.
func headline(v api.HAShowOut) string {
	peer := ""
	back := false // the other node is there and receives what it lacks
	for _, n := range v.Nodes {
		if n.Node != v.Node {
			peer, back = n.Node, n.State == "joining"
		}
	}
	at := "nobody holds " + strings.Join(v.Addresses, ", ")
	if v.Holder != "" {
		at = strings.Join(v.Addresses, ", ") + " is on " + v.Holder + since(v.Since)
	}
	what := ""
	switch v.State {
	case "single":
		return fmt.Sprintf("%s serves alone and is in no pair (mpctl ha create makes one)", v.Node)
	case "pair":
		what = "pair: both nodes are up and have everything"
		if v.Copies < 2 {
			what = "pair: " + peer + " does not answer"
		}
	case "solo-primary", "solo-secondary":
		what = fmt.Sprintf("ALONE: %s serves, %s is down", v.Node, peer)
		if v.State == "solo-secondary" {
			what = fmt.Sprintf("ALONE: %s has taken over, %s is down", v.Node, peer)
		}
		if back {
			what = fmt.Sprintf("%s serves alone while %s is being synchronised", v.Node, peer)
		}
	case "joining":
		what = fmt.Sprintf("%s is being synchronised; %s serves", v.Node, peer)
		if v.Fault != "" {
			what = fmt.Sprintf("DOWN: %s lacks what %s has, and %s does not answer", v.Node, peer, peer)
		}
	case "isolated":
		what = fmt.Sprintf("DOWN: %s may not serve", v.Node)
	case "cold":
		what = fmt.Sprintf("DOWN: %s has started and waits for %s", v.Node, peer)
	case "merging":
		what = fmt.Sprintf("%s brings its own mail over to %s", v.Node, peer)
	default:
		what = v.State
	}
	return what + "; " + at
}

// since writes a time as a person reads it at night: the clock, and how long that is.
func since(stamp string) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return ""
	}
	form := "15:04:05"
	if time.Since(t) > 12*time.Hour {
		form = time.DateTime
	}
	return " since " + t.Local().Format(form) + " (" + roughly(time.Since(t)) + ")"
}

func roughly(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func nodeTable(w io.Writer, v api.HAShowOut, wide bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tNOW\tMADE AS\tSTATE\tADDRESS\tLOG\tBEHIND\tBODIES\tHEARD"+map[bool]string{true: "\tVERSION\tLINK"}[wide])
	for _, n := range v.Nodes {
		address, log, lacks, heard := "", "follows", "?", n.Heard
		if n.Address {
			address = "holds"
		}
		if n.Leads {
			log = "leads"
		}
		if n.State == "silent" {
			log = "?"
		}
		switch {
		case n.Missing == 0:
			lacks = "all"
		case n.Missing > 0:
			lacks = fmt.Sprintf("%d missing", n.Missing)
		}
		behind := fmt.Sprint(n.Lag)
		if n.State == "silent" {
			behind = "?"
		}
		if heard == "" {
			heard = "this node"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", n.Node, n.Role, n.Original, n.State, address, log, behind, lacks, heard)
		if wide {
			fmt.Fprintf(tw, "\t%s\t%s", n.Version, strings.Join(n.Links, ", "))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// pairLines are the named lines below the nodes; those with nothing to say are left out.
func pairLines(v api.HAShowOut, wide bool) (out [][2]string) {
	add := func(name, text string) {
		if text != "" {
			out = append(out, [2]string{name, text})
		}
	}
	list := func(name string, texts []string) {
		for _, t := range texts {
			add(name, t)
			name = ""
		}
	}
	if v.State == "single" {
		if wide && v.Epoch > 0 {
			add("epoch", fmt.Sprint(v.Epoch))
		}
		return out
	}
	list("must not fail", v.CantFail)
	list("may fail", v.CanFail)
	add("new mail", map[bool]string{true: "on both nodes before it is acknowledged", false: "one copy"}[v.Copies > 1])
	add("behind", v.Progress)
	add("no answer", v.Fault)
	add("clocks", v.Skew)
	arbiter := v.Arbiter
	if v.ArbiterNo != "" {
		arbiter += ", says: " + v.ArbiterNo
	} else if arbiter != "" {
		arbiter += ", answers"
	}
	add("arbiter", arbiter)
	add("settings", v.ReadOnly)
	add("sessions", v.Sharing)
	if wide {
		add("lease", v.Lease)
		add("epoch", fmt.Sprintf("%d, turn %d, in this state for %s", v.Epoch, v.Turn, v.For))
		add("cluster", v.Cluster)
	}
	return out
}

func functionNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// viewServers is the list of nodes; each function has a column of its own in the wide table, and in
// the narrow one the states are counted.
func viewServers(w io.Writer, raw json.RawMessage, wide bool) error {
	var list []api.ServerRow
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	var names []string
	for _, r := range list {
		for _, n := range functionNames(r.Functions) {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"NODE", "ROLE", "STATE", "CPU", "MEMORY", "NET IN", "NET OUT", "UP"}
	if wide {
		for _, n := range names {
			head = append(head, strings.ToUpper(n))
		}
	} else {
		head = append(head, "FUNCTIONS")
	}
	fmt.Fprintln(tw, strings.Join(head, "\t"))
	for _, r := range list {
		cells := []string{r.Node, r.Role, r.State, orUnknown(r.CPU), orUnknown(r.Memory), orUnknown(r.NetIn), orUnknown(r.NetOut), orUnknown(r.Uptime)}
		if wide {
			for _, n := range names {
				cells = append(cells, orUnknown(r.Functions[n]))
			}
		} else {
			cells = append(cells, countStates(r.Functions))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

func orUnknown(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

func countStates(m map[string]string) string {
	if len(m) == 0 {
		return "?"
	}
	count := map[string]int{}
	for _, s := range m {
		count[s]++
	}
	var parts []string
	for _, s := range []string{"abnormal", "syncing mail", "getting ready", "running", "stopped", "not installed"} {
		if count[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

func viewServer(w io.Writer, raw json.RawMessage, _ bool) error {
	var r api.ServerRow
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range [][2]string{{"node", r.Node}, {"role", r.Role}, {"state", r.State}, {"cpu", r.CPU}, {"memory", r.Memory}, {"net in", r.NetIn}, {"net out", r.NetOut}, {"up", r.Uptime}} {
		fmt.Fprintf(tw, "%s\t%s\n", l[0], orUnknown(l[1]))
	}
	for _, n := range functionNames(r.Functions) {
		fmt.Fprintf(tw, "%s\t%s\n", n, r.Functions[n])
	}
	return tw.Flush()
}
