package pop3d_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/pop3d"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/wire"
)

// anyone lets every user in whose password is "secret".
type anyone struct{}

func (anyone) Authenticate(_ context.Context, a login.Attempt) (*login.Account, error) {
	if string(a.Password) != "secret" {
		return nil, login.ErrPassword
	}
	return &login.Account{ID: model.AccountID(a.User[0]), Name: a.User}, nil
}

type world struct {
	t     testing.TB
	store *store.Store
	addr  string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	st, _ := statetest.Open(t)
	bodies, err := segment.Open(segment.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bodies.Close() })
	set := model.DefaultSettings()
	set.System.Hostname = "mail.example.test"
	s := store.New(st, bodies)
	srv := &pop3d.Server{Store: s, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{Protocol: wire.POP3{}, Timeouts: pop3d.Timeouts, Limits: wire.Limits{MaxConns: 100, MaxPerIP: 100}})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { l.Close() })
	return &world{t, s, l.Addr().String()}
}

func (w *world) deliver(user byte, text string) {
	w.t.Helper()
	sp := w.store.NewSpool(0)
	sp.Write([]byte(text))
	meta, err := w.store.Summarize(nil, sp)
	if err != nil {
		w.t.Fatal(err)
	}
	body, size, err := w.store.CommitSpool(context.Background(), sp, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Deliver(context.Background(), state.Deliver{Body: body, Size: size, Meta: meta, Local: []state.DeliverTo{{Account: model.AccountID(user)}}}); err != nil {
		w.t.Fatal(err)
	}
}

type client struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func (w *world) dial() *client {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	cl := &client{w.t, c, bufio.NewReader(c)}
	cl.line()
	return cl
}

func (c *client) line() string {
	c.t.Helper()
	l, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%q, %v", l, err)
	}
	return strings.TrimSuffix(l, "\r\n")
}

func (c *client) list() (out []string) {
	c.t.Helper()
	for l := c.line(); l != "."; l = c.line() {
		out = append(out, l)
	}
	return out
}

// say sends a command and compares the start of the answer.
func (c *client) say(command, want string) string {
	c.t.Helper()
	fmt.Fprintf(c.c, "%s\r\n", command)
	got := c.line()
	if !strings.HasPrefix(got, want) {
		c.t.Errorf("%s: %q, want %q", command, got, want)
	}
	return got
}

func (w *world) login() *client {
	c := w.dial()
	c.say("USER anna", "+OK")
	c.say("PASS secret", "+OK")
	return c
}

const mail = "Subject: one\r\nFrom: x@y.example\r\n\r\n.dot\r\n..dots\r\nlast"

// TestCommands is RFC 1939, RFC 2449 and RFC 5034, a line each: UIDL and TOP among them.
//
// covers: I.20
func TestCommands(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	w.deliver('a', "Subject: two\r\n\r\n")
	c := w.dial()
	for _, tc := range commandTable {
		c.say(tc.command, tc.want)
	}
}

var commandTable = []struct{ command, want string }{
	{"STAT", "-ERR log in first"}, {"RETR 1", "-ERR"}, {"PASS secret", "-ERR"}, {"USER", "-ERR"}, {"XYZZY", "-ERR unknown"}, {"", "-ERR"},
	{"APOP anna 0123456789abcdef0123456789abcdef", "-ERR"}, {"AUTH NONSENSE", "-ERR"}, {"AUTH PLAIN AGFubmEAd3Jvbmc=", "-ERR [AUTH]"},
	{"STLS", "-ERR"}, {strings.Repeat("X", 300), "-ERR"}, {"AUTH PLAIN AGFubmEAc2VjcmV0", "+OK"},
	{"USER anna", "-ERR already"}, {"STAT", "+OK 2 "}, {"LIST 1", "+OK 1 "}, {"LIST 3", "-ERR"}, {"LIST 0", "-ERR"}, {"LIST -1", "-ERR"}, {"LIST x", "-ERR"}, {"LIST 99999999999999999999", "-ERR"},
	{"UIDL 1", "+OK 1 "}, {"DELE 2", "+OK"}, {"DELE 2", "-ERR"}, {"LIST 2", "-ERR"}, {"UIDL 2", "-ERR"}, {"TOP 2 0", "-ERR"}, {"RETR 2", "-ERR"}, {"STAT", "+OK 1 "},
	{"TOP 1", "-ERR"}, {"TOP 1 -1", "-ERR"}, {"TOP 1 x", "-ERR"}, {"RSET", "+OK"}, {"STAT", "+OK 2 "}, {"NOOP", "+OK"}, {"noop", "+OK"}, {"QUIT", "+OK"},
}

