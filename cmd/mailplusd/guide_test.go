package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/directory/ldap/adtest"
	"mailplusd/mail/directory/ldap/ldaptest"
	"mailplusd/mail/login"

	"mailplusd/mail/certs/acmetest"

	"github.com/emersion/go-imap/v2"
)

// A line of a guide that a test can't run, and why.
var guideSkips = []struct{ line, why string }{
	{"make deb", "changes the machine; packaging.TestPackage does it"}, {"make && sudo make install", "changes the machine"}, {"sudo systemd-sysusers", "takes systemd"}, {"sudo systemctl", "takes systemd"}, {"make run", "starts another daemon"}, {"MAILPLUSD_DEV_PASSWORD=", "starts another daemon"},
	{"mpctl user passwd carol ", "asks at a terminal"}, {"mpctl log follow", "goes on until Ctrl-C"}, {"mutt ", "takes a terminal"}, {"make test", "is this test"},
}

func guideSkip(line string) bool {
	for _, s := range guideSkips {
		if strings.HasPrefix(strings.TrimSpace(line), s.line) {
			return true
		}
	}
	return false
}

var shBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// runGuide runs the examples of a page, one line after the other as a user would type them; mpctl
// and sudo are what they would be on an installed system.
func runGuide(t *testing.T, d *process, page, dir string, env []string, edit func(string) string) {
	t.Helper()
	binDir := t.TempDir()
	for name, text := range map[string]string{
		"mpctl": fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", bins.mpctl),
		"sudo":  "#!/bin/sh\nexec \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(binDir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for _, m := range shBlock.FindAllStringSubmatch(read(t, page), -1) {
		for _, line := range strings.Split(strings.TrimSpace(m[1]), "\n") {
			if guideSkip(line) || strings.TrimSpace(line) == "" || strings.HasPrefix(line, "export MPCTL_SOCKET") {
				continue
			}
			if edit != nil {
				line = edit(line)
			}
			cmd := exec.Command("sh", "-ec", line)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), append([]string{"PATH=" + binDir + ":" + os.Getenv("PATH"), "MPCTL_SOCKET=" + filepath.Join(d.dir, "admin.sock")}, env...)...)
			out, err := cmd.CombinedOutput()
			if err != nil && cmd.ProcessState.ExitCode() != allowedExit(line) {
				t.Errorf("%s: %s: %v\n%s", filepath.Base(page), line, err, out)
			}
			ran++
		}
	}
	if ran == 0 {
		t.Errorf("%s has no example that runs", page)
	}
}

// allowedExit: checks of a system that is not on the Internet find something, which is not a fault of the example.
func allowedExit(line string) int {
	if strings.Contains(line, "mpctl check") {
		return 1
	}
	return 0
}

// TestGuideExamplesRun types every example of docs/guide and README.md on a fresh system.
func TestGuideExamplesRun(t *testing.T) {
	// covers: I.84
	guide := "../../docs/guide/"
	pages, err := filepath.Glob(guide + "*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no guide", err)
	}
	tested := map[string]bool{"README.md": true}
	for page, run := range guidePages {
		tested[page] = true
		t.Run(page, func(t *testing.T) {
			d := newDaemon(t)
			d.start()
			run(t, d, guide+page)
		})
	}
	for _, p := range pages {
		if !tested[filepath.Base(p)] {
			t.Errorf("%s is not run by any test; add it to guidePages", p)
		}
	}
}

