package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// testCA signs certificates of a test's servers.
type testCA struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	a := &testCA{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Story CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue gives a server's key and certificate as PEM, and what Go's servers want.
func (a *testCA) issue(names ...string) (key, cert string, cfg *tls.Config) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0), DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + a.pem
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert, &tls.Config{Certificates: []tls.Certificate{pair}}
}

// spki is the SHA-256 of a certificate's public key, as TLSA 3 1 1 has it.
func spki(t *testing.T, cert string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(cert))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

const peerZone = "peer.example. 60 IN MX 10 mail.peer.example.\nmail.peer.example. 60 IN A 127.0.0.1\n"

// TestStoryTLSPolicy: the administrator's demands on a destination and on a relay hold, what waits says
// which command changes that, and the log says how each delivery was protected.
func TestStoryTLSPolicy(t *testing.T) {
	d := newDaemon(t)
	d.start()
	ca := newTestCA(t)
	_, cert, cfg := ca.issue("mail.peer.example")
	peer := startSmarthostAs(t, false, "", cfg)
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+resolver(t, peerZone), fmt.Sprintf("queue.port=%d", peer.port))
	d.fails(2, "say which", "delivery", "tls", "set", "peer.example")
	d.fails(2, "belong together", "delivery", "tls", "set", "peer.example", "--level", "fingerprint")
	d.fails(2, "no SHA-256", "delivery", "tls", "set", "peer.example", "--level", "fingerprint", "--fingerprint", "ab:cd")
	d.fails(2, "with --level verify only", "delivery", "tls", "set", "peer.example", "--level", "may", "--name", "x.example")
	d.fails(7, "no policy holds", "delivery", "tls", "show", "peer.example")
	sent := func(to, how string) {
		t.Helper()
		peer.wait(d, "bob@example.test > "+to+"@peer.example, , "+map[bool]string{true: "clear", false: "tls"}[how == "none"])
		d.until(how, "log", "mail", "list", "--recipient", to+"@peer.example", "--status", "sent", "-o", "wide")
	}
	d.submit("bob", "may@peer.example")
	sent("may", "opportunistic, TLS 1.3 TLS_")

	d.ok("delivery", "tls", "set", "Peer.Example", "--level", "verify")
	d.submit("bob", "verify@peer.example")
	d.until("not trusted here; demanded by the policy for peer.example: mpctl delivery tls show 'peer.example'", "queue", "list", "--recipient", "verify", "-o", "json")
	d.fails(2, "contains no certificate", "delivery", "tls", "ca", "add", "test", "--cert", d.file("none.pem", "hello"))
	d.ok("delivery", "tls", "ca", "add", "test", "--cert", d.file("ca.pem", ca.pem))
	d.fails(3, "exists already", "delivery", "tls", "ca", "add", "test", "--cert", d.file("ca.pem", ca.pem))
	d.has("CN=Story CA", "delivery", "tls", "ca", "list")
	sent("verify", "verified, TLS 1.3 TLS_")

	d.ok("delivery", "tls", "set", "peer.example", "--name", "mail.other.example")
	d.submit("bob", "name@peer.example")
	id := strings.TrimSpace(d.until("name@peer.example", "queue", "list", "--recipient", "name@", "-o", "json"))
	id = regexp.MustCompile(`"id": "([^"]+)"`).FindStringSubmatch(id)[1]
	d.until("the certificate is for mail.peer.example, not for mail.other.example", "queue", "show", id, "-o", "wide")
	d.ok("delivery", "tls", "set", ".example", "--level", "none") // the nearest policy holds
	d.ok("delivery", "tls", "set", "peer.example", "--level", "fingerprint", "--fingerprint", spki(t, cert))
	sent("name", "fingerprint, TLS 1.3 TLS_")
	d.ok("delivery", "tls", "delete", "peer.example")
	d.fails(7, "no TLS policy", "delivery", "tls", "delete", "peer.example")
	d.has(".example", "delivery", "tls", "show", "peer.example")
	d.submit("bob", "none@peer.example")
	sent("none", "none")
	d.ok("delivery", "tls", "delete", ".example")
	d.ok("delivery", "tls", "ca", "delete", "test")

	// A relay: what was set up before is not verified, a new one is.
	key, own := selfSigned(t)
	pair, err := tls.X509KeyPair([]byte(own), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	h := startSmarthostAs(t, false, "", &tls.Config{Certificates: []tls.Certificate{pair}})
	d.ok("config", "set", "relay.mode=single", "relay.host=127.0.0.1", fmt.Sprintf("relay.port=%d", h.port), "relay.tls=require")
	d.submit("bob", "old@elsewhere.example")
	h.wait(d, "bob@example.test > old@elsewhere.example, , tls")
	d.ok("config", "set", "relay.tls=starttls")
	d.has("yes", "relay", "set", "--tls", "require")
	d.submit("bob", "new@elsewhere.example")
	d.until("self-signed and not trusted here; the relay's settings require it: trust who signed its certificate (mpctl delivery tls ca add NAME --cert FILE)", "queue", "list", "--recipient", "new@", "-o", "json")
	d.ok("delivery", "tls", "ca", "add", "smart", "--cert", d.file("smart.pem", own))
	h.wait(d, "bob@example.test > new@elsewhere.example, , tls")
	d.until("verified, TLS", "log", "mail", "list", "--recipient", "new@", "-o", "wide")
	if _, errs, _ := d.mpctl("relay", "set", "--verify", "off"); !strings.Contains(errs, "anybody on the way") {
		t.Errorf("no warning about a relay that is not verified: %s", errs)
	}
}

