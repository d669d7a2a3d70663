package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestStoryPairSending: what one node knows of sending the other one knows when it takes over: the DKIM key,
// the MTA-STS policies of others, what was counted for reports on TLS, each of which is sent once; rules that hold mail, and what they hold.
func TestStoryPairSending(t *testing.T) {
	// covers: I.76
	web, err := net.Listen("tcp", "127.45.0.2:443")
	if err != nil {
		t.Skipf("takes root, for port 443: %v", err)
	}
	l := newLAN(t)
	a, b := l.pair()
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
	dns := resolver(t, peerZone+`mta-sts.peer.example. 60 IN A 127.45.0.2
_mta-sts.peer.example. 60 IN TXT "v=STSv1; id=1;"
_smtp._tls.peer.example. 60 IN TXT "v=TLSRPTv1; rua=mailto:alice@example.test"
quiet.example. 60 IN MX 10 mail.peer.example.
`)
	a.ok("config", "set", "queue.min-backoff=1", "queue.max-backoff=1", "network.resolvers="+dns, fmt.Sprintf("queue.port=%d", peer.port))
	a.ok("delivery", "tls", "ca", "add", "test", "--cert", a.file("ca.pem", ca.pem))
	a.ok("delivery", "tls", "default", "set", "--reports", "on")
	a.ok("domain", "dkim", "enable", "example.test")
	keys := a.published("example.test")
	a.submit("bob", "one@peer.example")
	peer.wait(a.process, "bob@example.test > one@peer.example, , tls")
	for _, n := range []*twin{a, b} { // the first one stores what it has counted, which is done each 5 minutes
		n.until("the delivery is counted", func() bool {
			out, _, _ := n.mpctl("delivery", "tls", "report", "list", "-o", "csv")
			return strings.Contains(out, "peer.example,sts,success,1,")
		})
	}
	srv.Close()
	a.ok("queue", "hold-rule", "add", "move", "--domain", "held.example")
	a.submit("bob", "one@held.example")
	a.ok("config", "set", fmt.Sprintf("queue.port=%d", naked.port))
	b.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	a.kill()
	b.is("solo-secondary")

	b.submit("bob", "two@held.example")
	if out := b.ok("queue", "list", "--state", "held", "--reason", `held by rule "move"`, "-o", "csv"); !strings.Contains(out, "one@held.example") || !strings.Contains(out, "two@held.example") {
		t.Errorf("held are %s", out)
	}
	b.submit("bob", "two@peer.example")
	b.until("the policy that the other node has fetched holds", func() bool {
		out, _, _ := b.mpctl("queue", "list", "-o", "json")
		return strings.Contains(out, "demanded by the MTA-STS policy of peer.example")
	})
	b.submit("bob", "two@quiet.example")
	naked.wait(b.process, "bob@example.test > two@quiet.example, , clear")
	var texts []string
	for _, h := range []*smarthost{peer, naked} {
		h.mu.Lock()
		texts = append(texts, strings.Join(h.text, ""))
		h.mu.Unlock()
	}
	all, good := signatures(t, keys, texts...)
	for i, text := range texts {
		if all[i] != 1 || len(good[i]) != 1 || good[i][0] != "example.test" {
			t.Errorf("%d signatures, of %q they hold\n%s", all[i], good[i], text)
		}
	}

	b.ok("queue", "delete", "--all", "--recipient", "two@peer.example", "--yes") // no more attempts, which count
	b.has("1", "delivery", "tls", "report", "send")
	a.run()
	a.ok("ha", "wait", "--for", "sync", "--timeout", "60")
	a.until("the report is here", func() bool { return a.inbox("alice") > 0 })
	a.ok("ha", "switchover", "a", "--yes")
	a.is("pair")
	a.has("0", "delivery", "tls", "report", "send")
	if n := a.inbox("alice"); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
}
