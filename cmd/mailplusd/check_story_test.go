package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// resolver serves records on loopback; names without any record don't exist.
func resolver(t *testing.T, records string) string {
	t.Helper()
	return resolverAs(t, records, false)
}

// resolverAs is resolver as a DNS server that validates: with secure, everything that it says is
// authentic for who asks for that.
func resolverAs(t *testing.T, records string, secure bool) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	resolverOn(t, pc, records, secure)
	return pc.LocalAddr().String()
}

// resolverOn is resolverAs on a socket. replace gives it other records. What is asked below silence.example
// gets no answer.
func resolverOn(t *testing.T, pc net.PacketConn, records string, secure bool) (replace func(string)) {
	t.Helper()
	var zone atomic.Pointer[map[string][]dns.RR]
	replace = func(records string) { have := zoneOf(t, records); zone.Store(&have) }
	replace(records)
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r, have := new(dns.Msg), *zone.Load()
		r.SetReply(m)
		q := m.Question[0]
		name := strings.ToLower(q.Name)
		if strings.HasSuffix(name, "silence.example.") {
			return
		}
		r.Answer = have[name+dns.TypeToString[q.Qtype]]
		r.AuthenticatedData = secure && m.AuthenticatedData
		if len(have[name]) == 0 {
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return replace
}

// zoneOf reads records, by name, and by name and type.
func zoneOf(t *testing.T, records string) map[string][]dns.RR {
	t.Helper()
	have := map[string][]dns.RR{}
	zp := dns.NewZoneParser(strings.NewReader(records), ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		n := rr.Header().Name
		have[n] = append(have[n], rr)
		have[n+dns.TypeToString[rr.Header().Rrtype]] = append(have[n+dns.TypeToString[rr.Header().Rrtype]], rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return have
}

func TestStoryChecks(t *testing.T) {
	// covers: R2.10 R2.11 R2.12 R2.13 R2.16 R2.17 R2.18 R2.19 R2.21 R2.22 R2.23 R2.53 R2.59 R2.63
	d := newDaemon(t)
	d.start()
	server := resolver(t, `
mail.example.test. 60 IN A 111.222.112.223
example.com. 60 IN A 111.222.112.223
example.com. 60 IN MX 0 nas.example.com.
nas.example.com. 60 IN A 111.222.112.223
same.test. 60 IN MX 0 same.test.
same.test. 60 IN A 111.222.112.223
away.test. 60 IN MX 10 mx.away.test.
mx.away.test. 60 IN A 198.51.100.1
bare.test. 60 IN MX 10 192.0.2.9.
nomx.test. 60 IN A 111.222.112.223
dead.test. 60 IN MX 10 gone.dead.test.
223.112.222.111.in-addr.arpa. 60 IN PTR mail.example.test.
4.3.2.1.in-addr.arpa. 60 IN PTR liar.test.
`)
	d.ok("config", "set", "network.resolvers="+server, "network.public-address=111.222.112.223")
	for domain, want := range map[string]string{
		"example.com": "leads to this server", "same.test": "leads to this server", "away.test": "leads elsewhere", "bare.test": "must be a name",
		"nomx.test": "no MX record", "dead.test": "has no address", "missing.test": "does not exist in DNS",
	} {
		d.has(want, "check", "dns", domain)
	}
	d.has("mail.example.test, and back", "check", "rdns")
	d.ok("config", "set", "network.public-address=1.2.3.4,5.6.7.8")
	d.has("does not lead back", "check", "rdns")
	d.has("8.7.6.5.in-addr.arpa. PTR mail.example.test.", "check", "rdns")
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	d.has("can't be looked up", "check", "dns", "example.com")
}

// timeServer answers SNTP with a clock that is off.
func timeServer(t *testing.T, off time.Duration, stratum byte) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			now := time.Now().Add(off)
			stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
			resp := make([]byte, 48)
			resp[0], resp[1] = 4<<3|4, stratum
			copy(resp[24:32], buf[40:48])
			binary.BigEndian.PutUint64(resp[32:], stamp)
			binary.BigEndian.PutUint64(resp[40:], stamp)
			pc.WriteTo(resp, from)
		}
	}()
	return pc.LocalAddr().String()
}

func TestStoryChecksOfTheInternet(t *testing.T) {
	// covers: R2.20 R2.54 R2.56 R2.64
	d := newDaemon(t)
	d.start()
	server := resolver(t, `
2.113.0.203.bl.example. 60 IN A 127.0.0.2
2.113.0.203.bl.example. 60 IN TXT "sent spam, see https://bl.example/2"
3.113.0.203.bl.example. 60 IN A 127.255.255.254
1.0.0.127.in-addr.arpa. 60 IN PTR mail.example.test.
mail.example.test. 60 IN A 127.0.0.1
`)
	d.ok("config", "set", "network.resolvers="+server, "network.block-lists=bl.example")
	for ip, want := range map[string]string{"203.0.113.2": "sent spam, see", "203.0.113.3": "public DNS server", "203.0.113.4": "is not on bl.example", "10.1.2.3": "private address"} {
		d.ok("config", "set", "network.public-address="+ip)
		out, _, _ := d.mpctl("check", "blocklist")
		if !strings.Contains(out, want) {
			t.Errorf("%s: %s, want %q", ip, out, want)
		}
	}
	d.ok("config", "set", "network.public-address=127.0.0.1")
	d.has("greets as mail.example.test", "check", "rdns")
	d.ok("delivery", "general", "set", "--hostname", "other.example.test")
	d.has("the server calls itself other.example.test", "check", "rdns")

	d.ok("config", "set", "network.ntp-servers="+timeServer(t, 0, 2))
	d.has("this clock is right", "check", "time")
	d.ok("config", "set", "network.ntp-servers="+timeServer(t, -time.Hour, 2))
	d.has("off by -1h0m0", "check", "time")
	d.ok("config", "set", "network.ntp-servers="+timeServer(t, 0, 16)+",127.0.0.1:1")
	d.has("no time server answers", "check", "time")
}

