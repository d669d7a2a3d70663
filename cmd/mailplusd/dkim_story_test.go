package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

// dkimRow is what a test reads of mpctl domain dkim show.
type dkimRow struct {
	Selector, State, Algorithm, Name, Value string
	Bits                                    int
	Signing                                 bool
}

func (d *process) dkim(domain string) (out []dkimRow) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.ok("domain", "dkim", "show", domain, "-o", "json")), &out); err != nil {
		d.t.Fatal(err)
	}
	return out
}

// published are the TXT records that a domain's keys want.
func (d *process) published(domain string) map[string]string {
	d.t.Helper()
	var rows []struct{ Type, Name, Value string }
	if err := json.Unmarshal([]byte(d.ok("domain", "dns-records", domain, "--address", "192.0.2.7", "-o", "json")), &rows); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		if strings.Contains(r.Name, "._domainkey.") {
			out[r.Name] = r.Value
		}
	}
	return out
}

// signatures tells how many signatures each message has, and whose hold, as go-msgauth and dkimpy say with
// the records that are published. dkimpy takes a second to start, so it gets all messages at once.
func signatures(t *testing.T, records map[string]string, texts ...string) (all []int, domains [][]string) {
	t.Helper()
	args := []string{"../../mail/sender/testdata/verify.py"}
	for name, r := range records {
		args = append(args, name+"="+r)
	}
	want := ""
	for i, text := range texts {
		list, err := dkim.VerifyWithOptions(strings.NewReader(text), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
			if r, ok := records[name]; ok {
				return []string{r}, nil
			}
			return nil, fmt.Errorf("%s does not exist", name)
		}})
		if err != nil {
			t.Fatal(err)
		}
		var good []string
		for _, v := range list {
			if v.Err == nil {
				good = append(good, v.Domain)
			} else {
				t.Logf("%s: %v", v.Domain, v.Err)
			}
		}
		all, domains = append(all, len(list)), append(domains, good)
		want += fmt.Sprintf("%d of %d\n", len(good), len(list))
		file := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	switch out, err := exec.Command("/usr/bin/python3", args...).CombinedOutput(); {
	case strings.Contains(string(out), "ModuleNotFoundError"), errors.Is(err, os.ErrNotExist):
		t.Log("python3-dkim and python3-nacl are not installed: no second opinion")
	case err != nil || string(out) != want:
		t.Errorf("dkimpy says %s (%v), go-msgauth %s\n%s", out, err, want, strings.Join(texts, "\n"))
	}
	return all, domains
}