// guidePages runs each page on the system that its reader has.
var guidePages = map[string]func(t *testing.T, d *process, page string){
	"accounts.md": func(t *testing.T, d *process, page string) {
		dir := fixtures(t, map[string]string{"carol.pw": "carols-long-word", "names.txt": "carol\nerin\n",
			"users.csv": "name,password,groups\nerin,long-enough-1,staff\nfrank,long-enough-2,\"staff,sales\"\n"})
		d.ok("user", "add", "dave", "--password-file", filepath.Join(dir, "carol.pw"))
		d.ok("group", "add", "sales")
		d.seats(20)
		runGuide(t, d, page, dir, nil, nil)
		d.has("erin,activate,yes", "account", "list", "-o", "csv")
	},
	"domains.md": func(t *testing.T, d *process, page string) {
		dir := fixtures(t, nil)
		d.carol(t)
		d.ok("group", "add", "staff")
		runGuide(t, d, page, dir, nil, func(line string) string {
			if strings.Contains(line, "alias:boss") { // an alias that the reader has already
				d.ok("domain", "alias", "add", "example.org", "boss", "carol")
			}
			return line
		})
		d.has("partner@elsewhere.example", "domain", "alias", "list", "example.org")
	},
	"move-server.md": func(t *testing.T, _ *process, page string) {
		d, dir := freshNode(t, "127.0.77.4"), t.TempDir()
		old := oldServer(t, dir)
		os.Remove(filepath.Join(old, "mail/ann/Maildir/new/1002.c.host")) // what would be named as failed
		os.WriteFile(filepath.Join(old, "aliases"), []byte("sales: ann, bob\n"), 0o600)
		runGuide(t, d, page, dir, nil, nil)
		d.has("sales", "domain", "alias", "list", "example.com")
	},
	"move-exchange.md": func(t *testing.T, _ *process, page string) {
		d := freshNode(t, "127.0.77.9")
		dir := fixtures(t, map[string]string{"pw": "long-enough-1"})
		for _, name := range []string{"SynologyExportedExchangeConf.xml", "SynologyExportedAlias.txt"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, exchangeTestdata+name)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		runGuide(t, d, page, dir, nil, nil)
		d.has("partner@elsewhere.example", "domain", "alias", "show", "example.com", "staff")
	},
	"sign-mail.md": func(t *testing.T, d *process, page string) {
		pem, err := exec.Command("openssl", "genrsa", "2048").Output()
		if err != nil {
			t.Skip("openssl is not installed")
		}
		d.ok("config", "set", "network.resolvers="+resolver(t, "example.test. 60 IN MX 0 mail.example.test.\n"))
		runGuide(t, d, page, fixtures(t, map[string]string{"old-server.pem": string(pem)}), nil, nil)
		for _, r := range d.dkim("example.test") {
			if want := map[string]string{"old": "signs", "ed": "signs", "2026b": "old"}[r.Selector]; r.State != want {
				t.Errorf("at the end: %+v, want %q", r, want)
			}
		}
	},
	"policies.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		runGuide(t, d, page, t.TempDir(), nil, nil)
		d.wantsOrder("owner default")
	},
	"limits.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		runGuide(t, d, page, t.TempDir(), nil, nil)
		if got := d.decided("daily-count", "carol"); got != "5000 by policy newsletter" {
			t.Errorf("at the end: %s", got)
		}
	},
	"ldap.md": func(t *testing.T, d *process, page string) {
		s := ldaptest.Start(t, []string{"anna", "ben"}, ldaptest.Group("mailadmins", ldaptest.DN("ben")))
		dir := fixtures(t, map[string]string{"ca.pem": s.CA, "ldap.pw": ldaptest.Password, "anna.pw": ldaptest.Password})
		runGuide(t, d, page, dir, nil, func(line string) string {
			return strings.NewReplacer("ldap://ldap.example.com", s.URI, "dc=example,dc=com", ldaptest.Base).Replace(line)
		})
		d.has("local", "account", "source", "show", "--filter", "in_force=yes")
	},
	"active-directory.md": func(t *testing.T, d *process, page string) {
		dc := adtest.Start(t)
		dc.Add("anna", nil)
		dc.Group("mail users", adtest.DN("anna"))
		dc.Group("mail admins", adtest.DN("anna"))
		d.ok("config", "set", "network.resolvers="+resolver(t, dc.Zone()))
		dir := fixtures(t, map[string]string{"ca.pem": dc.CA, "ad.pw": adtest.Password, "anna.pw": adtest.Password})
		runGuide(t, d, page, dir, nil, func(line string) string {
			return strings.NewReplacer("ad.example.com", adtest.Realm, "OU=People,DC=ad,DC=example,DC=com", "CN=Users,"+adtest.Base).Replace(line)
		})
		d.has("local", "account", "source", "show", "--filter", "in_force=yes")
	},
	"two-factor.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		key, cert := selfSigned(t)
		dir := fixtures(t, map[string]string{"server.pem": cert, "server.key": key, "carol.pw": "carols-long-word"})
		d.ok("cert", "import", "main", "--cert", dir+"/server.pem", "--key-file", dir+"/server.key", "--default", "on")
		runGuide(t, d, page, dir, nil, d.authenticator(t, dir))
	},
	"search.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		runGuide(t, d, page, fixtures(t, nil), nil, nil)
	},
	"give-mail-back.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		d.seats(5)
		d.ok("mailbox", "import", "carol", "--from", d.file("one.eml", "Subject: lost\n\nx\n"))
		im := d.imapAs("carol", "carols-long-word")
		if _, err := im.Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := im.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
			t.Fatal(err)
		}
		if err := im.Expunge().Close(); err != nil {
			t.Fatal(err)
		}
		runGuide(t, d, page, t.TempDir(), nil, nil)
		if d.field("carol", "INBOX", "messages") != 1.0 {
			t.Error("the guide did not bring the message back")
		}
	},
	"move-mailboxes.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		d.ok("user", "add", "dave", "--password-file", filepath.Join(filepath.Dir(d.dir), "carol.pw"))
		d.ok("mailbox", "import", "carol", "--from", d.file("one.eml", "Subject: one\n\nx\n"))
		runGuide(t, d, page, t.TempDir(), nil, nil)
		if d.field("dave", "INBOX", "messages") != 1.0 || d.field("dave", "Archive/Carol", "messages") != 1.0 {
			t.Errorf("%s", d.ok("mailbox", "list", "dave"))
		}
	},
	"queue.md": func(t *testing.T, d *process, page string) {
		d.ok("config", "set", "network.resolvers=127.0.0.1:1") // nobody there: mail stays
		d.ok("mail", "send", "--from", "alice@example.test", "--to", "x@elsewhere.example")
		id := strings.TrimSpace(d.ok("queue", "list", "-o", "name"))
		runGuide(t, d, page, t.TempDir(), nil, func(line string) string { return regexp.MustCompile(`\b17\b`).ReplaceAllString(line, id) })
		if left := d.ok("queue", "list", "-o", "name"); left != "" {
			t.Errorf("still queued: %s", left)
		}
	},
	"smarthost.md": func(t *testing.T, d *process, page string) {
		runGuide(t, d, page, fixtures(t, map[string]string{"relay.pw": "s3cret"}), nil, nil)
		d.has("direct", "relay", "show")
	},
	"forwarding.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		key, cert := selfSigned(t)
		dir := fixtures(t, map[string]string{"c.pem": cert, "c.key": key, "away.txt": "I am away until January.\n", "message.eml": "To: carol@example.test\r\nSubject: x\r\n\r\nx\r\n"})
		d.ok("cert", "import", "main", "--cert", dir+"/c.pem", "--key-file", dir+"/c.key", "--default", "on")
		d.ok("token", "add", "carol", "--user", "carol", "--cert", dir+"/c.pem")
		runGuide(t, d, page, dir, nil, func(line string) string { // carol types what begins with mpctl me
			return strings.Replace(line, "mpctl me ", fmt.Sprintf("mpctl --server %s --ca c.pem --client-cert c.pem --client-key c.key me ", d.port(2825)), 1)
		})
		d.has("on", "config", "get", "delivery.srs")
	},
	"backup-mx.md": func(t *testing.T, d *process, page string) {
		runGuide(t, d, page, fixtures(t, nil), nil, nil)
	},
	"demo-pair.md": func(t *testing.T, _ *process, _ string) {
		// covers: R11.02 R11.03 R11.05 R11.08 R11.11 R11.12 R11.56 R11.58 R11.59
		cmd := exec.Command("go", "run", "../../packaging/demopair", "-bin", filepath.Dir(bins.mailplusd), "-data", filepath.Join(t.TempDir(), "demo"))
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || !strings.Contains(lines[len(lines)-1], " 0 lost, 0 twice") {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(lines[len(lines)-1])
	},
	"proxy.md": func(t *testing.T, d *process, page string) {
		runGuide(t, d, page, t.TempDir(), nil, nil)
		d.has("10.8.0.6/32", "net", "xclient", "show")
	},
	"troubleshooting.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		runGuide(t, d, page, fixtures(t, map[string]string{"message.eml": "Subject: x\r\n\r\nx\r\n"}), nil, nil)
	},
	"certificates.md": func(t *testing.T, d *process, page string) {
		key, cert := selfSigned(t)
		d.acme(t, acmetest.Options{})
		runGuide(t, d, page, fixtures(t, map[string]string{"fullchain.pem": cert, "privkey.pem": key, "tsig.key": "c2VjcmV0"}), nil, nil)
	},
	"tls.md": func(t *testing.T, d *process, page string) {
		ca := newTestCA(t)
		runGuide(t, d, page, fixtures(t, map[string]string{"ca.pem": ca.pem}), nil, func(line string) string {
			return strings.Replace(line, "autoconfig set", fmt.Sprintf("autoconfig set --port %d --http-port %d", 2443+d.offset, 2480+d.offset), 1)
		})
	},
	"clients.md": func(t *testing.T, d *process, page string) {
		d.carol(t)
		key, cert := selfSigned(t)
		dir := fixtures(t, map[string]string{"c.pem": cert, "c.key": key})
		d.ok("cert", "import", "main", "--cert", dir+"/c.pem", "--key-file", dir+"/c.key", "--default", "on")
		d.ok("token", "add", "carol", "--user", "carol", "--cert", dir+"/c.pem")
		runGuide(t, d, page, dir, nil, func(line string) string {
			return strings.Replace(line, "mpctl ", fmt.Sprintf("mpctl --server %s --ca c.pem --client-cert c.pem --client-key c.key ", d.port(2825)), 1)
		})
	},
	"remote.md": func(t *testing.T, d *process, page string) {
		need(t, "openssl")
		key, cert := selfSigned(t)
		dir := fixtures(t, map[string]string{"server.pem": cert, "server.key": key})
		d.ok("cert", "import", "main", "--cert", dir+"/server.pem", "--key-file", dir+"/server.key", "--default", "on")
		runGuide(t, d, page, dir, []string{"XDG_CONFIG_HOME=" + dir}, func(line string) string { return strings.ReplaceAll(line, "127.0.0.1:2825", d.port(2825)) })
		d.has("backup", "token", "list")
	},
	"pair.md": func(t *testing.T, _ *process, page string) {
		l := newLAN(t)
		a, b := l.node("node1", 2), l.node("node2", 3)
		a.run()
		b.run()
		a.setUp()
		runGuide(t, a.process, page, l.dir, nil, l.guideLine(b))
		a.has(l.prefix+"11/16", "ha", "show")
	},
	"replace-node.md": func(t *testing.T, _ *process, page string) {
		l := newLAN(t)
		a, b, fresh := l.node("node1", 2), l.node("node2", 3), l.node("node3", 4)
		a.run()
		b.run()
		fresh.run()
		a.setUp()
		a.create(b)
		a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
		b.is("pair")
		a.kill()
		b.is("solo-secondary")
		runGuide(t, b.process, page, l.dir, nil, l.guideLine(fresh))
		b.has("node3", "ha", "show")
	},
	"failures.md": func(t *testing.T, d *process, page string) { runGuide(t, d, page, t.TempDir(), nil, nil) },
	"install.md": func(t *testing.T, d *process, page string) {
		for _, p := range []string{"25", "465", "587", "143", "993"} {
			l, err := net.Listen("tcp", "127.0.0.1:"+p)
			if err != nil {
				t.Skipf("the real ports are needed: %v", err)
			}
			l.Close()
		}
		fresh := &process{t: t, dir: filepath.Join(t.TempDir(), "data"), offset: freeOffset(t)}
		fresh.cmd = exec.Command(bins.mailplusd, "serve", "--data", fresh.dir, "--name", "n1", "--bind", "127.0.0.1", "--link", "none", "--admin-socket", filepath.Join(fresh.dir, "admin.sock"))
		fresh.cmd.Stdout, fresh.cmd.Stderr = &fresh.log, &fresh.log
		if err := fresh.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fresh.exited = make(chan error, 1)
		go func() { fresh.exited <- fresh.cmd.Wait() }()
		t.Cleanup(fresh.stop)
		runGuide(t, fresh, page, fixtures(t, map[string]string{"anna.pw": "annas-long-word"}), nil, nil)
		fresh.has("mail.example.com", "setup", "show")
	},
}

