package vip

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// managers are programs that move addresses between machines by their own rules, by the
// name of their process. Two of them, or one and us, would fight for the address.
var managers = map[string]string{
	"keepalived": "keepalived", "corosync": "corosync", "pacemakerd": "pacemaker", "pacemaker-contr": "pacemaker",
	"heartbeat": "heartbeat", "ucarp": "ucarp", "vrrpd": "vrrpd", "uvrrpd": "uvrrpd", "kube-vip": "kube-vip",
	"patroni-vip": "vip-manager", "vip-manager": "vip-manager", "synoha": "Synology High Availability",
}

// managerFiles are where they leave their process number.
var managerFiles = map[string]string{
	"run/keepalived.pid": "keepalived", "run/keepalived/keepalived.pid": "keepalived", "run/corosync.pid": "corosync",
	"run/corosync/corosync.pid": "corosync", "run/pacemakerd.pid": "pacemaker", "run/heartbeat.pid": "heartbeat",
}

// OtherManagers names the other high-availability managers that run on this machine, in alphabetical
// order. A pair must not be made beside one.
func OtherManagers() []string { return otherManagers("/") }

func otherManagers(root string) []string {
	var found []string
	for name := range processes(root) {
		if m, ok := managers[name]; ok {
			found = append(found, m)
		}
	}
	for path, m := range managerFiles {
		if pidAlive(root, path) {
			found = append(found, m)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// processes gives the arguments of all processes by their name (15 octets at most, as the
// kernel keeps it). Those that end meanwhile are left out.
func processes(root string) map[string][][]string {
	dirs, _ := filepath.Glob(filepath.Join(root, "proc/[0-9]*"))
	all := map[string][][]string{}
	for _, dir := range dirs {
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 { // a kernel thread
			continue
		}
		name := strings.TrimSuffix(string(comm), "\n")
		all[name] = append(all[name], strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00"))
	}
	return all
}

// pidAlive says whether the file holds the number of a process that runs.
func pidAlive(root, path string) bool {
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil || len(b) > 32 {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && pid > 0 && exists(root, "proc/"+strconv.Itoa(pid))
}