// TestStoryDANE: TLSA records are obeyed where the DNS server says that they are authentic, and is
// believed.
func TestStoryDANE(t *testing.T) {
	d := newDaemon(t)
	d.start()
	_, cert, cfg := newTestCA(t).issue("other.example")
	peer := startSmarthostAs(t, false, "", cfg)
	zone := func(data string) string {
		return peerZone + fmt.Sprintf("_%d._tcp.mail.peer.example. 60 IN TLSA 3 1 1 %s\n. 60 IN SOA a. b. 1 2 3 4 5\n", peer.port, data)
	}
	wrong := zone(strings.Repeat("00", 32))
	good, insecure, broken := resolverAs(t, zone(spki(t, cert)), true), resolver(t, wrong), resolverAs(t, wrong, true)
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+good, fmt.Sprintf("queue.port=%d", peer.port))
	d.has("DNS server "+good+" checks DNSSEC", "check", "dns")
	d.has("on, if validated by "+good, "relay", "show", "-o", "json")
	sent := func(to, how string) {
		t.Helper()
		d.until(how+", TLS 1.3 TLS_", "log", "mail", "list", "--recipient", to+"@peer.example", "--status", "sent", "-o", "wide")
	}
	d.submit("bob", "good@peer.example")
	sent("good", "DANE")
	d.ok("net", "dns", "set", "--preferred", insecure)
	d.has("does not check DNSSEC", "check", "dns")
	quiet(t, peer.port)
	d.submit("bob", "insecure@peer.example")
	sent("insecure", "opportunistic")
	d.ok("net", "dns", "set", "--preferred", broken)
	quiet(t, peer.port)
	d.submit("bob", "broken@peer.example")
	d.until("matches none of the TLSA records; demanded by the TLSA records of mail.peer.example; to send all the same: mpctl delivery tls set peer.example --level may", "queue", "list", "-o", "json")
	d.ok("net", "dns", "set", "--dnssec", "none")
	d.has("off: no DNS server is believed", "relay", "show", "-o", "json")
	sent("broken", "opportunistic")
	if _, errs, _ := d.mpctl("delivery", "tls", "set", "peer.example", "--level", "dane"); !strings.Contains(errs, "no DNS server that validates is trusted") {
		t.Errorf("no warning about DANE without DNSSEC: %s", errs)
	}
	quiet(t, peer.port)
	d.submit("bob", "dane@peer.example")
	d.until("can't be verified by DANE", "queue", "list", "-o", "json")
	d.ok("net", "dns", "set", "--preferred", good, "--dnssec", "loopback")
	sent("dane", "DANE")
}

