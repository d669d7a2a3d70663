package remote

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
)

// recording is a connection to a server that has said all that it will ever say, and keeps what it hears.
type recording struct {
	io.Reader
	heard bytes.Buffer
}

func (r *recording) Write(p []byte) (int, error)      { return r.heard.Write(p) }
func (r *recording) Close() error                     { return nil }
func (r *recording) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (r *recording) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (r *recording) SetDeadline(time.Time) error      { return nil }
func (r *recording) SetReadDeadline(time.Time) error  { return nil }
func (r *recording) SetWriteDeadline(time.Time) error { return nil }

// FuzzConversation: whatever a server says from its greeting on, about its extensions, to a login or to a text:
// each recipient has one result, nothing is delivered without a 2xx of the server's, and no password is sent in clear
// behind a route that forbids it.
func FuzzConversation(f *testing.F) {
	const begin = "220 x\r\n250-x\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-LIMITS RCPTMAX=1\r\n250 8BITMIME\r\n"
	for _, in := range []string{
		begin + "250 a\r\n250 b\r\n354 c\r\n250 d\r\n250 a\r\n250 b\r\n354 c\r\n250 d\r\n", begin + "250 a\r\n452 b\r\n354 c\r\n250 d\r\n",
		"220 x\r\n250-x\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n250 a\r\n250 b\r\n550 c\r\n250 d\r\n", "220 x\r\n500 what\r\n250 x\r\n250 a\r\n250 b\r\n550 b\r\n354 c\r\n250 d\r\n",
		"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n\x16\x03\x03\x00\x02xx", "220 x\r\n250-x\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n334 cj14LHM9eA==\r\n", "220 x\r\n250-x\r\n250 AUTH=LOGIN\r\n334 a\r\n334 b\r\n235 c\r\n250 a\r\n250 b\r\n250 b\r\n354 c\r\n250 d\r\n",
	} {
		for _, way := range []byte{0, 1, 2, 4, 5, 6} {
			f.Add([]byte(in), way)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, way byte) {
		var conns []*recording
		c := &Client{
			Resolvers: func() []string { return nil }, Hello: func() string { return "us.test" }, Port: func() int { return 25 }, UseTLS: func() bool { return true },
			Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
				conns = append(conns, &recording{Reader: bytes.NewReader(in)})
				return conns[len(conns)-1], nil
			},
		}
		defer c.Close()
		j := job("one.test", sample, "x@one.test", "y@one.test")
		j.Rcpts[0].N, j.Rcpts[1].N = 7, 9
		j.Route = &Route{Host: "192.0.2.1", TLS: []string{TLSNone, TLSStartTLS, TLSRequire}[way%3]}
		if way&4 != 0 {
			j.Route.User, j.Route.Password = "me", "very-secret-word"
		}
		res := c.Deliver(context.Background(), j)
		if len(res) != 2 || res[0].N != 7 || res[1].N != 9 {
			t.Fatalf("%+v", res)
		}
		for _, r := range res {
			if r.Outcome == model.OutcomeDelivered && (r.Code/100 != 2 || !bytes.Contains(in, []byte(strconv.Itoa(r.Code)))) || r.Outcome == model.OutcomeDelivered && j.Route.TLS == TLSRequire {
				t.Errorf("%+v", r)
			}
			if len(r.Reason) > 2*maxReason || strings.ContainsAny(r.Reason+r.Note, "\r\n\x00") {
				t.Errorf("%q", r.Reason)
			}
		}
		for _, conn := range conns {
			clear := conn.heard.String()
			if j.Route.TLS != TLSNone && (strings.Contains(clear, b64("very-secret-word")) || strings.Contains(clear, b64("\x00me\x00very-secret-word"))) {
				t.Errorf("the password went in clear: %q", clear)
			}
		}
	})
}

// FuzzParameters: an envelope ID and an original recipient of any form are one word of a command each, and read back
// as what they were.
func FuzzParameters(f *testing.F) {
	f.Add("a+b=c d", "rfc822;Bob+1@orig.test")
	f.Add("\r\nRCPT TO:<x@y>", "utf-8;jörg\\x=1@b.test")
	f.Add("", "x\r\ny;z")
	f.Fuzz(func(t *testing.T, id, orcpt string) {
		if got := unxtext(t, xtext(id)); got != id {
			t.Errorf("%q is read as %q", id, got)
		}
		tr := &transaction{s: &session{ext: map[string]string{"DSN": ""}}}
		line, err := tr.rcpt(&model.QueueRcpt{Address: "x@y.test", ORcpt: orcpt})
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(line, "RCPT TO:<x@y.test>")
		for _, c := range []byte(rest) {
			ok = ok && c >= ' ' && c < 0x7f
		}
		if !ok || strings.Count(rest, " ") > 1 || rest != "" && !strings.HasPrefix(rest, " ORCPT=") {
			t.Errorf("%q becomes %q", orcpt, line)
		}
	})
}

// unxtext reads xtext as RFC 3461 §4 has it.
func unxtext(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && i+3 <= len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			b.WriteByte(byte(n))
			i += 2
		case c <= ' ' || c > '~' || c == '=' || c == '+':
			t.Fatalf("%q is no xtext", s)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