// TestStoryDKIMKeys: a key pair is made when signing begins, made anew on demand, and followed by another without a gap.
func TestStoryDKIMKeys(t *testing.T) {
	// covers: R8.25 R8.26 R8.27 R8.28 R8.29 R8.30 R8.31 R8.32 R8.33 R2.41
	d := newDaemon(t)
	d.start()
	if rows := d.dkim("example.test"); len(rows) != 1 || rows[0].Signing || rows[0].State != "none" {
		t.Fatalf("before: %+v", rows)
	}
	_, errs, _ := d.mpctl("domain", "dns-records", "example.test", "--address", "122.116.172.181")
	if !strings.Contains(errs, "mpctl domain dkim enable example.test") {
		t.Errorf("dns-records without a key: %s", errs)
	}
	d.fails(7, "no domain", "domain", "dkim", "enable", "other.test")
	if _, errs, code := d.mpctl("domain", "dkim", "enable", "example.test"); code != 0 || !strings.Contains(errs, "mail._domainkey.example.test TXT") {
		t.Errorf("enable: %d %s", code, errs)
	}
	first := d.dkim("example.test")[0]
	if !first.Signing || first.State != "signs" || first.Algorithm != "rsa" || first.Bits != 2048 || first.Name != "mail._domainkey.example.test" || !strings.HasPrefix(first.Value, "v=DKIM1; k=rsa; p=MII") {
		t.Errorf("enabled: %+v", first)
	}
	d.ok("domain", "dkim", "enable", "example.test") // again: the pair stays
	if now := d.dkim("example.test"); len(now) != 1 || now[0].Value != first.Value {
		t.Errorf("enabled again: %+v", now)
	}

	// The whole set to publish, as the manual's zone has it.
	out := d.ok("domain", "dns-records", "example.test", "--address", "122.116.172.181", "-o", "csv")
	for _, want := range []string{
		"A,mail.example.test,122.116.172.181,0,600\n", "MX,example.test,mail.example.test,0,3600\n",
		"TXT,mail._domainkey.example.test," + first.Value + ",0,3600\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("dns-records lacks %q:\n%s", want, out)
		}
	}

	d.fails(3, "wants a confirmation", "domain", "dkim", "generate", "example.test")
	d.has("selector mail", "domain", "dkim", "generate", "example.test", "--yes", "--dry-run")
	if now := d.dkim("example.test"); now[0].Value != first.Value {
		t.Error("a dry run has made a key")
	}
	_, errs, _ = d.mpctl("domain", "dkim", "generate", "example.test", "--bits", "1024", "--yes")
	if !strings.Contains(errs, "is deleted") || !strings.Contains(errs, "weak") {
		t.Errorf("generate says %s", errs)
	}
	weak := d.dkim("example.test")
	if len(weak) != 1 || weak[0].Bits != 1024 || weak[0].Selector != "mail" || weak[0].Value == first.Value || !strings.HasPrefix(weak[0].Value, "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEB") {
		t.Errorf("generated: %+v", weak)
	}
	d.fails(2, "outside", "domain", "dkim", "generate", "example.test", "--bits", "768", "--yes")

	// Another selector waits, signs, and the old one stays published.
	d.ok("domain", "dkim", "generate", "example.test", "--selector", "2026b", "--yes")
	if rows := d.dkim("example.test"); len(rows) != 2 || rows[0].Selector != "mail" || rows[0].State != "signs" || rows[1].State != "waits" {
		t.Errorf("a second pair: %+v", rows)
	}
	d.fails(3, "signs", "domain", "dkim", "set", "example.test", "--drop", "mail", "--yes")
	_, errs, _ = d.mpctl("domain", "dkim", "set", "example.test", "--selector", "2026b", "--yes")
	if !strings.Contains(errs, "leave mail._domainkey.example.test in DNS until 20") {
		t.Errorf("after the change: %s", errs)
	}
	if rows := d.dkim("example.test"); rows[0].Selector != "2026b" || rows[0].State != "signs" || rows[1].Selector != "mail" || rows[1].State != "old" {
		t.Errorf("changed: %+v", rows)
	}
	if p := d.published("example.test"); len(p) != 2 || p["2026b._domainkey.example.test"] == "" || p["mail._domainkey.example.test"] != weak[0].Value {
		t.Errorf("to publish: %v", p)
	}
	// A name without a pair is a new name for the pair in use.
	second := d.dkim("example.test")[0]
	d.ok("domain", "dkim", "set", "example.test", "--selector", "abc", "--yes")
	if rows := d.dkim("example.test"); rows[0].Selector != "abc" || rows[0].Value != second.Value || rows[0].Name != "abc._domainkey.example.test" {
		t.Errorf("renamed: %+v", rows)
	}
	d.fails(2, "no selector", "domain", "dkim", "set", "example.test", "--selector", "a b", "--yes")
	d.ok("domain", "dkim", "set", "example.test", "--drop", "2026b", "--yes")
	d.fails(7, "no key pair", "domain", "dkim", "set", "example.test", "--drop", "2026b", "--yes")

	// A key of another signer, which moves here with its name.
	if pem, err := exec.Command("openssl", "genrsa", "2048").Output(); err == nil {
		d.fails(2, "--selector", "domain", "dkim", "set", "example.test", "--key-file", d.file("k.pem", string(pem)), "--yes")
		d.fails(2, "PEM", "domain", "dkim", "set", "example.test", "--selector", "moved", "--key-file", d.file("no.pem", "x"), "--yes")
		d.ok("domain", "dkim", "set", "example.test", "--selector", "moved", "--key-file", d.file("k.pem", string(pem)), "--yes")
		if rows := d.dkim("example.test"); rows[0].Selector != "moved" || rows[0].Bits != 2048 {
			t.Errorf("imported: %+v", rows)
		}
	}
	d.ok("domain", "dkim", "disable", "example.test")
	for _, r := range d.dkim("example.test") {
		if r.Signing || r.State == "signs" {
			t.Errorf("disabled: %+v", r)
		}
	}
	d.has("domain dkim disable", "admin", "log", "list")

	// The pairs move along with the domain, and go with it.
	d.ok("domain", "add", "other.test")
	d.ok("domain", "dkim", "enable", "other.test")
	value := d.dkim("other.test")[0].Value
	d.ok("domain", "set", "other.test", "--rename", "renamed.test")
	if rows := d.dkim("renamed.test"); rows[0].Value != value || rows[0].Name != "mail._domainkey.renamed.test" || !rows[0].Signing {
		t.Errorf("after the rename: %+v", rows)
	}
	d.ok("domain", "delete", "renamed.test", "--confirm=renamed.test")
	d.ok("domain", "add", "renamed.test")
	if rows := d.dkim("renamed.test"); rows[0].State != "none" {
		t.Errorf("a domain made anew has %+v", rows)
	}
}