// TestPostfixTLS: Debian's Postfix with a certificate takes what DANE and the policies let pass, and
// nothing when its TLS is gone; its own client finds our certificate as it should be.
func TestPostfixTLS(t *testing.T) {
	d := newDaemon(t)
	d.start()
	p := startPostfix(t, d)
	cert := read(t, p.dir+"/etc/cert.pem")
	tlsa := fmt.Sprintf("_%d._tcp.mail.peer.example. 60 IN TLSA 3 1 1 ", p.port)
	good, bad := resolverAs(t, peerZone+tlsa+spki(t, cert)+"\n", true), resolverAs(t, peerZone+tlsa+strings.Repeat("00", 32)+"\n", true)
	d.ok("config", "set", "network.resolvers="+good, fmt.Sprintf("queue.port=%d", p.port), "queue.min-backoff=1", "queue.max-backoff=1")
	d.submit("bob", "ann@peer.example")
	p.has("ann", 1)
	d.until("DANE, TLS 1.3", "log", "mail", "list", "--recipient", "ann@peer.example", "-o", "wide")
	d.ok("net", "dns", "set", "--preferred", bad)
	p.quiet()
	d.submit("bob", "ben@peer.example")
	d.until("matches none of the TLSA records", "queue", "list", "-o", "json")
	d.ok("net", "dns", "set", "--preferred", good)
	p.has("ben", 1)

	p.set("smtpd_tls_security_level = none")
	d.submit("bob", "ann@peer.example")
	d.until("mail.peer.example offers no STARTTLS; demanded by the TLSA records", "queue", "list", "-o", "json")
	d.ok("delivery", "tls", "set", "peer.example", "--level", "may")
	p.has("ann", 2)
	p.set("smtpd_tls_security_level = may")
	d.ok("delivery", "tls", "set", "peer.example", "--level", "verify", "--name", "127.0.0.1")
	d.submit("bob", "ben@peer.example")
	d.until("self-signed and not trusted here", "queue", "list", "-o", "json")
	d.ok("delivery", "tls", "ca", "add", "postfix", "--cert", p.dir+"/etc/cert.pem")
	p.has("ben", 2)
	d.until("verified, TLS 1.3", "log", "mail", "list", "--recipient", "ben@peer.example", "-o", "wide")

	finger, err := exec.LookPath("posttls-finger")
	if err != nil {
		t.Skip("posttls-finger is not installed")
	}
	ca := newTestCA(t)
	key, own, _ := ca.issue("mail.example.test")
	d.ok("cert", "import", "own", "--cert", d.file("own.pem", own), "--key-file", d.file("own.key", key), "--default", "on")
	out, err := exec.Command(finger, "-c", "-l", "secure", "-F", d.file("ca.pem", ca.pem), fmt.Sprintf("[127.0.0.1]:%d", 2525+d.offset), "mail.example.test").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Verified TLS connection established") {
		t.Errorf("posttls-finger: %v\n%s", err, out)
	}
}