// authenticator is the app and the desk drawer of the reader of two-factor.md: it learns the secret and
// the recovery codes from what is printed, and has the next code ready.
func (d *process) authenticator(t *testing.T, dir string) func(string) string {
	var secret string
	var recovery []string
	code := func(name string, after time.Duration) {
		c, err := login.CodeAt(secret, time.Now().Add(after))
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, name), []byte(c), 0o600)
	}
	return func(line string) string {
		out, _ := os.ReadFile(filepath.Join(dir, "out"))
		if m := regexp.MustCompile(`(?m)^secret: (\w+)$`).FindSubmatch(out); m != nil {
			secret = string(m[1])
		}
		if list := regexp.MustCompile(`\b[a-z2-7]{4}(-[a-z2-7]{4}){3}\b`).FindAllString(string(out), -1); list != nil {
			recovery = list
			for i := range 2 {
				os.WriteFile(filepath.Join(dir, fmt.Sprint("recovery-", i+1)), []byte(recovery[i]), 0o600)
			}
		}
		switch {
		case strings.Contains(line, "2fa confirm"):
			code("code", 0)
		case strings.Contains(line, "next-code"):
			code("next-code", 30*time.Second)
		}
		line = strings.ReplaceAll(line, "127.0.0.1:2825", d.port(2825))
		if strings.Contains(line, "2fa enable") || strings.Contains(line, "2fa confirm") {
			line += " > out"
		}
		return line
	}
}

// TestReadmeTour types the five-minute tour.
func TestReadmeTour(t *testing.T) {
	need(t, "swaks")
	d := newDaemon(t)
	d.start()
	runGuide(t, d, "../../README.md", t.TempDir(), nil, func(line string) string {
		line = strings.ReplaceAll(line, "bin/mpctl", "mpctl")
		return strings.ReplaceAll(line, "127.0.0.1:2525", d.port(2525))
	})
	d.has("hello", "log", "mail", "list")
	d.has("carol", "account", "list")
}

func fixtures(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// carol is a user with mail, whom the guides talk about.
func (d *process) carol(t *testing.T) {
	t.Helper()
	d.ok("user", "add", "carol", "--password-file", d.file("carol.pw", "carols-long-word"))
	d.ok("account", "activate", "carol")
}

// seats installs a key for so many more accounts.
func (d *process) seats(n int) {
	d.t.Helper()
	key := strings.TrimSpace(d.ok("license", "issue", "--quantity", fmt.Sprint(n)))
	d.ok("license", "add", key, "--accept-terms")
}
