package main

import (
	"net"
	"os"
	"strings"
	"testing"
)

const exchangeTestdata = "../../admin/exchange/testdata/"

// exchangeFile is an export of Exchange, with replacements.
func (d *process) exchangeFile(name string, replace ...string) string {
	text := read(d.t, exchangeTestdata+"SynologyExportedExchangeConf.xml")
	return d.file(name, strings.NewReplacer(replace...).Replace(text))
}

// TestStoryFromExchange: a system with settings of Exchange, and the same import behind set-up.
func TestStoryFromExchange(t *testing.T) {
	// covers: R2.28 R3.65 R3.66 R3.67 R3.68 R3.69 R3.70 R3.71 R3.72
	d := freshNode(t, "127.0.77.8")
	script := d.ok("import", "exchange-script")
	if want := read(t, "../../admin/exchange/ExchangeConfigExport.ps1"); script != want {
		t.Errorf("the script is %d octets, want %d", len(script), len(want))
	}
	file, pw := d.exchangeFile("conf.xml"), d.file("pw", "long-enough-1")
	for name, c := range map[string]struct{ text, want string }{
		"root":    {"<Objs></Objs>", "root element is <Objs>"},
		"cut":     {read(t, file)[:2000], "line"},
		"doctype": {"<!DOCTYPE x [<!ENTITY a 'aaa'>]><ExchangeExport version=\"1\"/>", "DOCTYPE"},
		"newer":   {"<ExchangeExport version=\"9\"/>", "reads version 1"},
		"large":   {"<ExchangeExport version=\"1\">" + strings.Repeat(" ", 8<<20) + "</ExchangeExport>", "more than 8 MB"},
	} {
		d.fails(2, c.want, "setup", "from-exchange", "--file", d.file(name, c.text), "--domain", "example.com", "--yes")
	}
	d.fails(2, "no default accepted domain", "setup", "from-exchange", "--file", d.file("none", `<ExchangeExport version="1"/>`), "--yes")

	// The review, section by section; nothing happens.
	review := []string{"setup", "from-exchange", "--file", file, "--admin", "ann", "--password-file", pw}
	out, errs, code := d.mpctl(review...)
	if code != 3 || !strings.Contains(errs, "confirmation") {
		t.Errorf("without --yes: exit %d, %s", code, errs)
	}
	dry := d.ok(append(review, "--dry-run")...)
	if out != dry {
		t.Errorf("the review before the confirmation:\n%s\nis not what a dry run says:\n%s", out, dry)
	}
	general, rest, _ := strings.Cut(dry, "Conditions")
	conditions, left, _ := strings.Cut(rest, "Not taken over")
	for section, want := range map[string]map[string]string{
		"general": {general: "+ system.domain: example.com|+ administrator: ann|+ delivery.max-size: 36, now 10|+ delivery.max-recipients: 500, now 1000|+ delivery.banner: $hostname Mail & more|" +
			"+ queue.lifetime: 48|+ queue.per-destination: 20|+ queue.min-backoff: 600|+ delivery.max-hops: 60|+ delivery.limit-client-connections: on|+ delivery.client-connections: 20|" +
			"+ service.imap.enable: on|+ domain: shop.example|+ relay domain: partner.example|domain: example.com, as it is|MaxReceiveSize = 36 MB (37,748,736 bytes)"},
		"conditions": {conditions: "+ relay trusted server: 10.1.2.3/32|10.9.0.0/24|10.2.0.0/31|+ relay rule: To the partner (partner.example through 192.0.2.7)|+ relay.mode: multi|+ TLS policy: bank.example verify"},
		"left": {left: "198.51.100.7 (ExpirationTime|203.0.113.0-203.0.113.9|no black list of clients|BlockedSenders: spam@bad.example|worse.example|no black list of senders|MaxOutboundConnections = Unlimited|too wide|" +
			"its password is not in the file|*.partner.example|split.example|IPAllowListEntry|Exchange did not give it out|FutureThing = Colour: blue|nothing here corresponds|Fqdn: EX1.corp.example.com|PopSettings"},
	} {
		for text, words := range want {
			for _, w := range strings.Split(words, "|") {
				if !strings.Contains(text, w) {
					t.Errorf("%s: %q is missing in\n%s", section, w, text)
				}
			}
		}
	}
	d.has("no", "setup", "show")
	d.fails(3, "not set up", "user", "list")

	d.has("delivery.max-size: 36", append(review, "--yes")...)
	d.has("mail.example.com", "setup", "show")
	for key, want := range map[string]string{"delivery.max-size": "36", "queue.lifetime": "48", "relay.mode": "multi", "service.imap.enable": "on", "service.pop3.enable": "off"} {
		if got := strings.TrimSpace(d.ok("config", "get", key)); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	d.has("shop.example", "domain", "list")
	d.has("partner.example", "relay", "domain", "list")
	d.has("192.0.2.7", "relay", "rule", "list")
	d.has("10.2.0.2", "relay", "trusted", "list")
	if out := d.ok("relay", "trusted", "list"); strings.Contains(out, "0.0.0.0") {
		t.Errorf("an open relay: %s", out)
	}
	d.has("verify", "delivery", "tls", "list")
	d.has("setup from-exchange", "admin", "log", "list")
	d.has("password is right", "check", "login", "ann", "--password-file", pw)
	d.fails(3, "set up already", append(review, "--yes")...)

	// Aliases, domain by domain out of the one file.
	aliases := exchangeTestdata + "SynologyExportedAlias.txt"
	d.has("left", "domain", "alias", "import", "example.com", "--file", aliases)
	d.has("imported", "domain", "alias", "import", "shop.example", "--file", aliases)
	d.has("partner@elsewhere.example", "domain", "alias", "show", "example.com", "staff")
	d.has("ann@example.com", "domain", "alias", "show", "shop.example", "orders")

	d.importExchangeAgain(file)
}

// importExchangeAgain: the same file changes nothing, another one what differs, a bad one nothing.
func (d *process) importExchangeAgain(file string) {
	t := d.t
	before := d.ok("config", "export")
	if out := d.ok("import", "exchange", file, "--yes"); strings.Contains(out, "  + ") {
		t.Errorf("the same import again sets:\n%s", out)
	}
	other := d.exchangeFile("other.xml", "<value>500</value>", "<value>700</value>", "198.51.100.7", "198.51.100.8")
	d.fails(3, "confirmation", "import", "exchange", other)
	d.has("+ delivery.max-recipients: 700, now 500", "import", "exchange", other, "--dry-run")
	d.fails(2, "root element", "import", "exchange", d.file("root", "<a/>"), "--yes")
	d.fails(2, "no such file", "import", "exchange", "/nowhere.xml", "--yes")
	lines := func(s string) string { _, rest, _ := strings.Cut(s, "\n"); return rest }
	if after := d.ok("config", "export"); lines(after) != lines(before) {
		t.Errorf("settings changed from\n%s\nto\n%s", before, after)
	}
	// What a rule refuses is named; a port that somebody has makes all of it fail, the domain before it too.
	d.has("25 is the port of both", "import", "exchange", d.exchangeFile("same.xml", "[::]:143", "[::]:25"), "--dry-run")
	l, err := net.Listen("tcp", "127.0.77.8:2143")
	if err != nil {
		t.Fatal(err)
	}
	taken := d.exchangeFile("taken.xml", "<value>shop.example</value>", "<value>late.example</value>", "[::]:143", "[::]:2143")
	if _, errs, code := d.mpctl("import", "exchange", taken, "--yes"); code == 0 || !strings.Contains(errs, "2143") {
		t.Errorf("a port that is taken: exit %d, %s", code, errs)
	}
	l.Close()
	if out := d.ok("domain", "list"); strings.Contains(out, "late.example") {
		t.Errorf("a part of an import that failed is there: %s", out)
	}
	d.has("+ delivery.max-recipients: 700", "import", "exchange", other, "--yes", "-o", "wide")
	d.has("700", "config", "get", "delivery.max-recipients")
	if log := d.ok("admin", "log", "list", "-o", "json"); !strings.Contains(log, "import exchange") || !strings.Contains(log, "delivery.max-recipients") || strings.Contains(log, "spam@bad.example") {
		t.Error("the admin log does not tell what the import set, or holds the file")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}
