package remote

import (
	"bufio"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailplusd/mail/model"
)

// auth is the server's side of three mechanisms; the login is relay-user with the password s3cret.
func (f *fake) auth(c net.Conn, r *bufio.Reader, line string) bool {
	enc := base64.StdEncoding
	ask := func(challenge string) string {
		fmt.Fprintf(c, "334 %s\r\n", enc.EncodeToString([]byte(challenge)))
		answer, _ := r.ReadString('\n')
		raw, _ := enc.DecodeString(strings.TrimSpace(answer))
		return string(raw)
	}
	words := strings.Fields(line)
	good := false
	switch words[1] {
	case "PLAIN":
		raw, _ := enc.DecodeString(words[2])
		good = string(raw) == "\x00relay-user\x00s3cret"
	case "LOGIN":
		good = ask("Username:") == "relay-user" && ask("Password:") == "s3cret"
	case "SCRAM-SHA-256":
		raw, _ := enc.DecodeString(words[2])
		bare := strings.TrimPrefix(string(raw), "n,,")
		nonce := bare[strings.Index(bare, ",r=")+3:] + "server"
		first := "r=" + nonce + ",s=" + enc.EncodeToString([]byte("salt")) + ",i=4096"
		answer := ask(first)
		final, proof, _ := strings.Cut(answer, ",p=")
		salted, _ := pbkdf2.Key(sha256.New, "s3cret", []byte("salt"), 4096, 32)
		key := mac(salted, "Client Key")
		stored := sha256.Sum256(key)
		sig := mac(stored[:], bare+","+first+","+final)
		for i := range sig {
			sig[i] ^= key[i]
		}
		if good = enc.EncodeToString(sig) == proof; good {
			ask("v=" + enc.EncodeToString(mac(mac(salted, "Server Key"), bare+","+first+","+final)))
		}
	}
	if s := f.script["AUTH"]; s != "" {
		fmt.Fprintf(c, "%s\r\n", s)
	} else if good {
		fmt.Fprintf(c, "235 2.7.0 welcome\r\n")
	} else {
		fmt.Fprintf(c, "535 5.7.8 who are you\r\n")
	}
	return true
}

func TestRelayLogin(t *testing.T) {
	// covers: R7.88
	cert := serverTLS(t)
	for _, x := range []struct {
		name, offer, tls, mode, password string
		server                           string // how the relay does TLS
		want                             string // part of the reason; empty: delivered
	}{
		{"plain", "AUTH PLAIN LOGIN", "starttls", TLSStartTLS, "s3cret", "", ""},
		{"old form", "AUTH=LOGIN PLAIN", "starttls", TLSRequire, "s3cret", "", ""},
		{"login", "AUTH LOGIN", "starttls", TLSRequire, "s3cret", "", ""},
		{"scram", "AUTH PLAIN SCRAM-SHA-256", "starttls", TLSRequire, "s3cret", "", ""},
		{"wrapper", "AUTH PLAIN", "wrapped", TLSWrapped, "s3cret", "wrapped", ""},
		{"in clear, wanted so", "AUTH PLAIN", "", TLSNone, "s3cret", "", ""},
		{"wrong password", "AUTH PLAIN", "starttls", TLSStartTLS, "old", "", "535 5.7.8 who are you"},
		{"wrong password, login", "AUTH LOGIN", "starttls", TLSStartTLS, "old", "", "535 5.7.8 who are you"},
		{"wrong password, scram", "AUTH SCRAM-SHA-256", "starttls", TLSStartTLS, "old", "", "535 5.7.8 who are you"},
		{"no TLS", "AUTH PLAIN", "", TLSStartTLS, "s3cret", "", "not sent in clear"},
		{"no TLS, required", "AUTH PLAIN", "", TLSRequire, "s3cret", "", "no STARTTLS"},
		{"TLS fails", "AUTH PLAIN", "starttls", TLSStartTLS, "s3cret", "close", "TLS failed"},
		{"no login", "SIZE", "starttls", TLSStartTLS, "s3cret", "", "offers no login"},
		{"unknown mechanisms", "AUTH GSSAPI", "starttls", TLSStartTLS, "s3cret", "", "no login that is known"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: []string{"PIPELINING", x.offer}, script: map[string]string{"tls": x.server}}
			if x.tls != "" {
				f.tls = cert
			}
			_, c := newWorld(t, "relay.test. 60 IN A 192.0.2.7\n", map[string]*fake{"192.0.2.7:587": f})
			j := job("elsewhere.test", sample, "x@elsewhere.test", "y@third.test")
			j.Route = &Route{Host: "relay.test", Port: 587, TLS: x.mode, User: "relay-user", Password: x.password}
			for _, res := range c.Deliver(context.Background(), j) {
				switch {
				case x.want == "" && (res.Outcome != model.OutcomeDelivered || (res.TLS == Clear) != (x.mode == TLSNone)):
					t.Errorf("%s: %+v", x.name, res)
				case x.want != "" && (res.Outcome != model.OutcomeDeferred || !strings.Contains(res.Reason, x.want)):
					t.Errorf("%s: %+v, want %q", x.name, res, x.want)
				}
			}
			for _, line := range f.lines {
				if x.want == "" || x.tls != "" && x.server != "close" {
					break
				}
				if strings.Contains(line, "AUTH") {
					t.Errorf("%s: the password went out in clear: %s", x.name, line)
				}
			}
			c.Close()
		})
	}
}

