package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// pair returns a gated connection and its client.
func pair(t testing.TB, cfg Config) (*Conn, *peer, *Listener) {
	t.Helper()
	l, err := Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, l)
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := nc.(*Conn)
	t.Cleanup(func() { c.Abort("test over"); _ = l.Close() })
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c, p, l
}

func TestReaders(t *testing.T) {
	c, p, _ := pair(t, Config{})
	long := strings.Repeat("x", 70000)
	go p.send("a\r\nbb\n" + long + "\r\nnext\r\nfive!{3}\r\n" + "abcrest\r\n" + long + "end")
	for _, want := range []string{"a", "bb"} {
		if line, err := c.ReadLine(100); err != nil || string(line) != want {
			t.Fatalf("%q %v", line, err)
		}
	}
	if _, err := c.ReadLine(60000); !errors.Is(err, ErrLineTooLong) {
		t.Fatal(err)
	}
	if line, err := c.ReadLine(4); err != nil || string(line) != "next" {
		t.Fatalf("%q %v", line, err)
	}
	if b, err := c.Peek(5); err != nil || string(b) != "five!" {
		t.Fatalf("%q %v", b, err)
	}
	if b, err := c.ReadN(5); err != nil || string(b) != "five!" {
		t.Fatalf("%q %v", b, err)
	}
	if line, err := c.ReadLine(100); err != nil || string(line) != "{3}" {
		t.Fatalf("%q %v", line, err)
	}
	if b, err := io.ReadAll(c.Literal(3)); err != nil || string(b) != "abc" {
		t.Fatalf("%q %v", b, err)
	}
	if line, err := c.ReadLine(100); err != nil || string(line) != "rest" {
		t.Fatalf("%q %v", line, err)
	}
	lit := c.Literal(70000)
	if _, err := io.ReadFull(lit, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := lit.Discard(); err != nil || lit.Remaining() != 0 {
		t.Fatal(err, lit.Remaining())
	}
	if b, err := c.ReadN(3); err != nil || string(b) != "end" {
		t.Fatalf("%q %v", b, err)
	}
	_ = p.Close()
	if _, err := io.ReadAll(c.Literal(3)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if c.CloseReason() != ReasonClient {
		t.Error(c.CloseReason())
	}
}

// TestBlockedWrite: while the reader waits, another goroutine's write leaves at
// once; before that, writes are collected.
func TestBlockedWrite(t *testing.T) {
	c, p, _ := pair(t, Config{})
	_, _ = c.WriteString("* one\r\n")
	if c.BytesOut() != 0 {
		t.Error("not collected")
	}
	done := make(chan error, 1)
	go func() { _, err := c.ReadLine(100); done <- err }()
	if line, _ := p.r.ReadString('\n'); line != "* one\r\n" {
		t.Errorf("%q", line)
	}
	_, _ = c.WriteString("* two\r\n")
	if line, _ := p.r.ReadString('\n'); line != "* two\r\n" {
		t.Errorf("%q", line)
	}
	p.send("DONE\r\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	big := strings.Repeat("y", writeLimit+5)
	_, _ = c.WriteString(big)
	if got, err := io.ReadAll(io.LimitReader(p.r, int64(len(big)))); err != nil || string(got) != big {
		t.Error("large write", err)
	}
	if c.BytesIn() != 6 || c.BytesOut() != int64(14+len(big)) {
		t.Error(c.BytesIn(), c.BytesOut())
	}
}

// TestWaitReadable ends with its context, leaves the connection usable, and holds
// no pooled buffer, with and without TLS.
func TestWaitReadable(t *testing.T) {
	for _, secure := range []bool{false, true} {
		c, p, _ := pair(t, Config{TLS: testTLS, ImplicitTLS: secure})
		if secure {
			up := make(chan struct{})
			go func() { defer close(up); p.upgrade() }()
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			<-up
		}
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			if err := c.WaitReadable(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
			if c.big != nil || c.out != nil {
				t.Error("holds a buffer")
			}
		}
		go p.send("DONE\r\n")
		if err := c.WaitReadable(context.Background()); err != nil {
			t.Fatal(err)
		}
		if line, err := c.ReadLine(10); err != nil || string(line) != "DONE" {
			t.Errorf("%q %v", line, err)
		}
	}
}

// TestLiteralProgress: a literal that takes longer than the gap allowed between
// bytes succeeds as long as bytes keep coming; a dribble does not.
func TestLiteralProgress(t *testing.T) {
	for _, tc := range []struct {
		rate int64
		ok   bool
	}{{100, true}, {100000, false}} {
		c, p, _ := pair(t, Config{Timeouts: Timeouts{Data: 200 * time.Millisecond, MinRate: tc.rate}})
		go func() {
			tick := time.NewTicker(25 * time.Millisecond)
			defer tick.Stop()
			for range 20 {
				<-tick.C
				if _, err := p.Write([]byte(strings.Repeat("z", 100))); err != nil {
					return
				}
			}
		}()
		n, err := io.Copy(io.Discard, c.Literal(2000))
		var te *TimeoutError
		if tc.ok && (err != nil || n != 2000) {
			t.Errorf("rate %d: %d bytes, %v", tc.rate, n, err)
		}
		if !tc.ok && (!errors.As(err, &te) || te.Reason != ReasonData) {
			t.Errorf("rate %d: %d bytes, %v", tc.rate, n, err)
		}
	}
}

// TestRate checks the arithmetic of the minimal rate without waiting.
func TestRate(t *testing.T) {
	to := Timeouts{Data: time.Minute, MinRate: 100, Command: time.Second, Idle: time.Hour}
	start := time.Now()
	p := progress{phase: phaseData, since: start}
	for _, tc := range []struct {
		bytes int64
		at    time.Duration
		want  time.Duration
	}{
		{0, 0, time.Minute}, {0, 59 * time.Second, time.Minute}, {100 * 3600, 30 * time.Minute, 31 * time.Minute},
		{100 * 10, 65 * time.Second, 70 * time.Second}, {1 << 50, time.Hour, time.Hour + time.Minute},
	} {
		p.bytes = tc.bytes
		if got := p.deadline(&to, start.Add(tc.at)).Sub(start); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// TestSNI: the certificate getter sees the name, and old protocols are refused.
// covers: R6.08 R6.10
func TestSNI(t *testing.T) {
	names := make(chan string, 2)
	be := &backend{}
	l := serve(t, be, &SMTPConfig{}, Config{ImplicitTLS: true, TLS: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return testTLS(h)
	}})
	p := dial(t, l)
	c := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example.org"})
	p.Conn, p.r = c, bufio.NewReader(c)
	caps := p.hello()
	if n := <-names; n != "mail.example.org" || !strings.Contains(caps, "AUTH PLAIN") {
		t.Errorf("%q %q", n, caps)
	}
	p.do("QUIT", "221 ")
	old := dial(t, l)
	hello := "\x16\x03\x00\x00\x2f\x01\x00\x00\x2b\x03\x00" + strings.Repeat("r", 32) + "\x00\x00\x04\x00\x0a\x00\x05\x01\x00"
	old.send(hello)
	if b, _ := io.ReadAll(old.r); len(b) > 0 && b[0] != 0x15 {
		t.Errorf("SSLv3 hello answered with %x", b)
	}
}

// TestLimits: excess connections get a polite text and are counted out again.
// covers: R7.70 R7.71
func TestLimits(t *testing.T) {
	cfg := Config{Protocol: SMTP(&SMTPConfig{Hostname: "mx.test"}), Limits: Limits{MaxPerIP: 1}}
	l, err := Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first := dial(t, l)
	c, _ := l.Accept()
	second := dial(t, l)
	second.want("421 4.7.0 mx.test Error: too many connections from your address")
	second.closed()
	_ = first.Close()
	_ = c.Close()
	dial(t, l)
	if c, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if l.Len() != 0 {
		t.Error(l.Len())
	}

	m := newLimiter(Limits{MaxConns: 3, PerMinute: 2, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, Clients{})
	now := time.Unix(6000, 0)
	for i, tc := range []struct {
		ip   string
		at   time.Duration
		want Refusal
		keep bool
	}{
		{"2001:db8::1", 0, Accepted, false}, {"2001:db8::2", time.Second, Accepted, false},
		{"2001:db8::3", 2 * time.Second, RefusedPerMinute, false}, {"2001:db8:0:1::1", 3 * time.Second, Accepted, false},
		{"2001:db8::4", 61 * time.Second, RefusedPerMinute, false}, {"2001:db8::4", 63 * time.Second, Accepted, false},
		{"10.0.0.1", 64 * time.Second, Accepted, true}, {"10.0.0.1", 64 * time.Second, Accepted, true},
		{"10.0.0.1", 64 * time.Second, Accepted, true}, {"10.0.0.1", 64 * time.Second, RefusedTotal, true},
	} {
		n, got := m.enter(netip.MustParseAddr(tc.ip), now.Add(tc.at))
		if got != tc.want {
			t.Errorf("%d: %v, want %v", i, got, tc.want)
		}
		if got == Accepted && !tc.keep {
			m.leave(n)
		}
	}
	m = newLimiter(Limits{Rate: 1, Burst: 2}, Clients{})
	ip := netip.MustParseAddr("192.0.2.1")
	for i, want := range []Refusal{Accepted, Accepted, RefusedRate} {
		if _, got := m.enter(ip, now); got != want {
			t.Errorf("rate %d: %v", i, got)
		}
	}
}

// TestRebind: a listener moves while connections stay.
func TestRebind(t *testing.T) {
	c, p, l := pair(t, Config{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := l.Rebind(addr); err == nil {
		t.Fatal("bound a port in use")
	}
	_ = dial(t, l)
	if nc, err := l.Accept(); err != nil {
		t.Fatal(err)
	} else {
		_ = nc.Close()
	}
	_ = free.Close()
	if err := l.Rebind(addr); err != nil {
		t.Fatal(err)
	}
	if l.Addr().String() != addr {
		t.Error(l.Addr())
	}
	_ = dial(t, l)
	if nc, err := l.Accept(); err != nil {
		t.Fatal(err)
	} else {
		_ = nc.Close()
	}
	go p.send("still\r\n")
	if line, err := c.ReadLine(10); err != nil || string(line) != "still" {
		t.Errorf("%q %v", line, err)
	}
}

// TestShutdown: a waiting client gets a goodbye, a busy one after its command.
func TestShutdown(t *testing.T) {
	c, p, l := pair(t, Config{Protocol: IMAP{}})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	got := make(chan error, 1)
	go func() {
		_, err := c.ReadLine(100)
		got <- err
	}()
	if err := l.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	p.want("* BYE [UNAVAILABLE]")
	if err := <-got; err == nil {
		t.Error("read went on")
	}
	if c.CloseReason() != ReasonShutdown {
		t.Error(c.CloseReason())
	}
}

func TestProxy(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	src, dst := netip.MustParseAddrPort("192.0.2.7:1234"), netip.MustParseAddrPort("192.0.2.1:25")
	v6 := netip.MustParseAddrPort("[2001:db8::7]:1234")
	for _, tc := range []struct {
		name, header string
		mode         ProxyMode
		from         []netip.Prefix
		want         string // remote address; "" is the socket's, "-" refused
	}{
		{"v1", "PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\n", ProxyRequired, local, "192.0.2.7:1234"},
		{"v1 six", "PROXY TCP6 2001:db8::7 2001:db8::1 1234 25\r\n", ProxyOptional, local, "[2001:db8::7]:1234"},
		{"v1 unknown", "PROXY UNKNOWN\r\n", ProxyRequired, local, ""},
		{"v2", string(AppendProxyV2(nil, src, dst)), ProxyRequired, local, "192.0.2.7:1234"},
		{"v2 six", string(AppendProxyV2(nil, v6, dst)), ProxyRequired, local, "[2001:db8::7]:1234"},
		{"v2 local", string(proxyV2Sig) + "\x20\x00\x00\x00", ProxyRequired, local, ""},
		{"v2 TLV", string(proxyV2Sig) + "\x21\x11\x00\x10\xc0\x00\x02\x07\xc0\x00\x02\x01\x04\xd2\x00\x19\x04\x00\x01x", ProxyRequired, local, "192.0.2.7:1234"},
		{"none, optional", "", ProxyOptional, local, ""},
		{"none, required", "", ProxyRequired, local, "-"},
		{"mixed families", "PROXY TCP4 2001:db8::7 192.0.2.1 1234 25\r\n", ProxyRequired, local, "-"},
		{"bad port", "PROXY TCP4 192.0.2.7 192.0.2.1 99999 25\r\n", ProxyRequired, local, "-"},
		{"endless", "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", ProxyRequired, local, "-"},
		{"v2 too long", string(proxyV2Sig) + "\x21\x11\xff\xff", ProxyRequired, local, "-"},
		{"v1, listed", "PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\n", ProxyListed, local, "192.0.2.7:1234"},
		{"none, listed", "", ProxyListed, local, "-"},
		{"unlisted, without one", "", ProxyListed, nil, ""},
		{"untrusted, required", "PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\n", ProxyRequired, nil, "-"},
	} {
		cfg := Config{Proxy: tc.mode, ProxyFrom: func() []netip.Prefix { return tc.from }, Timeouts: Timeouts{Proxy: 5 * time.Second}}
		l, err := Listen("tcp", "127.0.0.1:0", cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := dial(t, l)
		p.send(tc.header + "HELLO\r\n")
		if tc.want == "-" {
			p.closed()
			_ = l.Close()
			continue
		}
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		want := tc.want
		if want == "" {
			want = p.LocalAddr().String()
		}
		if got := nc.RemoteAddr().String(); got != want {
			t.Errorf("%s: %s, want %s", tc.name, got, want)
		}
		if line, err := nc.(*Conn).ReadLine(100); err != nil || string(line) != "HELLO" {
			t.Errorf("%s: %q %v", tc.name, line, err)
		}
		_ = nc.Close()
		_ = l.Close()
	}
}

// TestSlowProxy: a proxy that does not finish its header is let go, and meanwhile others are served.
func TestSlowProxy(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg := Config{Proxy: ProxyListed, ProxyFrom: func() []netip.Prefix { return local }, Timeouts: Timeouts{Proxy: 200 * time.Millisecond}}
	l, err := Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, begun := range []string{"", "P", "PROXY TCP4 192.0.2.7 ", string(proxyV2Sig), string(proxyV2Sig) + "\x21\x11\x00\x0c\xc0"} {
		p := dial(t, l)
		p.send(begun)
		other, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc, err := l.Accept()
		if err != nil || nc.RemoteAddr().String() != other.LocalAddr().String() {
			t.Errorf("%q: %v %v", begun, nc.RemoteAddr(), err)
		}
		_, _ = nc.Close(), other.Close()
		p.closed()
	}
}

// TestProxyTLS: the header comes in clear before implicit TLS.
func TestProxyTLS(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	l := serve(t, &backend{}, &SMTPConfig{}, Config{Proxy: ProxyRequired, ProxyFrom: func() []netip.Prefix { return local }, ImplicitTLS: true, TLS: testTLS})
	p := dial(t, l)
	p.send("PROXY TCP4 192.0.2.7 192.0.2.1 1234 465\r\n")
	p.upgrade()
	p.hello()
	if ip := l.Conns()[0].RemoteIP().String(); ip != "192.0.2.7" {
		t.Error(ip)
	}
}

// TestTranscriptOfLiterals: what IMAP sends as a literal is a message, however the output was cut.
func TestTranscriptOfLiterals(t *testing.T) {
	var buf syncBuffer
	c := &Conn{id: "x", log: slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: LevelTrace}))}
	c.traceWrite([]byte("* 1 FETCH (UID 7 BODY[] {10}\r\nhush"))
	c.traceWrite([]byte("-hush\n UID 8 BODY[TEXT] ~{5}\r\nhush!)\r\na OK done\r\n"))
	out := buf.String()
	for _, want := range []string{"UID 7", "(4 bytes)", "(6 bytes)", "UID 8", "(5 bytes)", "text=)", "a OK done"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hush") {
		t.Errorf("a message is in the transcript:\n%s", out)
	}
}

// TestTranscript: secrets and bodies appear only at their own levels, however the
// input was cut.
func TestTranscript(t *testing.T) {
	for _, level := range []slog.Level{LevelTrace, LevelTraceAuth, LevelTraceData} {
		var buf syncBuffer
		lg := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: level}))
		l := serve(t, &backend{}, &SMTPConfig{AuthOverPlain: true}, Config{Log: lg})
		p := dial(t, l)
		p.hello()
		p.send("AUTH PLA")
		p.do("IN AHUAcA==", "235 ")
		p.envelope()
		p.do("DATA", "354 ")
		p.do("hush-hush\r\n.", "250 ")
		out := buf.String()
		if !strings.Contains(out, "MAIL FROM") || !strings.Contains(out, "250 2.1.5 Ok") || !strings.Contains(out, "conn="+l.Conns()[0].ID()) {
			t.Errorf("level %d: %s", level, out)
		}
		if got := strings.Contains(out, "AHUAcA=="); got != (level <= LevelTraceAuth) {
			t.Errorf("level %d: secret shown %v", level, got)
		}
		if got := strings.Contains(out, "hush-hush"); got != (level <= LevelTraceData) {
			t.Errorf("level %d: body shown %v", level, got)
		}
	}
	for in, want := range map[string]string{
		"a1 LOGIN joe secret\r\n": "a1 LOGIN ***", "a AUTHENTICATE PLAIN abc": "a AUTHENTICATE PLAIN ***",
		"PASS x y": "PASS ***", "a AUTHENTICATE PLAIN\r\n": "a AUTHENTICATE PLAIN\r\n", "NOOP": "NOOP", "a SELECT LOGIN": "a SELECT LOGIN",
	} {
		if got := string(mask([]byte(in))); got != want {
			t.Errorf("mask(%q) = %q", in, got)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 100000 {
		id := newID()
		if len(id) != 8 || seen[id] {
			t.Fatalf("%q repeated", id)
		}
		seen[id] = true
	}
}

// TestIdleMemory: the gate adds less than 6 KB to a plaintext connection that
// has done work and now waits for a command.
func TestIdleMemory(t *testing.T) {
	const n = 100
	cfg := &Config{Timeouts: DefaultTimeouts}
	line := []byte(strings.Repeat("x", 2000) + "\r\n")
	var a, b runtime.MemStats
	socks, keep := make([]net.Conn, n), make([]*Conn, n)
	for i := range socks {
		var far net.Conn
		socks[i], far = net.Pipe()
		go func() {
			_, _ = far.Write(line)
			// Not io.Discard: its 8 KB buffers would be counted with ours.
			var few [16]byte
			for {
				if _, err := far.Read(few[:]); err != nil {
					return
				}
			}
		}()
	}
	idle := make(chan error, n)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&a)
	for i, s := range socks {
		keep[i] = NewConn(s, cfg)
		if _, err := keep[i].ReadLine(4096); err != nil {
			t.Fatal(err)
		}
		_, _ = keep[i].WriteString("OK\r\n")
		go func() { idle <- keep[i].WaitReadable(context.Background()) }()
	}
	for _, c := range keep {
		for waiting := false; !waiting; runtime.Gosched() {
			c.wmu.Lock()
			waiting = c.idle
			c.wmu.Unlock()
		}
		if c.big != nil || c.out != nil {
			t.Fatal("an idle connection holds a pooled buffer")
		}
	}
	// Twice: sync.Pool keeps what was given back through one collection.
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&b)
	per := (int64(b.HeapAlloc) - int64(a.HeapAlloc)) / n
	t.Logf("%d bytes of heap per idle connection", per)
	if per < int64(smallBuf) || per > 6000 { // below smallBuf the measurement is wrong
		t.Errorf("%d bytes of heap per idle connection", per)
	}
	for _, c := range keep {
		c.Abort("test over")
		<-idle
	}
}
