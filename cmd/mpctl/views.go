package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"mailplusd/admin/api"
)

// views are the screens that are drawn instead of the generic table.
var views = map[string]func(w io.Writer, raw json.RawMessage, wide bool) error{
	"status":       viewStatus,
	"account list": viewAccounts,

	"ha show": viewPair, "ha create": viewPair, "ha set": viewPair, "ha switchover": viewPair, "ha remove": viewPair, "ha recover": viewPair, "ha wait": viewPair, "ha witness remove": viewPair,
	"ha precheck": viewFindings, "server list": viewServers, "server show": viewServer,

	"import exchange": viewExchange, "setup from-exchange": viewExchange,

	"check all": viewFindings, "check network": viewFindings, "check dns": viewFindings, "check rdns": viewFindings, "check time": viewFindings, "check blocklist": viewFindings, "check ports": viewFindings,
	"check services": viewFindings, "check certs": viewFindings, "check config": viewFindings, "check login": viewFindings, "directory ldap test": viewFindings, "directory ad test": viewFindings,
}

// viewFindings writes a finding on a line and what to do about it, whole, on the next.
func viewFindings(w io.Writer, raw json.RawMessage, _ bool) error {
	var list []api.Finding
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	for _, f := range list {
		subject := f.Check
		if f.Subject != "" {
			subject += " " + f.Subject
		}
		fmt.Fprintf(w, "%-8s %s: %s\n", f.Level, subject, f.Message)
		if f.Remedy != "" && f.Level != "ok" {
			fmt.Fprintf(w, "         → %s\n", f.Remedy)
		}
	}
	return nil
}

func viewStatus(w io.Writer, raw json.RawMessage, _ bool) error {
	var s api.StatusOut
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	health := "healthy"
	if !s.Healthy {
		health = "needs attention"
	}
	fmt.Fprintf(w, "%s: %s, up %s\n", strings.TrimPrefix(s.Hostname+" on node "+s.Node, " on "), health, s.Uptime)
	for _, a := range s.Alerts {
		fmt.Fprintln(w, "  !", a)
	}
	fmt.Fprintf(w, "accounts  %d of %d seats used\n", s.SeatsUsed, s.Seats)
	fmt.Fprintf(w, "queue     %d messages\n", s.Queue)
	fmt.Fprintf(w, "storage   %d bodies in %s, %s free\n", s.Bodies, size(s.Bytes), size(s.Free))
	fmt.Fprintf(w, "memory    %s\n", size(s.Memory))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range s.Services {
		if l.Enabled {
			at := l.Address
			if at == "" {
				at = "NOT LISTENING"
			}
			fmt.Fprintf(tw, "%s\t%s\t%d connections\n", l.Name, at, l.Conns)
		}
	}
	return tw.Flush()
}

func viewAccounts(w io.Writer, raw json.RawMessage, wide bool) error {
	var l api.AccountList
	if err := json.Unmarshal(raw, &l); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tSETTING\tACTIVATED\tDECIDED BY\tSTATUS\tCAN USE MAIL"+map[bool]string{true: "\tADDRESS"}[wide])
	yes := map[bool]string{true: "yes", false: "no"}
	for _, a := range l.Accounts {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s", a.Name, a.Setting, yes[a.Activated], a.By, a.Status, yes[a.CanUse])
		if wide {
			fmt.Fprint(tw, "\t", a.Address)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "seats: %d, used: %d, unused: %d\n", l.Seats, l.Used, l.Unused)
	return nil
}

func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[i]
}