func TestContent(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	c := w.login()
	c.say("RETR 1", "+OK")
	if got := strings.Join(c.list(), "\n"); !strings.HasSuffix(got, "\n\n..dot\n...dots\nlast") {
		t.Errorf("RETR: %q", got)
	}
	c.say("TOP 1 1", "+OK")
	if got := strings.Join(c.list(), "\n"); !strings.HasSuffix(got, "\n\n..dot") {
		t.Errorf("TOP 1 1: %q", got)
	}
	c.say("TOP 1 0", "+OK")
	if got := strings.Join(c.list(), "\n"); !strings.Contains(got, "Subject: one") || strings.Contains(got, "dot") {
		t.Errorf("TOP 1 0: %q", got)
	}
	c.say("CAPA", "+OK")
	caps := strings.Join(c.list(), "\n")
	for _, want := range []string{"TOP", "UIDL", "PIPELINING", "RESP-CODES"} {
		if !strings.Contains(caps, want) {
			t.Errorf("CAPA lacks %s:\n%s", want, caps)
		}
	}
}

// TestSnapshot: what comes or goes after login is not seen, deletions happen at QUIT only, and nobody else
// may log in to the mailbox meanwhile.
//
// covers: I.20
func TestSnapshot(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	w.deliver('a', "Subject: two\r\n\r\nx")
	c := w.login()
	c.say("UIDL", "+OK")
	before := c.list()
	w.deliver('a', "Subject: three\r\n\r\nx")
	c.say("STAT", "+OK 2 ")
	c.say("DELE 1", "+OK")
	second := w.dial()
	second.say("USER anna", "+OK")
	second.say("PASS secret", "-ERR [IN-USE]")
	c.c.Close() // without QUIT: nothing is deleted
	var again *client
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		again = w.dial()
		again.say("USER anna", "+OK")
		fmt.Fprint(again.c, "PASS secret\r\n")
		if strings.HasPrefix(again.line(), "+OK") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the lock outlives its session")
		}
	}
	again.say("UIDL", "+OK")
	if got := again.list(); len(got) != 3 || got[0] != before[0] || got[1] != before[1] {
		t.Errorf("UIDL was %q, is %q", before, got)
	}
	again.say("DELE 1", "+OK")
	again.say("QUIT", "+OK")
	last := w.login()
	last.say("UIDL", "+OK")
	if got := last.list(); len(got) != 2 || strings.Fields(got[0])[1] != strings.Fields(before[1])[1] {
		t.Errorf("after QUIT: %q", got)
	}
}

