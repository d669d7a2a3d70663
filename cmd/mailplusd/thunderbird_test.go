package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// thunderbirdPrefs make a Thunderbird that asks nobody else than this machine and no user.
const thunderbirdPrefs = `user_pref("network.dns.localDomains", "example.test,autoconfig.example.test,mail.example.test");
user_pref("network.proxy.type", 0);
user_pref("network.manage-offline-status", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.winsearch.firstRunDone", true);
user_pref("mail.rights.version", 1);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("app.update.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("marionette.port", 2828);
`

// setUpAccount finds the settings of an address as the account wizard does, and makes the account.
const setUpAccount = `
const [email, password, done] = arguments;
(async () => {
  // The certificate is the server's own, as it is before an administrator brings another one.
  Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService).setDisableAllSecurityChecksAndLetAttackersInterceptMyData(true);
  const at = "resource:///modules/accountcreation/";
  const { FetchConfig } = ChromeUtils.importESModule(at + "FetchConfig.sys.mjs");
  const { AccountConfig } = ChromeUtils.importESModule(at + "AccountConfig.sys.mjs");
  const { CreateInBackend } = ChromeUtils.importESModule(at + "CreateInBackend.sys.mjs");
  const config = await FetchConfig.fromISP(email.split("@")[1], email, new AbortController().signal);
  AccountConfig.replaceVariables(config, "Bob", email, password);
  config.rememberPassword = true;
  const account = await CreateInBackend.createAccountInBackend(config);
  const s = account.incomingServer;
  s.password = password;
  return { type: s.type, host: config.incoming.hostname, port: s.port, user: s.username, outgoing: config.outgoing.hostname + ":" + config.outgoing.port };
})().then(v => done(v), e => done({ error: String(e) + " " + (e.errors || []) + "\n" + e.stack }));
`

// syncFolders asks for mail, waits until INBOX has as many messages as are told, and lists all folders.
const syncFolders = `
const [want, done] = arguments;
(async () => {
  const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
  const server = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s.type == "imap");
  const root = server.rootFolder;
  const pause = ms => new Promise(r => { const t = Cc["@mozilla.org/timer;1"].createInstance(Ci.nsITimer); t.initWithCallback(() => r(t), ms, 0); });
  server.performExpand(null);
  for (let i = 0; i < 300; i++) {
    const inbox = root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
    if (inbox && i % 20 == 0) inbox.getNewMessages(null, null);
    const special = ["SentMail", "Drafts", "Trash", "Junk", "Archive"].every(n => root.getFolderWithFlags(Ci.nsMsgFolderFlags[n]));
    if (inbox && inbox.getTotalMessages(false) >= want && special) {
      const subjects = [...inbox.messages].map(h => h.mime2DecodedSubject);
      const use = f => Object.entries({ Inbox: Ci.nsMsgFolderFlags.Inbox, Sent: Ci.nsMsgFolderFlags.SentMail, Drafts: Ci.nsMsgFolderFlags.Drafts,
        Trash: Ci.nsMsgFolderFlags.Trash, Junk: Ci.nsMsgFolderFlags.Junk, Archive: Ci.nsMsgFolderFlags.Archive }).filter(([, bit]) => f.flags & bit).map(([n]) => n).join();
      return { subjects, folders: root.descendants.map(f => f.name + "=" + use(f)) };
    }
    await pause(200);
  }
  throw new Error("INBOX did not fill: " + root.descendants.map(f => f.name + " " + f.getTotalMessages(false)));
})().then(v => done(v), e => done({ error: String(e) + "\n" + e.stack }));
`

