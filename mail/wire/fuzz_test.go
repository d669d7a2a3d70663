package wire

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"pgregory.net/rapid"
)

// script is a connection whose input is given, cut into pieces of some sizes.
type script struct {
	in   []byte
	cuts []byte
	at   int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := len(s.in)
	if len(s.cuts) > 0 {
		n = 1 + int(s.cuts[s.at%len(s.cuts)])
		s.at++
	}
	n = copy(p, s.in[:min(n, len(s.in))])
	s.in = s.in[n:]
	return n, nil
}
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// single is a listener of one connection.
type single struct {
	c    chan net.Conn
	done <-chan struct{}
}

func (l single) Accept() (net.Conn, error) {
	select {
	case c := <-l.c:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (single) Close() error   { return nil }
func (single) Addr() net.Addr { return &net.TCPAddr{} }

// play runs a session on given input and returns the messages the backend took.
func play(in []byte, cuts []byte, slow bool) []string {
	be := &backend{slow: slow}
	c := NewConn(&script{in: in, cuts: cuts}, &Config{})
	g := NewSMTP(c, &SMTPConfig{Hostname: "mx.test", MaxMessage: 4000, MaxBodyLine: 300,
		SoftErrors: 1 << 30, HardErrors: 1 << 30, JunkLimit: 1 << 30})
	srv := smtp.NewServer(be)
	srv.MaxLineLength, srv.AllowInsecureAuth = 0, true
	srv.ErrorLog = log.New(io.Discard, "", 0)
	l := single{make(chan net.Conn, 1), c.Done()}
	l.c <- g
	_ = srv.Serve(l)
	_ = srv.Shutdown(bg)
	return be.got()
}

const preamble = "EHLO a\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\n"

// FuzzSMTP: what the backend sees as messages depends neither on how the input
// was cut nor on the way it is read.
func FuzzSMTP(f *testing.F) {
	for _, in := range []string{
		preamble + "DATA\r\nx\r\n.\r\n", preamble + "DATA\r\n..\r\n.\r\nMAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nBDAT 3\r\na\r\nBDAT 1 LAST\r\nb",
		preamble + "DATA\r\nx\n.\r\n.\r\n" + preamble + "DATA\r\n.\rx\r\n.\r\n", preamble + "DATA\r\n" + strings.Repeat("y", 301) + "\r\n.\r\nQUIT\r\n",
		"EHLO a\r\nAUTH PLAIN\r\nAHUAcA==\r\n" + "XCLIENT ADDR=1.2.3.4\r\nSTARTTLS\r\n" + preamble + "BDAT 5000 LAST\r\n",
	} {
		f.Add([]byte(in), []byte{0, 3, 1})
		f.Add([]byte(in), []byte{200})
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		whole := play(in, nil, false)
		for _, slow := range []bool{false, true} {
			if got := play(in, cuts, slow); !slices.Equal(got, whole) {
				t.Fatalf("slow=%v cuts %v: %q, uncut: %q", slow, cuts, got, whole)
			}
		}
	})
}

// FuzzProxy: a header of any form neither panics nor is over-read.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\nrest"), []byte{1})
	f.Add([]byte(string(proxyV2Sig)+"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x04\xd2\x00\x19rest"), []byte{0})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		run := func(cuts []byte) string {
			c := NewConn(&script{in: in, cuts: cuts}, &Config{Proxy: ProxyOptional})
			present, err := c.proxyHeader()
			if err != nil {
				return "refused"
			}
			rest, _ := io.ReadAll(c)
			return fmt.Sprint(present, c.RemoteAddr(), string(rest))
		}
		if a, b := run(nil), run(cuts); a != b {
			t.Fatalf("uncut %q, cut %q", a, b)
		}
	})
}

// FuzzXClient: what a proxy says of a client is taken whole or not at all, and nothing in it ends a line.
func FuzzXClient(f *testing.F) {
	f.Add("ADDR=IPV6:2001:db8::7 PORT=25 HELO=a+20b LOGIN=[UNAVAILABLE]")
	f.Add("NAME=+0D+0A ADDR=+")
	f.Fuzz(func(t *testing.T, arg string) {
		attrs, ok := parseXClient(arg)
		if ok == (len(attrs) == 0) {
			t.Errorf("%q: %v %v", arg, attrs, ok)
		}
		for k, v := range attrs {
			if strings.ContainsAny(k+v, "\r\n\x00") && !strings.ContainsAny(arg, "\r\n\x00") {
				t.Errorf("%q: %q is %q", arg, k, v)
			}
		}
		if ap, ok := override(netip.Addr{}, attrs["ADDR"], attrs["PORT"]); ok && attrs["ADDR"] != "" && !ap.Addr().IsValid() {
			t.Errorf("%q: %v", arg, ap)
		}
	})
}

// TestEndOfData holds the gate against a plain model: a message ends at the first
// CRLF.CRLF; it is taken, dots unstuffed, if it has no bare CR or LF, and the
// number of messages is that of clean DATA sections.
func TestEndOfData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in strings.Builder
		var want []string
		in.WriteString("EHLO a\r\n")
		for range rapid.IntRange(1, 4).Draw(t, "messages") {
			parts := rapid.SliceOfN(rapid.SampledFrom([]string{"\r\n", "\r\n", ".", "x", "\r", "\n", "yy"}), 0, 12).Draw(t, "body")
			raw := strings.Join(parts, "") + "\r\n.\r\n"
			text := "\r\n" + raw // the CRLF of DATA begins the first line
			i := strings.Index(text, "\r\n.\r\n")
			text = text[:i+2]
			in.WriteString("MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA" + text + ".\r\n")
			if rest := strings.ReplaceAll(text, "\r\n", ""); strings.ContainsAny(rest, "\r\n") {
				continue
			}
			want = append(want, strings.ReplaceAll(text, "\r\n.", "\r\n")[2:])
		}
		cuts := rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "cuts")
		for _, slow := range []bool{false, true} {
			if got := play([]byte(in.String()), cuts, slow); !slices.Equal(got, want) {
				t.Fatalf("slow=%v: got %q, want %q, input %q", slow, got, want, in.String())
			}
		}
	})
}
