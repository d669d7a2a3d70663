package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestStoryTLSReport: what happens to TLS towards a domain that asks for reports is counted and sent to it.
func TestStoryTLSReport(t *testing.T) {
	d := newDaemon(t)
	d.start()
	_, _, cfg := newTestCA(t).issue("mail.peer.example")
	peer, naked := startSmarthostAs(t, false, "", cfg), startSmarthostAs(t, false, "", nil)
	dns := resolver(t, peerZone+`_smtp._tls.peer.example. 60 IN TXT "v=TLSRPTv1; rua=mailto:alice@example.test,https://peer.example/v1"
quiet.example. 60 IN MX 10 mail.peer.example.
`)
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", peer.port))
	d.fails(3, "reports on TLS are off", "delivery", "tls", "report", "send")
	if _, errs, _ := d.mpctl("delivery", "tls", "default", "set", "--reports", "on"); !strings.Contains(errs, "DKIM signature") {
		t.Errorf("no word on what reports need: %s", errs)
	}
	d.submit("bob", "one@peer.example")
	d.submit("bob", "one@quiet.example")
	peer.wait(d, "bob@example.test > one@peer.example, , tls")
	peer.wait(d, "bob@example.test > one@quiet.example, , tls")
	d.ok("config", "set", fmt.Sprintf("queue.port=%d", naked.port))
	quiet(t, peer.port) // the connection to the first server is kept for a moment, and only new ones count
	d.submit("bob", "two@peer.example")
	d.until("peer.example,no-policy-found,starttls-not-supported,", "delivery", "tls", "report", "list", "-o", "csv")
	if out := d.ok("delivery", "tls", "report", "list", "-o", "csv"); strings.Contains(out, "quiet.example") || !strings.Contains(out, "peer.example,no-policy-found,success,1,") {
		t.Errorf("counted:\n%s", out)
	}
	d.has("1", "delivery", "tls", "report", "send")
	d.until("Report Domain", "log", "mail", "list", "--recipient", "alice@example.test", "--search", "Report Domain: peer.example Submitter: example.test", "-o", "json")
	im := d.imap("alice")
	if _, err := im.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	text := d.body(im, 1)
	for _, want := range []string{"TLS-Report-Domain: peer.example", "report-type=\"tlsrpt\"", "Content-Type: application/tlsrpt+gzip", "From: <postmaster@example.test>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if out := d.ok("delivery", "tls", "report", "list", "-o", "csv"); strings.Contains(out, "peer.example") {
		t.Errorf("sent, and still counted:\n%s", out)
	}
}

// TestStoryTLSReportByHTTPS: a domain that takes reports by HTTPS only gets its report there, from a client
// that verifies the certificate, follows no redirect and keeps what is not taken.
func TestStoryTLSReportByHTTPS(t *testing.T) {
	web, err := net.Listen("tcp", "127.45.0.2:443")
	if err != nil {
		t.Skipf("takes root, for port 443: %v", err)
	}
	d := newDaemon(t)
	d.start()
	ca := newTestCA(t)
	_, _, cfg := ca.issue("mail.peer.example")
	_, _, webCfg := ca.issue("reports.peer.example")
	var mu sync.Mutex
	answer, asked, got := http.StatusFound, 0, []string(nil)
	srv := &http.Server{TLSConfig: webCfg, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		z, err := gzip.NewReader(r.Body)
		if err == nil && answer/100 == 2 && r.URL.Path != "/elsewhere" {
			text, _ := io.ReadAll(z)
			got = append(got, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+"\n"+string(text))
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answer)
	})}
	go srv.ServeTLS(web, "", "")
	t.Cleanup(func() { srv.Close() })
	peer := startSmarthostAs(t, false, "", cfg)
	dns := resolver(t, peerZone+`_smtp._tls.peer.example. 60 IN TXT "v=TLSRPTv1; rua=https://reports.peer.example/v1?for=peer"
reports.peer.example. 60 IN A 127.45.0.2
`)
	d.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", peer.port))
	d.ok("delivery", "tls", "default", "set", "--reports", "on")
	d.submit("bob", "one@peer.example")
	peer.wait(d, "bob@example.test > one@peer.example, , tls")
	d.until("peer.example,no-policy-found,success,1,", "delivery", "tls", "report", "list", "-o", "csv")
	d.fails(1, "certificate of reports.peer.example is not valid", "delivery", "tls", "report", "send")
	d.ok("delivery", "tls", "ca", "add", "test", "--cert", d.file("ca.pem", ca.pem))
	d.fails(1, "reports.peer.example answers 302", "delivery", "tls", "report", "send")
	mu.Lock()
	if asked != 1 {
		t.Errorf("asked %d times: a redirect was followed", asked)
	}
	answer = http.StatusServiceUnavailable
	mu.Unlock()
	d.fails(1, "answers 503", "delivery", "tls", "report", "send")
	d.has("peer.example", "delivery", "tls", "report", "list")
	mu.Lock()
	answer = http.StatusCreated
	mu.Unlock()
	d.has("1", "delivery", "tls", "report", "send")
	if out := d.ok("delivery", "tls", "report", "list", "-o", "csv"); strings.Contains(out, "peer.example") {
		t.Errorf("sent, and still counted:\n%s", out)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 1 || !strings.HasPrefix(got[0], "POST /v1?for=peer application/tlsrpt+gzip\n{") || !strings.Contains(got[0], `"policy-domain":"peer.example"`) || !strings.Contains(got[0], `"total-successful-session-count":1`) {
		t.Errorf("the receiver has %q", got)
	}
}
