package packaging

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is this machine's own system booted once more beside it, with systemd as the first process
// and everything of its own: processes, network, mounts. What it writes goes to a memory disk.
type machine struct {
	t    *testing.T
	init string // process id of its systemd, as seen from here
	root string // its root directory, as seen from here
}

// bootScript prepares the namespaces that unshare has made, in the directory $1, and becomes systemd.
// Nothing of what this machine starts at boot is started, sysctl least of all: the kernel is shared.
const bootScript = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
for d in null zero full random urandom tty; do : >dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: >run/console; ln -s /run/console dev/console
rm -rf lib/systemd/system/*.target.wants etc/systemd/system/*.wants lib/systemd/system-generators etc/init.d/* etc/rc?.d
mkdir lib/systemd/system/sockets.target.wants
ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket lib/systemd/system/sockets.target.wants/
rm -f usr/sbin/policy-rc.d var/lib/man-db/auto-update # an image for containers starts nothing; indexing takes minutes
ip link set lo up
mkdir old
pivot_root . old
umount -l old
rmdir old
exec env -i container=mailplusd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
`

// boot starts the machine, or skips the test where that is not possible.
func boot(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to boot a system of its own")
	}
	for _, program := range []string{"unshare", "nsenter", "/lib/systemd/systemd", "apt-get", "pivot_root"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	group := filepath.Join(cgroups(t, dir), fmt.Sprint("mailplusd-test-", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no control group of its own: %v", err)
	}
	t.Cleanup(func() { removeGroups(t, group) })
	enter := fmt.Sprintf("echo $$ >'%s/cgroup.procs' && exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child sh -c \"$0\" sh '%s'", group, dir)
	var log bytes.Buffer
	cmd := exec.Command("sh", "-c", enter, bootScript)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended }) // the first process goes with it, and all others with that
	m := &machine{t: t}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			t.Skipf("a system of its own doesn't boot here:\n%s", log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the system has not come up:\n%s", log.String())
		}
		if m.init == "" {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
			m.init = strings.TrimSpace(string(children))
			m.root = "/proc/" + m.init + "/root"
			continue
		}
		if name, _ := os.ReadFile("/proc/" + m.init + "/comm"); string(name) != "systemd\n" {
			continue
		}
		if out, _ := m.run("systemctl", "is-system-running"); out == "running\n" || out == "degraded\n" {
			return m
		}
	}
}

// cgroups mounts the machine's control groups where systemd can have some.
func cgroups(t *testing.T, dir string) string {
	t.Helper()
	at := filepath.Join(dir, "cgroup")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("cgroup2", at, "cgroup2", 0, ""); err != nil {
		t.Skipf("no control groups here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(at, syscall.MNT_DETACH) })
	return at
}

// removeGroups removes the control groups of a machine that has ended, the deepest first.
func removeGroups(t *testing.T, group string) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var dirs []string
		filepath.Walk(group, func(p string, i os.FileInfo, err error) error {
			if err == nil && i.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			syscall.Rmdir(dirs[i])
		}
		if _, err := os.Stat(group); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s could not be removed", group)
			return
		}
	}
}

// run runs a program there and gives what it wrote.
func (m *machine) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	enter := []string{"-t", m.init, "-m", "-p", "-n", "-i", "-u", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root", "TERM=dumb"}
	out, err := exec.CommandContext(ctx, "nsenter", append(enter, args...)...).CombinedOutput()
	return string(out), err
}

// ok is a command line there that must succeed.
func (m *machine) ok(line string) string {
	m.t.Helper()
	out, err := m.run("bash", "-c", line)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\n%s", line, err, out, m.journal())
	}
	return out
}

// has is a command line whose output must contain words, whatever its exit status.
func (m *machine) has(words, line string) {
	m.t.Helper()
	if out, err := m.run("bash", "-c", line); !strings.Contains(out, words) {
		m.t.Errorf("%s: %v: %q is missing in\n%s\n%s", line, err, words, out, m.journal())
	}
}

func (m *machine) journal() string {
	out, _ := m.run("journalctl", "--no-pager", "-q", "-u", "mailplusd", "-n", "20")
	return out
}

// put copies a file there.
func (m *machine) put(from, to string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.root, to), b, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}