// TestStoryCheckDKIM: what is published is compared with what signs.
func TestStoryCheckDKIM(t *testing.T) {
	// covers: R8.27 R8.32 R8.33
	d := newDaemon(t)
	d.start()
	zone := "example.test. 60 IN MX 0 mail.example.test.\nmail.example.test. 60 IN A 192.0.2.1\n"
	check := func(records, level, words string) {
		t.Helper()
		d.ok("config", "set", "network.resolvers="+resolver(t, zone+records))
		var rows []struct{ Level, Check, Message, Remedy string }
		if err := json.Unmarshal([]byte(d.ok("check", "dns", "example.test", "-o", "json")), &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Check == "dkim" && r.Level == level && strings.Contains(r.Message, words) {
				if level == "error" && !strings.HasPrefix(r.Remedy, "publish TXT mail._domainkey.example.test with v=DKIM1; k=rsa; p=") {
					t.Errorf("the remedy is %q", r.Remedy)
				}
				return
			}
		}
		t.Errorf("%s: %s %q is missing in %+v", records, level, words, rows)
	}
	txt := func(name, value string) string {
		var parts []string
		for len(value) > 200 {
			parts, value = append(parts, `"`+value[:200]+`"`), value[200:]
		}
		return name + ". 60 IN TXT " + strings.Join(append(parts, `"`+value+`"`), " ") + "\n"
	}
	check("", "info", "not signed")
	d.ok("domain", "dkim", "enable", "example.test")
	k := d.dkim("example.test")[0]
	check("", "error", "there is no TXT record")
	check(txt(k.Name, k.Value), "ok", "publishes the key that signs")
	check(txt(k.Name, strings.ReplaceAll(k.Value, "; ", ";")), "ok", "publishes the key that signs")
	check(txt(k.Name, strings.Replace(k.Value, "MIIB", "MIIC", 1)), "error", "another key")
	check(txt(k.Name, k.Value[:len(k.Value)-5]), "error", "malformed")
	check(txt(k.Name, strings.ReplaceAll(k.Value, ";", ",")), "error", "commas")
	check(txt(k.Name, "v=DKIM1; p="), "error", "revoked")
	check(txt(k.Name, "v=spf1 -all"), "error", "no DKIM key")
	check(txt(k.Name, k.Value)+txt(k.Name, "v=DKIM1; p=AAAA"), "error", "more than one")
	check(txt(k.Name, strings.Replace(k.Value, "k=rsa", "k=rsa; t=y", 1)), "warning", "t=y")
	check("abc._domainkey.example.test. 60 IN CNAME x.test.\n"+txt(k.Name, k.Value), "ok", "publishes")
	d.ok("domain", "dkim", "generate", "example.test", "--selector", "next", "--yes")
	check(txt(k.Name, k.Value), "info", "publish it before")
	d.ok("domain", "dkim", "set", "example.test", "--selector", "next", "--yes")
	n := d.dkim("example.test")[0]
	check(txt(n.Name, n.Value), "warning", "still on its way")
	check(txt(n.Name, n.Value)+txt(k.Name, k.Value), "ok", "has signed, until")
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	d.has("can't be looked up", "check", "dns", "example.test")
}

