package server

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Load is what a node uses of its machine (R10.40–R10.42).
type Load struct {
	CPU       float64 `json:"cpu"`        // of all processors, in percent, since the last reading
	Memory    float64 `json:"memory"`     // in use on the machine, in percent
	Resident  int64   `json:"resident"`   // octets of this process
	NetIn     float64 `json:"net_in"`     // octets a second, loopback excepted, since the last reading
	NetOut    float64 `json:"net_out"`    //
	Load1     float64 `json:"load1"`      // load average of a minute
	Cores     int     `json:"cores"`      //
	UptimeSec int64   `json:"uptime_sec"` // of the machine
}

// meter keeps the last reading.
var meter struct {
	sync.Mutex
	at         time.Time
	busy, all  uint64
	in, out    uint64
	last       Load
	everBefore bool
}

// ReadLoad reads /proc, at most once a second: rates are those since the reading before.
func ReadLoad() Load {
	meter.Lock()
	defer meter.Unlock()
	now := time.Now()
	took := now.Sub(meter.at)
	if meter.everBefore && took < time.Second {
		return meter.last
	}
	busy, all := cpuTimes()
	in, out := netOctets()
	l := Load{Cores: runtime.NumCPU()}
	if meter.everBefore && took > 0 {
		if d := all - meter.all; d > 0 && all > meter.all {
			l.CPU = 100 * float64(busy-meter.busy) / float64(d)
		}
		l.NetIn = float64(in-min(in, meter.in)) / took.Seconds()
		l.NetOut = float64(out-min(out, meter.out)) / took.Seconds()
	}
	mem := fields("/proc/meminfo")
	if total := mem["MemTotal"]; total > 0 {
		l.Memory = 100 * float64(total-mem["MemAvailable"]) / float64(total)
	}
	l.Resident = int64(fields("/proc/self/status")["VmRSS"]) << 10
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		l.Load1, _ = strconv.ParseFloat(strings.Fields(string(b) + " 0")[0], 64)
	}
	if b, err := os.ReadFile("/proc/uptime"); err == nil {
		up, _ := strconv.ParseFloat(strings.Fields(string(b) + " 0")[0], 64)
		l.UptimeSec = int64(up)
	}
	meter.at, meter.busy, meter.all, meter.in, meter.out, meter.last, meter.everBefore = now, busy, all, in, out, l, true
	return l
}

// cpuTimes gives the ticks in which the processors worked, and all ticks.
func cpuTimes() (busy, all uint64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		v, err := strconv.ParseUint(f, 10, 64)
		if err != nil || i > 8 { // guest time is in user time already
			continue
		}
		all += v
		if i != 4 && i != 5 { // idle, waiting for a disk
			busy += v
		}
	}
	return busy, all
}

func netOctets() (in, out uint64) {
	f, err := os.Open("/proc/self/net/dev")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, rest, ok := strings.Cut(sc.Text(), ":")
		if !ok || strings.TrimSpace(name) == "lo" {
			continue
		}
		if n := strings.Fields(rest); len(n) > 8 {
			r, _ := strconv.ParseUint(n[0], 10, 64)
			t, _ := strconv.ParseUint(n[8], 10, 64)
			in, out = in+r, out+t
		}
	}
	return in, out
}

// fields reads "Name: number unit" lines of a file of /proc.
func fields(path string) map[string]uint64 {
	out := map[string]uint64{}
	b, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		if f := strings.Fields(rest); ok && len(f) > 0 {
			if v, err := strconv.ParseUint(f[0], 10, 64); err == nil {
				out[name] = v
			}
		}
	}
	return out
}