// TestPipelining: many commands in one packet get their answers in order (RFC 2449 §6.6).
func TestPipelining(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	c := w.dial()
	fmt.Fprint(c.c, "USER anna\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nRETR 1\r\nQUIT\r\n")
	for _, want := range []string{"+OK", "+OK", "+OK 1 ", "+OK"} {
		if got := c.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	c.list()
	for _, want := range []string{"+OK", "-ERR", "+OK"} {
		if got := c.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestSASL is RFC 5034: with and without an initial response, cancelled, malformed.
//
// covers: I.20
func TestSASL(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	c.say("AUTH", "+OK")
	if got := c.list(); strings.Join(got, " ") != "PLAIN LOGIN" {
		t.Errorf("mechanisms %q", got)
	}
	for _, tc := range []struct{ command, response, want string }{
		{"AUTH PLAIN", "*", "-ERR cancelled"}, {"AUTH PLAIN", "!!", "-ERR"}, {"AUTH PLAIN", "YQ==", "-ERR the answer"}, {"AUTH PLAIN", strings.Repeat("A", 13000), "-ERR"}, {"AUTH PLAIN", "AGFubmEAd3Jvbmc=", "-ERR [AUTH]"},
		{"AUTH PLAIN", "Ym9iAGFubmEAc2VjcmV0", "-ERR [AUTH]"}, {"AUTH LOGIN", "*", "-ERR cancelled"},
	} {
		if got := c.say(tc.command, "+ "); strings.HasPrefix(got, "+OK") {
			t.Errorf("%s: %s", tc.command, got)
		}
		c.say(tc.response, tc.want)
	}
	c.say("AUTH PLAIN =", "-ERR")
	c.say("AUTH plain", "+ ")
	c.say("AGFubmEAc2VjcmV0", "+OK")
	c.say("AUTH PLAIN", "-ERR already")
}

// TestCapa is RFC 2449: in both states, and what can't be used isn't offered.
func TestCapa(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	c.say("CAPA", "+OK")
	before := " " + strings.Join(c.list(), " | ") + " "
	for _, want := range []string{" TOP ", " UIDL ", " USER ", " SASL PLAIN LOGIN ", " RESP-CODES ", " AUTH-RESP-CODE ", " PIPELINING ", " EXPIRE NEVER ", " LOGIN-DELAY 0 ", " UTF8 USER ", " LANG "} {
		if !strings.Contains(before, want) {
			t.Errorf("before login: %s lacks %s", before, want)
		}
	}
	if strings.Contains(before, "STLS") { // no certificate here
		t.Error(before)
	}
	c.say("UTF8", "+OK")
	c.say("LANG", "+OK")
	c.list()
	c.say("LANG en", "+OK en")
	c.say("LANG tlh", "-ERR")
	c.say("USER anna", "+OK")
	c.say("PASS secret", "+OK")
	c.say("CAPA", "+OK")
	if after := strings.Join(c.list(), " | "); !strings.Contains(after, "IMPLEMENTATION") || strings.Contains(after, "| USER |") || strings.Contains(after, "SASL") {
		t.Errorf("after login: %s", after)
	}
	c.say("UTF8", "-ERR")
}

// TestStrict: arguments that are no numbers, passwords with spaces, commands of another state.
func TestStrict(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	c := w.dial()
	c.say("USER anna", "+OK")
	c.say("PASS secret ", "-ERR [AUTH]") // the space is part of it
	c.say("PASS secret", "-ERR USER first")
	c.say("USER anna ", "+OK")
	c.say("PASS secret", "+OK")
	for _, cmd := range []string{"LIST +1", "LIST 1 ", "RETR", "RETR 01x", "RETR 1 2", "DELE", "DELE +1", "TOP 1 +1", "TOP 1 1 1", "TOP", "UIDL -0", "UIDL 0x1", "LIST " + strings.Repeat("9", 200)} {
		want := "-ERR"
		if cmd == "LIST 1 " {
			want = "+OK"
		}
		c.say(cmd, want)
	}
	c.say("TOP 1 99999999999999999999", "-ERR")
	c.say("TOP 1 4000000000", "+OK")
	c.list()
}

// TestRemovedMeanwhile: what another session has expunged is still in the snapshot's listing, and its
// deletion at QUIT is no error.
func TestRemovedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.deliver('a', mail)
	w.deliver('a', "Subject: two\r\n\r\nx")
	c := w.login()
	box, err := w.store.Mailbox('a', "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Expunge(context.Background(), state.Expunge{Mailbox: box.ID, UIDs: []model.UID{1}}); err != nil {
		t.Fatal(err)
	}
	c.say("STAT", "+OK 2 ")
	c.say("LIST 1", "+OK 1 ")
	c.say("DELE 1", "+OK")
	c.say("RETR 2", "+OK")
	c.list()
	c.say("QUIT", "+OK")
}

// TestGarbage: octets that are no POP3, pipelined, end the session.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	for _, garbage := range []string{"\x16\x03\x01\x02\x00\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n", strings.Repeat("x", 5000) + "\r\n"} {
		c := w.dial()
		go fmt.Fprint(c.c, strings.Repeat(garbage, 200))
		n := 0
		for {
			l, err := c.r.ReadString('\n')
			if err != nil {
				break
			}
			if n++; !strings.HasPrefix(l, "-ERR") {
				t.Errorf("%.20q: %q", garbage, l)
			}
		}
		if n == 0 || n > 70 {
			t.Errorf("%.20q: %d answers", garbage, n)
		}
	}
}

// TestSlowReader: what a client doesn't read isn't made: memory stays bounded however much it asks for.
func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	for user := range byte(8) {
		w.deliver('a'+user, mail+strings.Repeat("0123456789abcde\r\n", 1<<18)) // 4 MB
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for user := range byte(8) {
		c := w.dial()
		c.say("USER "+string('a'+user), "+OK")
		c.say("PASS secret", "+OK")
		fmt.Fprint(c.c, strings.Repeat("RETR 1\r\n", 500)) // 2 GB
		if l := c.line(); !strings.HasPrefix(l, "+OK") {
			t.Fatal(l)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MB held for 8 clients that don't read", grown>>20)
	}
}

func FuzzSession(f *testing.F) {
	w := newWorld(f)
	w.deliver('a', mail)
	f.Add([]byte("STAT\r\nRETR 1\r\nTOP 1 1\r\n"))
	f.Add([]byte("AUTH PLAIN\r\n*\r\nDELE 1\r\nRSET\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(c, "USER anna\r\nPASS secret\r\n")
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
		r := bufio.NewReader(c)
		for {
			l, err := r.ReadString('\n')
			if strings.Contains(l, "server fault") {
				t.Fatalf("panic on %q", data)
			}
			if err != nil {
				return
			}
		}
	})
}

// TestNotFresh: a session doesn't begin on a node that may not know the latest.
func TestNotFresh(t *testing.T) {
	w := newWorld(t)
	w.store.SetFresh(func(context.Context) error { return context.DeadlineExceeded })
	c := w.dial()
	c.say("USER anna", "+OK")
	c.say("PASS secret", "-ERR [SYS/TEMP]")
}
