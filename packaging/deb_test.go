package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// build makes a package as `make deb` does, or gives the one that MAILPLUSD_DEB names.
func build(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("MAILPLUSD_DEB"); file != "" {
		return file
	}
	if testing.Short() {
		t.Skip("builds the programs anew")
	}
	for _, program := range []string{"dpkg-deb", "make"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command("packaging/deb.sh", "1.0", dir)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "DPKG_DEB_COMPRESSOR_TYPE=none") // that takes longer than all else
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "mailplusd_1.0_*.deb"))
	if len(files) != 1 {
		t.Fatalf("packages: %v", files)
	}
	return files[0]
}

// newer makes the same package with a higher version and, perhaps, another configuration.
func newer(t *testing.T, deb, version string) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("dpkg-deb", "-R", deb, dir+"/x")
	run("sed", "-i", "s/^Version: .*/Version: "+version+"/", dir+"/x/DEBIAN/control")
	out := filepath.Join(dir, "mailplusd_"+version+".deb")
	run("dpkg-deb", "-Znone", "--root-owner-group", "-b", dir+"/x", out)
	return out
}

// TestPackage installs the package on a system of its own, runs the service under systemd with all
// that its unit forbids, upgrades, removes and purges it.
func TestPackage(t *testing.T) {
	deb := build(t)
	t.Run("content", func(t *testing.T) { content(t, deb) })
	next := newer(t, deb, "2.0")
	m := boot(t)
	m.put(deb, "/tmp/mailplusd_1.0.deb")
	m.put(next, "/tmp/mailplusd_2.0.deb")
	m.ok("cd /tmp && apt-get -y --no-install-recommends install ./mailplusd_1.0.deb")
	m.ok("systemctl is-active mailplusd && systemctl is-enabled mailplusd")

	t.Run("files", m.sub(files))
	t.Run("unit", m.sub(unit))
	t.Run("set-up", m.sub(setUp))
	if t.Failed() {
		return
	}
	t.Run("upgrade", m.sub(upgrade))
	t.Run("remove", m.sub(remove))
}

func (m *machine) sub(f func(*machine)) func(*testing.T) {
	return func(t *testing.T) { n := *m; n.t = t; f(&n) }
}

