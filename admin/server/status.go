package server

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"golang.org/x/sys/unix"
)

func (s *Server) version(context.Context, *Call, *op.None) (api.VersionOut, error) {
	return api.VersionOut{Version: model.Version, Baseline: model.Baseline, Node: s.node}, nil
}

func (s *Server) status(context.Context, *Call, *op.None) (api.StatusOut, error) {
	set := s.mail.State.Current()
	cs := s.cluster.Status()
	st := s.mail.Bodies.Stats()
	out := api.StatusOut{
		Node: s.node, Hostname: set.System.Hostname, Domain: set.System.Domain, SetUp: set.System.SetUp != 0, Leader: cs.Leader,
		Uptime: time.Since(s.started).Round(time.Second).String(), Applied: s.mail.State.Applied(), Bodies: st.Bodies, Bytes: st.Bytes,
		Memory: resident(), Alerts: []string{}, Services: s.listeners(set),
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	out.Seats, out.SeatsUsed = pic.Seats, pic.Used
	if out.Queue, err = s.queueLength(); err != nil {
		return out, err
	}
	var fs unix.Statfs_t
	if unix.Statfs(s.data, &fs) == nil {
		out.Free = int64(fs.Bavail) * fs.Bsize
		if total := int64(fs.Blocks) * fs.Bsize; out.Free < total/20 {
			out.Alerts = append(out.Alerts, fmt.Sprintf("only %d MB are free on the disk of %s", out.Free>>20, s.data))
		}
	}
	if s.mail.Store.Short() {
		out.Alerts = append(out.Alerts, "little space is left on the disk of "+s.data+": new mail is refused until there is more")
	}
	for _, l := range out.Services {
		if l.Error != "" {
			out.Alerts = append(out.Alerts, l.Name+": "+l.Error)
		}
	}
	if !out.SetUp {
		out.Alerts = append(out.Alerts, "not set up yet: mpctl setup new --domain example.com")
	}
	if pic.Used > pic.Seats || pic.Wanting > 0 {
		out.Alerts = append(out.Alerts, fmt.Sprintf("%d seats are missing: mpctl license add KEY --accept-terms", pic.Used-pic.Seats+pic.Wanting))
	}
	out.Alerts = append(out.Alerts, s.unsigned()...)
	if set.System.Source != model.SourceLocal {
		if d, err := state.DirectoryStates.Get(s.mail.State, set.System.Source); err == nil && d.Error != "" {
			out.Alerts = append(out.Alerts, "the directory of the accounts was not synchronised since "+stamp(d.Done)+" ("+directoryCommand(set.System.Source)+" show): "+d.Error)
		}
	}
	if cs.Leader == "" {
		out.Alerts = append(out.Alerts, "no leader: nothing can be stored")
	}
	warnings, err := s.mail.Certs.Warnings()
	if err != nil {
		return out, err
	}
	for _, w := range warnings {
		out.Alerts = append(out.Alerts, fmt.Sprintf("certificate %s %s (%s)", w.Name, w.Text, w.Remedy))
	}
	if s.ha != nil {
		if v := s.haView(s.ha); v.Alarm != "" { // R11.60
			out.Alerts = append(out.Alerts, v.Alarm+" (mpctl ha show)")
		}
	}
	out.Healthy = len(out.Alerts) == 0
	return out, nil
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				return n * int64(os.Getpagesize())
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}