// TestStoryMTASTS: another domain's policy is fetched, kept over a restart and obeyed; our own is
// served and announced.
func TestStoryMTASTS(t *testing.T) {
	web, err := net.Listen("tcp", "127.45.0.1:443")
	if err != nil {
		t.Skipf("takes root, for port 443: %v", err)
	}
	d := newDaemon(t)
	d.start()
	ca := newTestCA(t)
	_, _, cfg := ca.issue("mail.peer.example")
	_, _, webCfg := ca.issue("mta-sts.peer.example")
	peer, naked := startSmarthostAs(t, false, "", cfg), startSmarthostAs(t, false, "", nil)
	srv := &http.Server{TLSConfig: webCfg, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "version: STSv1\nmode: enforce\nmx: mail.peer.example\nmax_age: 86400\n")
	})}
	go srv.ServeTLS(web, "", "")
	t.Cleanup(func() { srv.Close() })
	dns := resolver(t, peerZone+`mta-sts.peer.example. 60 IN A 127.45.0.1
_mta-sts.peer.example. 60 IN TXT "v=STSv1; id=1;"
`)
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", peer.port))
	d.ok("delivery", "tls", "ca", "add", "test", "--cert", d.file("ca.pem", ca.pem))
	d.submit("bob", "one@peer.example")
	d.until("MTA-STS, TLS 1.3 TLS_", "log", "mail", "list", "--recipient", "one@peer.example", "-o", "wide")
	d.stop()
	srv.Close()
	d.start()
	d.ok("config", "set", fmt.Sprintf("queue.port=%d", naked.port))
	d.submit("bob", "two@peer.example")
	d.until("offers no STARTTLS; demanded by the MTA-STS policy of peer.example; to send all the same: mpctl delivery tls set peer.example --level may", "queue", "list", "-o", "json")
	d.ok("delivery", "tls", "default", "set", "--mta-sts", "off")
	d.has("off: mpctl delivery tls default set --mta-sts on", "delivery", "tls", "default", "show")
	naked.wait(d, "bob@example.test > two@peer.example, , clear")

	// The other way round.
	d.fails(2, "outside", "domain", "mta-sts", "set", "example.test", "--max-age", "-1")
	d.fails(2, "no address", "domain", "mta-sts", "set", "example.test", "--report-to", "nobody")
	if _, errs, _ := d.mpctl("domain", "mta-sts", "set", "example.test", "--mode", "testing", "--report-to", "tls@example.test"); !strings.Contains(errs, "the HTTPS listener is off") || !strings.Contains(errs, "no certificate here is for mta-sts.example.test") {
		t.Errorf("no word on why nobody finds the policy: %s", errs)
	}
	key, cert, _ := ca.issue("mail.example.test", "mta-sts.example.test")
	d.ok("cert", "import", "own", "--cert", d.file("own.pem", cert), "--key-file", d.file("own.key", key), "--default", "on")
	d.ok("service", "autoconfig", "set", "--enable", "on", "--port", fmt.Sprint(2443+d.offset), "--http-port", fmt.Sprint(2480+d.offset), "--yes")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", d.port(2443))
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://mta-sts.example.test/.well-known/mta-sts.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := "version: STSv1\r\nmode: testing\r\nmx: mail.example.test\r\nmax_age: 604800\r\n"; string(text) != want || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v\n%s", resp.StatusCode, resp.Header, text)
	}
	records := d.ok("domain", "dns-records", "example.test", "--address", "192.0.2.1", "-o", "csv")
	id := regexp.MustCompile(`TXT,_mta-sts\.example\.test,v=STSv1; id=([0-9a-f]{20});`).FindStringSubmatch(records)
	if id == nil || !strings.Contains(records, "TXT,_smtp._tls.example.test,v=TLSRPTv1; rua=mailto:tls@example.test") || !strings.Contains(records, "CNAME,mta-sts.example.test,mail.example.test") {
		t.Fatalf("records:\n%s", records)
	}
	d.ok("config", "set", "network.resolvers="+resolver(t, "example.test. 60 IN MX 0 mail.example.test.\n_mta-sts.example.test. 60 IN TXT \"v=STSv1; id="+id[1]+";\"\n"))
	d.has("the MTA-STS record is that of the policy (testing)", "check", "dns", "example.test")
	d.ok("domain", "mta-sts", "set", "example.test", "--mode", "enforce")
	d.has("is not that of the policy as it is now", "check", "dns", "example.test")
	d.has("enforce", "domain", "mta-sts", "show", "example.test")
	d.ok("domain", "mta-sts", "set", "example.test", "--mode", "off")
	if resp, err := client.Get("https://mta-sts.example.test/.well-known/mta-sts.txt"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("off, and %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
}