// content looks at the package from outside.
func content(t *testing.T, deb string) {
	out, err := exec.Command("dpkg-deb", "-c", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	list := string(out)
	for _, want := range []string{
		`drwxr-xr-x root/root .* \./$`, `-rwxr-xr-x root/root .* \./usr/sbin/mailplusd$`, `-rwxr-xr-x root/root .* \./usr/bin/mpctl$`,
		`-rw-r--r-- root/root .* \./etc/mailplusd/mailplusd\.yaml$`, `-rw-r--r-- root/root .* \./lib/systemd/system/mailplusd\.service$`,
		`-rw-r--r-- root/root .* \./usr/share/man/man8/mailplusd\.8\.gz$`, `-rw-r--r-- root/root .* \./usr/share/man/man1/mpctl-user-add\.1\.gz$`,
		`-rw-r--r-- root/root .* \./usr/share/bash-completion/completions/mpctl$`, `-rw-r--r-- root/root .* \./usr/share/doc/mailplusd/copyright$`,
	} {
		if !regexp.MustCompile(`(?m)^` + want).MatchString(list) {
			t.Errorf("no line %s in\n%s", want, regexp.MustCompile(`(?m)^.*man1.*\n`).ReplaceAllString(list, ""))
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		if mode := line[:10]; !strings.Contains(line, " root/root ") || mode[5] == 'w' || mode[8] == 'w' || strings.Contains(mode, "s") {
			t.Errorf("an owner or a mode to wonder at: %s", line)
		}
	}
}

// files looks at what is there once it is installed.
func files(m *machine) {
	for path, want := range map[string]string{
		"/usr/sbin/mailplusd": "755 root root", "/usr/bin/mpctl": "755 root root", "/etc/mailplusd/mailplusd.yaml": "644 root root",
		"/var/lib/mailplusd": "700 mailplus mailplus", "/run/mailplusd": "755 mailplus mailplus", "/run/mailplusd/admin.sock": "666 mailplus mailplus", // who calls is asked of the kernel
	} {
		if got := m.ok("stat -c '%a %U %G' " + path); strings.TrimSpace(got) != want {
			m.t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	m.has("/usr/sbin/nologin", "getent passwd mailplus")
	m.has("not a dynamic executable", "ldd /usr/sbin/mailplusd; ldd /usr/bin/mpctl")
	m.has("/usr/share/man/man8/mailplusd.8.gz", "man -w mailplusd")
	m.has("mpctl-user-add.1.gz", "man -w mpctl-user-add")
	m.has("mpctl", "bash -ec 'f=/usr/share/bash-completion/completions/mpctl; bash -n $f; . $f; complete -p mpctl'")
	// The unit made by systemd-sysusers is the same user, so that both ways of installing meet.
	m.ok("systemd-sysusers && test $(getent passwd mailplus | wc -l) = 1")
	out, err := m.run("dpkg", "--verify", "mailplusd")
	if err != nil || out != "" {
		m.t.Errorf("dpkg --verify: %v\n%s", err, out)
	}
}

// unit lets systemd judge the unit, and looks at what the running process may do.
func unit(m *machine) {
	if out := m.ok("systemd-analyze verify mailplusd.service 2>&1"); out != "" {
		m.t.Errorf("systemd-analyze verify:\n%s", out)
	}
	// The floating address wants CAP_NET_ADMIN and CAP_NET_RAW, which cost a point.
	if out, err := m.run("systemd-analyze", "security", "--threshold=30", "mailplusd.service"); err != nil {
		m.t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	status := m.ok("cat /proc/$(systemctl show -P MainPID mailplusd)/status")
	for _, want := range []string{`NoNewPrivs:\s1`, `Seccomp:\s2`, `CapEff:\s0000000000000400`, `CapPrm:\s0000000000000400`} {
		if !regexp.MustCompile(want).MatchString(status) { // 0x400: CAP_NET_BIND_SERVICE alone
			m.t.Errorf("the daemon's process has not %s:\n%s", want, status)
		}
	}
	m.has("Read-only", "nsenter -t $(systemctl show -P MainPID mailplusd) -m touch /etc/x 2>&1")
}

// setUp is docs/guide/install.md, and a first message.
func setUp(m *machine) {
	m.has("set up          no", "mpctl setup show")
	m.ok("umask 077; echo annas-long-word >/root/anna.pw")
	const setup = "mpctl setup new --domain example.com --hostname mail.example.com --admin anna --password-file /root/anna.pw "
	m.ok(setup + "--dry-run")
	m.ok(setup + "--yes")
	m.has("administrator   anna", "mpctl setup show")
	m.ok("mpctl service imap set --enable on --tls on --yes")
	m.ok("mpctl user add ben --password-file /root/anna.pw && mpctl account activate ben")
	for port, greeting := range map[string]string{"25": "220 mail.example.com", "587": "220 mail.example.com", "143": "* OK"} {
		m.has(greeting, "exec 3<>/dev/tcp/127.0.0.1/"+port+" && head -1 <&3")
	}
	m.ok("mpctl mail send --to ben@example.com --subject one --text one")
	m.has("INBOX,Inbox,1,", "mpctl mailbox list ben --filter name=INBOX -o csv")
	m.ok("mpctl status")

	// Who may use mpctl here: root and the group, nobody else.
	m.has("root and the group mailplus may\ntry:   sudo mpctl status\nexit 4", "setpriv --reuid nobody --regid nogroup --clear-groups mpctl status 2>&1; echo exit $?")
	m.ok("adduser --quiet --system --ingroup nogroup helper && adduser --quiet helper mailplus")
	m.ok("setpriv --reuid helper --regid nogroup --init-groups mpctl status")
	m.has("done", "mpctl completion bash >/dev/null && echo done")
	m.has("ben", "mpctl __complete user show '' 2>/dev/null")
}

// upgrade brings a newer package over a changed configuration and with mail there.
func upgrade(m *machine) {
	m.ok("printf 'log-format: json\\n' >/tmp/add; sed -i '/^log-format/d' /etc/mailplusd/mailplusd.yaml && cat /tmp/add >>/etc/mailplusd/mailplusd.yaml")
	before := m.ok("systemctl show -P MainPID mailplusd")
	m.ok("cd /tmp && apt-get -y install ./mailplusd_2.0.deb")
	m.has("2.0", "dpkg-query -W -f '${Version}' mailplusd")
	m.ok("systemctl is-active mailplusd")
	if after := m.ok("systemctl show -P MainPID mailplusd"); after == before {
		m.t.Error("the old process goes on after an upgrade")
	}
	m.has("log-format: json", "cat /etc/mailplusd/mailplusd.yaml")
	m.has(`"msg":"ready"`, "journalctl -q --no-pager -u mailplusd -o cat")
	m.wait("mpctl status")
	m.has("ben", "mpctl account list")
	// An administrator's "disable" is kept.
	m.ok("systemctl disable mailplusd && apt-get -y --allow-downgrades install /tmp/mailplusd_1.0.deb")
	m.has("disabled", "systemctl is-enabled mailplusd")
	m.ok("systemctl enable mailplusd")
	m.wait("mpctl status")
}

// remove keeps mail and configuration; purge keeps the mail, and says so.
func remove(m *machine) {
	m.ok("apt-get -y remove mailplusd")
	m.has("inactive", "systemctl is-active mailplusd")
	m.has("Result=success", "systemctl show -p Result mailplusd")
	m.ok("test ! -e /usr/sbin/mailplusd && test ! -e /run/mailplusd && test -e /etc/mailplusd/mailplusd.yaml && test -d /var/lib/mailplusd/bodies")
	m.ok("apt-get -y install /tmp/mailplusd_2.0.deb && systemctl is-active mailplusd")
	m.has("log-format: json", "cat /etc/mailplusd/mailplusd.yaml")
	m.wait("mpctl status")
	m.has("ben", "mpctl account list")
	m.has("rm -r /var/lib/mailplusd", "apt-get -y purge mailplusd 2>&1")
	m.ok("test ! -e /etc/mailplusd && test -d /var/lib/mailplusd/bodies && getent passwd mailplus")
	m.ok("apt-get -y install /tmp/mailplusd_1.0.deb && systemctl is-active mailplusd && systemctl is-enabled mailplusd")
	m.wait("mpctl status")
	m.has("ben", "mpctl account list")
}

// wait repeats a command line there until it succeeds.
func (m *machine) wait(line string) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := m.run("bash", "-c", line)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: %v\n%s\n%s", line, err, out, m.journal())
		}
	}
}

// TestMakeInstall: the files go where DESTDIR and PREFIX say, and a configuration that is there stays.
func TestMakeInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs anew")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "etc/mailplusd/mailplusd.yaml")
	os.MkdirAll(filepath.Dir(conf), 0o755)
	os.WriteFile(conf, []byte("name: mine\n"), 0o644)
	cmd := exec.Command("make", "install", "BIN="+t.TempDir(), "DESTDIR="+dir, "PREFIX=/opt/mail")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, mode := range map[string]os.FileMode{
		"opt/mail/sbin/mailplusd": 0o755, "opt/mail/bin/mpctl": 0o755, "opt/mail/share/man/man1/mpctl.1": 0o644, "opt/mail/share/man/man8/mailplusd.8": 0o644,
		"opt/mail/share/bash-completion/completions/mpctl": 0o644, "lib/systemd/system/mailplusd.service": 0o644, "usr/lib/sysusers.d/mailplusd.conf": 0o644,
	} {
		if i, err := os.Stat(filepath.Join(dir, path)); err != nil || i.Mode() != mode {
			t.Errorf("%s: %v, %v", path, i, err)
		}
	}
	unit, _ := os.ReadFile(filepath.Join(dir, "lib/systemd/system/mailplusd.service"))
	if !strings.Contains(string(unit), "ExecStart=/opt/mail/sbin/mailplusd serve") || strings.Contains(string(unit), "@PREFIX@") {
		t.Errorf("the unit:\n%s", unit)
	}
	if b, _ := os.ReadFile(conf); string(b) != "name: mine\n" {
		t.Errorf("the configuration is now %q", b)
	}
	out, err := exec.Command(filepath.Join(dir, "opt/mail/bin/mpctl"), "version", "--help").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