// TestThunderbirdAutoconfig: Thunderbird, without a screen, finds its settings by autoconfig when it is told an
// address and a password, logs in, knows the special mailboxes and shows the mail.
func TestThunderbirdAutoconfig(t *testing.T) {
	need(t, "thunderbird", "ip")
	if os.Getuid() != 0 {
		t.Skip("takes root: autoconfig is looked for on port 443 of a network of its own")
	}
	ns := fmt.Sprint("mptb", os.Getpid())
	for _, args := range [][]string{{"netns", "add", ns}, {"-n", ns, "link", "set", "lo", "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("network namespaces are not allowed here: %v %s", err, out)
		}
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	build(t)
	d := &process{t: t, dir: filepath.Join(t.TempDir(), "data")}
	d.cmd = exec.Command("ip", "netns", "exec", ns, bins.mailplusd, "dev", "--data", d.dir)
	d.cmd.Env = append(os.Environ(), "MAILPLUSD_DEV_PASSWORD="+devPassword)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(d.cmd, d.exited)
	t.Cleanup(d.stop)
	for end := time.Now().Add(60 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if _, _, code := d.mpctl("user", "show", "bob"); code == 0 { // it is set up
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the daemon does not answer\n%s", d.log.String())
		}
	}
	d.ok("--yes", "service", "autoconfig", "set", "--enable", "on", "--port", "443", "--http", "off")
	d.ok("delivery", "general", "set", "--hostname", "mail.example.test")
	var letters strings.Builder
	for i := range 5 {
		fmt.Fprintf(&letters, "From x Mon Jan  1 00:00:00 2024\nFrom: Ann <ann@y.example>\nSubject: letter %d\nMessage-ID: <%d@y>\n\ntext\n\n", i, i)
	}
	d.ok("mailbox", "import", "bob", "--from", d.file("five.mbox", letters.String()))

	m := startThunderbird(t, ns)
	account := m.script(setUpAccount, "bob@example.test", devPassword)
	if account["type"] != "imap" || account["host"] != "mail.example.test" || account["port"] != 2993.0 && account["port"] != 2143.0 || account["user"] != "bob@example.test" {
		t.Errorf("account: %v\n%s", account, d.log.String())
	}
	if out := fmt.Sprint(account["outgoing"]); out != "mail.example.test:2465" && out != "mail.example.test:2587" {
		t.Errorf("outgoing server: %s", out)
	}
	got := m.script(syncFolders, 5)
	texts := func(key string) (out []string) {
		list, _ := got[key].([]any)
		for _, x := range list {
			out = append(out, fmt.Sprint(x))
		}
		slices.Sort(out)
		return out
	}
	if s := strings.Join(texts("subjects"), ", "); s != "letter 0, letter 1, letter 2, letter 3, letter 4" {
		t.Errorf("subjects: %s\n%v", s, got)
	}
	for _, want := range []string{"INBOX=Inbox", "Sent=Sent", "Drafts=Drafts", "Trash=Trash", "Junk=Junk", "Archive=Archive"} {
		if !slices.Contains(texts("folders"), want) {
			t.Errorf("%s is not among %v", want, texts("folders"))
		}
	}
}

// marionette drives a Thunderbird (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html).
type marionette struct {
	t  *testing.T
	c  net.Conn
	r  *bufio.Reader
	id int
}

// startThunderbird runs a Thunderbird with a new profile in a network namespace.
func startThunderbird(t *testing.T, ns string) *marionette {
	t.Helper()
	home := t.TempDir()
	profile := filepath.Join(home, "profile")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(thunderbirdPrefs), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", ns, "thunderbird", "--headless", "--no-remote", "--profile", profile, "--marionette", "--remote-allow-system-access")
	cmd.Env = append(os.Environ(), "HOME="+home, "MOZ_HEADLESS=1", "XDG_RUNTIME_DIR="+home)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	m := &marionette{t: t}
	t.Cleanup(func() {
		if m.c != nil {
			m.send("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}})
			m.c.Close()
		}
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			for line := range strings.Lines(log.String()) {
				if text := strings.TrimSpace(line); text != "" && !strings.Contains(text, "glib warning") && !strings.Contains(text, "Gtk-CRITICAL") {
					t.Logf("thunderbird: %.300s", text)
				}
			}
		}
	})
	for end := time.Now().Add(90 * time.Second); ; <-time.After(200 * time.Millisecond) {
		c, err := dialIn(ns, "127.0.0.1:2828")
		if err == nil {
			m.c = c
			break
		}
		if time.Now().After(end) {
			t.Fatalf("Thunderbird does not listen: %v", err)
		}
	}
	m.c.SetDeadline(time.Now().Add(3 * time.Minute))
	m.r = bufio.NewReader(m.c)
	m.read() // who it is
	m.must("WebDriver:NewSession", map[string]any{})
	m.must("WebDriver:SetTimeouts", map[string]any{"script": 120_000})
	m.must("Marionette:SetContext", map[string]any{"value": "chrome"})
	return m
}

// read gives one message: its length, a colon, and JSON.
func (m *marionette) read() []byte {
	m.t.Helper()
	head, err := m.r.ReadString(':')
	if err != nil {
		m.t.Fatalf("marionette: %v", err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil {
		m.t.Fatalf("marionette: %q", head)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m.r, b); err != nil {
		m.t.Fatalf("marionette: %v", err)
	}
	return b
}

func (m *marionette) send(name string, params any) {
	m.id++
	b, _ := json.Marshal([]any{0, m.id, name, params})
	fmt.Fprintf(m.c, "%d:%s", len(b), b)
}

// must sends a command and gives its result.
func (m *marionette) must(name string, params any) json.RawMessage {
	m.t.Helper()
	m.send(name, params)
	var answer []json.RawMessage
	if err := json.Unmarshal(m.read(), &answer); err != nil || len(answer) != 4 {
		m.t.Fatalf("%s: %v %s", name, err, answer)
	}
	if string(answer[2]) != "null" {
		m.t.Fatalf("%s: %s", name, answer[2])
	}
	return answer[3]
}

// script runs JavaScript with Thunderbird's own rights; it ends by calling its last argument.
func (m *marionette) script(text string, args ...any) map[string]any {
	m.t.Helper()
	var out struct{ Value map[string]any }
	raw := m.must("WebDriver:ExecuteAsyncScript", map[string]any{"script": text, "args": args, "newSandbox": true, "sandbox": "system"})
	if err := json.Unmarshal(raw, &out); err != nil {
		m.t.Fatalf("%v: %s", err, raw)
	}
	if e := out.Value["error"]; e != nil {
		m.t.Fatalf("%v", e)
	}
	return out.Value
}

// dialIn connects to an address inside a network namespace.
func dialIn(ns, addr string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		var c net.Conn
		if err == nil {
			c, err = net.Dial("tcp", addr)
		}
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}