func TestTenThousandRecipients(t *testing.T) {
	d := newDaemon(t)
	d.start()
	d.ok("config", "set", "delivery.max-recipients=10000", "delivery.lan-exempt=on", "network.resolvers=127.0.0.1:9")
	c := d.smtp(2525)
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	for i := range 10_000 {
		fmt.Fprintf(c.c, "RCPT TO:<r%d@elsewhere.example>\r\n", i)
		if r, err := c.reply(); err != nil || !strings.HasPrefix(r, "250") {
			t.Fatalf("%d: %s %v", i, r, err)
		}
	}
	d.say(c, "550 5.5.3", "RCPT TO:<one-more@elsewhere.example>")
	d.say(c, "250", "RSET")
	d.say(c, "250", "MAIL FROM:<bob@example.test>")
	for i := range 10_000 {
		fmt.Fprintf(c.c, "RCPT TO:<r%d@elsewhere.example>\r\n", i)
		if r, err := c.reply(); err != nil || !strings.HasPrefix(r, "250") {
			t.Fatalf("%d: %s %v", i, r, err)
		}
	}
	d.say(c, "354", "DATA")
	d.say(c, "250", "Subject: many\r\n\r\nx\r\n.")
	out := d.ok("queue", "list", "--limit", "1000000", "-o", "name")
	if n := strings.Count(out, "\n"); n != 10_000 {
		t.Errorf("%d recipients are queued", n)
	}
	d.ok("queue", "clear", "--all", "--yes")
}

// TestStoryCheckClientRecords: the SRV records by which clients find their settings are compared
// with what is offered (RFC 6186, RFC 8314).
func TestStoryCheckClientRecords(t *testing.T) {
	// covers: R2.51
	d := newDaemon(t)
	d.start()
	d.ok("--yes", "service", "autoconfig", "set", "--enable", "on", "--port", fmt.Sprint(2443+d.offset), "--http-port", fmt.Sprint(2480+d.offset))
	d.ok("config", "set", "network.public-address=111.222.112.223")
	var zone, srv []string
	for _, r := range d.rows("domain", "dns-records", "example.test") {
		line := fmt.Sprintf("%v. 60 IN %v ", r["name"], r["type"])
		switch r["type"] {
		case "SRV":
			name, _, _ := strings.Cut(fmt.Sprint(r["name"]), "._tcp")
			srv = append(srv, name)
			zone = append(zone, fmt.Sprintf("%s%v %v.", line, r["priority"], strings.TrimSuffix(fmt.Sprint(r["value"]), ".")))
		case "MX":
			zone = append(zone, fmt.Sprintf("%s%v %v.", line, r["priority"], r["value"]))
		case "A":
			zone = append(zone, line+fmt.Sprint(r["value"]))
		}
	}
	if len(srv) != 7 { // submission and submissions, IMAP and POP3 with and without TLS, autodiscover
		t.Fatalf("SRV records for %v", srv)
	}
	served := func(lines []string) {
		t.Helper()
		d.ok("config", "set", "network.resolvers="+resolver(t, strings.Join(lines, "\n")))
	}
	pick := func(service string) (i int) {
		for i, line := range zone {
			if strings.HasPrefix(line, service+".") {
				return i
			}
		}
		t.Fatalf("no record of %s in %v", service, zone)
		return -1
	}
	served(zone) // published as we print them
	for _, s := range srv {
		d.has(s, "check", "dns", "example.test")
	}
	d.has("lead mail clients here", "check", "dns", "example.test")
	if out := d.ok("check", "dns", "example.test"); strings.Contains(out, "error") || strings.Contains(out, "no SRV record") {
		t.Errorf("a zone as it was printed:\n%s", out)
	}

	i := pick("_imaps")
	served(append(append([]string{}, zone[:i]...), zone[i+1:]...))
	d.has("no SRV record for _imaps._tcp", "check", "dns", "example.test")
	wrong := append([]string{}, zone...)
	wrong[i] = "_imaps._tcp.example.test. 60 IN SRV 0 0 993 old.example.test."
	served(wrong)
	d.has("leads clients to 993 old.example.test.", "check", "dns", "example.test")
	wrong[i] = zone[i] + "\n_imaps._tcp.example.test. 60 IN SRV 30 0 993 old.example.test." // the other one is preferred
	served(wrong)
	d.has("lead mail clients here", "check", "dns", "example.test")
	wrong[i] = "_imaps._tcp.example.test. 60 IN SRV 0 0 0 ." // said to be not offered (RFC 2782)
	served(wrong)
	d.has("no SRV record for _imaps._tcp", "check", "dns", "example.test")

	served(zone)
	d.ok("--yes", "service", "pop3", "set", "--enable", "off")
	d.has("_pop3s._tcp.example.test: leads clients to", "check", "dns", "example.test")
	d.has("which is not offered", "check", "dns", "example.test")
	d.ok("config", "set", "network.resolvers=127.0.0.1:9")
	d.has("can't be looked up", "check", "dns", "example.test")
}