// TestDKIMThroughPostfix: what Postfix has got verifies, also when it takes only 7 bits; what comes
// from other servers, or stays here, is not signed.
func TestDKIMThroughPostfix(t *testing.T) {
	// covers: R8.25 R8.26 R8.32 I.38 I.81
	d := newDaemon(t)
	d.start()
	p := startPostfix(t, d)
	dns := resolver(t, "peer.example. 60 IN MX 10 mail.peer.example.\nmail.peer.example. 60 IN A 127.0.0.1\n")
	d.ok("config", "set", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", p.port), "queue.min-backoff=1", "queue.max-backoff=2")
	// What is for ben goes to a port of Postfix that does not take 8 bits.
	seven := freePort(t, "127.0.0.1")
	master := filepath.Join(p.dir, "etc/master.cf")
	service := fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd\n  -o smtpd_discard_ehlo_keywords=8bitmime\n", seven)
	if err := os.WriteFile(master, []byte(read(t, master)+service), 0o644); err != nil {
		t.Fatal(err)
	}
	p.run("reload")
	d.ok("relay", "rule", "add", "seven", "--kind", "recipient", "--address", "ben@peer.example", "--host", "127.0.0.1", "--port", fmt.Sprint(seven), "--tls", "none")
	d.ok("relay", "set", "--mode", "multi")
	d.ok("domain", "dkim", "enable", "example.test")
	d.ok("domain", "dkim", "generate", "example.test", "--selector", "ed", "--algorithm", "ed25519", "--yes")
	d.ok("domain", "dkim", "set", "example.test", "--also", "ed", "--yes")
	keys := d.published("example.test")
	if len(keys) != 2 {
		t.Fatalf("to publish: %v", keys)
	}
	bob := func(from, to, body string) {
		t.Helper()
		c := d.smtp(2587)
		d.startTLS(c)
		d.say(c, "235", "%s", plainLogin["bob"])
		for _, cmd := range []string{"MAIL FROM:<bob@example.test> BODY=8BITMIME", "RCPT TO:<" + to + ">", "DATA"} {
			if r, err := c.cmd("%s", cmd); err != nil || r[0] > '3' {
				t.Fatalf("%s: %s %v", cmd, r, err)
			}
		}
		r, err := c.cmd("From: %s\r\nTo: %s\r\nSubject: signed\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n.", from, to, body)
		if err != nil || r[0] != '2' {
			t.Fatal(r, err)
		}
	}
	// A Maildir holds what has come with other line ends.
	got := func(user string, n int) string {
		t.Helper()
		list := p.has(user, n)
		return strings.ReplaceAll(list[len(list)-1], "\n", "\r\n")
	}
	var signed []string // each by both keys
	bob("Bob <bob@example.test>", "ann@peer.example", "grüße\r\n..dot\r\n  blanks   at the end  \r\n\r\n")
	text := got("ann", 1)
	signed = append(signed, text)
	if !strings.Contains(text, "h=From:From:Sender:Reply-To:Subject:Subject:Date:Date:Message-ID:Message-ID:To:To:Cc:") {
		t.Errorf("what is signed:\n%s", text)
	}

	bob("bob@example.test", "ben@peer.example", "grüße an ben")
	text = got("ben", 1)
	signed = append(signed, text)
	if !strings.Contains(text, "Content-Transfer-Encoding: quoted-printable") || !strings.Contains(text, "gr=C3=BC=C3=9Fe an ben") {
		t.Errorf("not converted:\n%s", text)
	}

	// From another domain, or another server: nothing is signed.
	bob("bob@elsewhere.example", "ben@peer.example", "not ours")
	for _, text := range p.has("ben", 2) {
		if strings.Contains(text, "not ours") && strings.Contains(text, "DKIM-Signature") {
			t.Errorf("signed for somebody else:\n%s", text)
		}
	}
	d.ok("domain", "alias", "add", "example.test", "away", "ann@peer.example")
	c := d.smtp(2525)
	if r, err := c.send("mallory@evil.example", "away@example.test", "From: bob@example.test\r\nSubject: forged\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	for _, text := range p.has("ann", 2) {
		if strings.Contains(text, "Subject: forged") && strings.Contains(text, "DKIM-Signature") {
			t.Errorf("a forged message was signed:\n%s", text)
		}
	}
	bob("bob@example.test", "alice@example.test", "stays here")
	ai := d.imap("alice")
	if box, err := ai.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Fatalf("%+v %v", box, err)
	}
	if text := d.body(ai, 1); strings.Contains(text, "DKIM-Signature") {
		t.Errorf("what stays here was signed:\n%s", text)
	}

	// A notification is signed for the domain above the host's name.
	if r, err := d.smtp(2525).send("ann@peer.example", "away2@example.test", "From: ann@peer.example\r\nSubject: x\r\n\r\nx"); err == nil && r[0] == '2' {
		t.Error("an unknown recipient was taken")
	}
	d.ok("domain", "alias", "add", "example.test", "gone", "nobody@peer.example")
	if r, err := d.smtp(2525).send("ann@peer.example", "gone@example.test", "From: ann@peer.example\r\nSubject: bounces\r\n\r\nx"); err != nil || r[0] != '2' {
		t.Fatal(r, err)
	}
	found := false
	for _, text := range p.has("ann", 3) {
		if strings.Contains(text, "MAILER-DAEMON@mail.example.test") {
			found = true
			signed = append(signed, strings.ReplaceAll(text, "\n", "\r\n"))
		}
	}
	if !found {
		t.Error("ann has no notification")
	}
	all, good := signatures(t, keys, signed...)
	for i, text := range signed {
		if all[i] != 2 || len(good[i]) != 2 || good[i][0] != "example.test" {
			t.Errorf("%d signatures, good are %v, want 2\n%s", all[i], good[i], text)
		}
	}

	// Before it is sent, flow trace says what will be signed.
	msg := d.file("m.eml", "From: bob@example.test\r\nSubject: x\r\n\r\nx\r\n")
	d.has("signed with d=example.test s=mail s=ed", "flow", "trace", "--message", msg, "--from", "bob@example.test", "--user", "bob", "--rcpt", "ann@peer.example")
	d.has("dkim-sign", "flow", "show")
	if out := d.ok("flow", "trace", "--message", msg, "--from", "bob@example.test", "--rcpt", "away@example.test"); strings.Contains(out, "dkim-sign") {
		t.Errorf("mail from elsewhere would be signed:\n%s", out)
	}

	// The private keys are nowhere in clear.
	d.stop()
	filepath.Walk(d.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && strings.Contains(read(t, path), "MIIEv") { // PKCS #8 of an RSA key in base64
			t.Errorf("%s has a private key in clear", path)
		}
		return nil
	})
}