// A password that is changed while a connection is kept is not used on.
func TestChangedPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ext: []string{"AUTH PLAIN"}, script: map[string]string{}}
		_, c := newWorld(t, "", map[string]*fake{"192.0.2.7:587": f})
		j := job("elsewhere.test", sample, "x@elsewhere.test")
		j.Route = &Route{Host: "192.0.2.7", Port: 587, TLS: TLSNone, User: "relay-user", Password: "s3cret"}
		if res := c.Deliver(context.Background(), j)[0]; res.Outcome != model.OutcomeDelivered {
			t.Fatalf("%+v", res)
		}
		j.Route = &Route{Host: "192.0.2.7", Port: 587, TLS: TLSNone, User: "relay-user", Password: "new"}
		if res := c.Deliver(context.Background(), j)[0]; res.Outcome != model.OutcomeDeferred || f.conns != 2 {
			t.Errorf("%+v over %d connections", res, f.conns)
		}
		c.Close()
	})
}

// TLS that fails behind STARTTLS: mail to others goes in clear and says so, a relay that must be
// encrypted gets nothing.
func TestTLSFailure(t *testing.T) {
	// covers: I.30
	for _, fault := range []string{"close", "refuse"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{tls: serverTLS(t), script: map[string]string{"tls": fault}}
			if fault == "refuse" {
				f.script["STARTTLS"] = "454 4.7.0 TLS not available"
			}
			_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
			res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]
			if res.Outcome != model.OutcomeDelivered || res.TLS != Clear || !strings.Contains(res.Note, "sent in clear") {
				t.Errorf("%s: %+v", fault, res)
			}
			j := job("one.test", sample, "x@one.test")
			j.Route = &Route{Host: "192.0.2.1", TLS: TLSRequire}
			if res := c.Deliver(context.Background(), j)[0]; res.Outcome != model.OutcomeDeferred || !strings.Contains(res.Reason, "TLS") || f.count() != 1 {
				t.Errorf("%s, required: %+v", fault, res)
			}
			c.Close()
		})
	}
}

func TestUTF8AndEightBit(t *testing.T) {
	text := "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\ngrüße\r\n"
	for _, x := range []struct {
		name, ext, from, to, header string
		utf8                        bool
		want                        model.Outcome
		has                         string // in commands or message, or the reason of a failure
	}{
		{"offered", "SMTPUTF8", "jörg@us.test", "ünö@one.test", "", true, model.OutcomeDelivered, " SMTPUTF8"},
		{"not offered", "", "jörg@us.test", "x@one.test", "", true, model.OutcomeFailed, "SMTPUTF8"},
		{"sender is ASCII", "", "a@us.test", "ünö@one.test", "", true, model.OutcomeFailed, "SMTPUTF8"},
		{"only the domain is not ASCII", "", "a@us.test", "x@bücher.test", "", true, model.OutcomeDelivered, "<x@xn--bcher-kva.test>"},
		{"header is not ASCII", "8BITMIME", "a@us.test", "x@one.test", "To: jörg@x.test\r\n", true, model.OutcomeFailed, "header is not ASCII"},
		{"8BITMIME", "8BITMIME", "a@us.test", "x@one.test", "", false, model.OutcomeDelivered, "BODY=8BITMIME"},
		{"converted", "", "a@us.test", "x@one.test", "", false, model.OutcomeDelivered, "gr=C3=BC=C3=9Fe"},
		{"signed", "", "a@us.test", "x@one.test", "Content-Type: multipart/signed; boundary=b\r\n", false, model.OutcomeFailed, "signed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: []string{"PIPELINING", x.ext}, script: map[string]string{}}
			_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
			body := x.header + text
			if x.name == "signed" {
				body = x.header + "\r\n--b\r\n" + text + "--b--\r\n"
			}
			j := job("one.test", body, x.to)
			j.From, j.UTF8, j.EightBit = x.from, x.utf8, true
			res := c.Deliver(context.Background(), j)[0]
			all := strings.Join(f.lines, "\n") + strings.Join(f.got, "") + res.Reason
			if res.Outcome != x.want || !strings.Contains(all, x.has) {
				t.Errorf("%s: %+v\n%s", x.name, res, all)
			}
			if x.want == model.OutcomeFailed && f.count() != 0 {
				t.Errorf("%s: sent all the same", x.name)
			}
			c.Close()
		})
	}
}

func TestLimitsOfTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ext: []string{"SIZE 1", "DSN"}, script: map[string]string{}}
		_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
		if res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]; res.Outcome != model.OutcomeFailed || !strings.Contains(res.Reason, "takes 1 at most") {
			t.Errorf("SIZE 1: %+v", res)
		}
		f.ext = []string{"SIZE 0", "DSN"}
		j := job("one.test", sample, "x@one.test")
		j.EnvID, j.Ret = "a+b=c d", "HDRS"
		j.Rcpts[0].Notify, j.Rcpts[0].ORcpt = "SUCCESS,DELAY", "rfc822;Bob+1@orig.test"
		c.Close()
		_, c = newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
		res := c.Deliver(context.Background(), j)[0]
		lines := strings.Join(f.lines, "\n")
		if !res.DSN || !strings.Contains(lines, "RET=HDRS ENVID=a+2Bb+3Dc+20d") || !strings.Contains(lines, "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2B1@orig.test") {
			t.Errorf("%+v\n%s", res, lines)
		}
		c.Close()
	})
}

func TestWays(t *testing.T) {
	// covers: I.30
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "many.test. 60 IN MX %d h%d.many.test.\nh%d.many.test. 60 IN A 192.0.3.%d\n", 10+i/500, i, i, i%250)
	}
	zone := twoHosts + many.String() + `
loop.test. 60 IN MX 10 us.test.
loop.test. 60 IN MX 20 one.two.test.
backup.test. 60 IN MX 5 down.test.
backup.test. 60 IN MX 10 us.test.
backup.test. 60 IN MX 10 one.two.test.
backup.test. 60 IN MX 20 other.two.test.
us.test. 60 IN A 192.0.2.99
down.test. 60 IN A 192.0.2.98
six.test. 60 IN MX 10 v6.six.test.
v6.six.test. 60 IN AAAA 2001:db8::1
null.test. 60 IN MX 0 .
cname.test. 60 IN CNAME cname.test.
gone.test. 60 IN MX 10 nothing.gone.test.
`
	for domain, want := range map[string]struct {
		outcome model.Outcome
		reason  string
	}{
		"one.test": {model.OutcomeDelivered, "250"}, "loop.test": {model.OutcomeFailed, "loops back"}, "backup.test": {model.OutcomeDeferred, "refused"},
		"six.test": {model.OutcomeDelivered, "250"}, "null.test": {model.OutcomeFailed, "null MX"}, "cname.test": {model.OutcomeFailed, "no address"},
		"many.test": {model.OutcomeDeferred, "refused"}, "gone.test": {model.OutcomeFailed, "no address"}, "unknown.test": {model.OutcomeFailed, "does not exist"},
		"[192.0.2.1]": {model.OutcomeDelivered, "250"}, "[IPv6:2001:db8::1]": {model.OutcomeDelivered, "250"}, "[nonsense]": {model.OutcomeFailed, "bad address literal"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: []string{"PIPELINING"}, script: map[string]string{}}
			w, c := newWorld(t, zone, map[string]*fake{"192.0.2.1": f, "192.0.2.2": f, "2001:db8::1": f})
			c.Ours = func(ap netip.AddrPort) bool { return ap.String() == "192.0.2.99:25" }
			res := c.Deliver(context.Background(), job(domain, sample, "x@"+domain))[0]
			if res.Outcome != want.outcome || !strings.Contains(res.Reason, want.reason) {
				t.Errorf("%s: %+v", domain, res)
			}
			if w.asked > 2*maxHosts+2 {
				t.Errorf("%s: %d questions to DNS", domain, w.asked)
			}
			c.Close()
		})
	}
}

func TestSilentDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, twoHosts, nil)
		w.dead = time.Hour
		begun := time.Now()
		res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]
		if took := time.Since(begun); res.Outcome != model.OutcomeDeferred || !res.Down || took > baseTime {
			t.Errorf("after %s: %+v", took, res)
		}
	})
	synctest.Test(t, func(t *testing.T) { // and a connection that never opens
		f := &fake{script: map[string]string{"connect": "hang"}}
		_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
		begun := time.Now()
		res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]
		if took := time.Since(begun); res.Outcome != model.OutcomeDeferred || !res.Down || took > connectTime {
			t.Errorf("after %s: %+v", took, res)
		}
	})
}

// A context that ends closes the connection at once.
func TestStoppedInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: map[string]string{"MAIL": "hang"}}
		_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begun := time.Now()
		res := c.Deliver(ctx, job("one.test", sample, "x@one.test"))[0]
		if time.Since(begun) > 2*time.Second || res.Outcome != model.OutcomeDeferred {
			t.Errorf("after %s: %+v", time.Since(begun), res)
		}
	})
}
