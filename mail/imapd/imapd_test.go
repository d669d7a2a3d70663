package imapd_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/imapd"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
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
	state *state.State
	store *store.Store
	srv   *imapd.Server
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
	srv := &imapd.Server{Store: s, Login: anyone{}, Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler)}
	l, err := wire.Listen("tcp", "127.0.0.1:0", wire.Config{Protocol: wire.IMAP{}, Limits: wire.Limits{MaxConns: 100, MaxPerIP: 100}})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	t.Cleanup(func() { l.Close() })
	return &world{t, st, s, srv, l.Addr().String()}
}

// deliver puts a message into an account's INBOX.
func (w *world) deliver(user string, text string) {
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
	if _, err := w.store.Deliver(context.Background(), state.Deliver{Body: body, Size: size, Meta: meta, Local: []state.DeliverTo{{Account: model.AccountID(user[0])}}}); err != nil {
		w.t.Fatal(err)
	}
}

// client speaks lines.
type client struct {
	w *world
	c net.Conn
	r *bufio.Reader
	n int
}

func (w *world) dial() *client {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	cl := &client{w: w, c: c, r: bufio.NewReader(c)}
	cl.line()
	return cl
}

func (w *world) login(user string) *client {
	c := w.dial()
	c.ok("LOGIN " + user + " secret")
	return c
}

func (c *client) line() string {
	c.w.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.w.t.Fatalf("read: %v (%q)", err, s)
	}
	return strings.TrimRight(s, "\r\n")
}

// do sends a command and gives all lines, the tagged one last.
func (c *client) do(cmd string) []string {
	c.w.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	fmt.Fprintf(c.c, "%s %s\r\n", tag, cmd)
	return c.until(tag)
}

func (c *client) until(tag string) []string {
	c.w.t.Helper()
	var out []string
	for {
		l := c.line()
		out = append(out, strings.TrimPrefix(l, tag+" "))
		if strings.HasPrefix(l, tag+" ") {
			return out
		}
	}
}

func (c *client) ok(cmd string) string {
	c.w.t.Helper()
	out := c.do(cmd)
	if last := out[len(out)-1]; !strings.HasPrefix(last, "OK") {
		c.w.t.Fatalf("%s: %s", cmd, last)
	}
	return strings.Join(out, "\n")
}

func (c *client) gets(want, cmd string) {
	c.w.t.Helper()
	if out := strings.Join(c.do(cmd), "\n"); !strings.Contains(out, want) {
		c.w.t.Errorf("%s:\n%s\nwant %q", cmd, out, want)
	}
}

var timeless time.Time

const mail = "From: Anna <anna@a.test>\r\nTo: b@b.test\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\nMessage-ID: <1@a.test>\r\n\r\nhello world\r\n"

func TestEveryLineGetsATaggedAnswer(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	for cmd, want := range map[string]string{
		"": "BAD", "NOPE": "BAD", "SELECT INBOX": "BAD log in first", "LOGIN": "BAD", "LOGIN a": "BAD", "LOGIN a wrong": "NO [AUTHENTICATIONFAILED]",
		"AUTHENTICATE": "BAD", "AUTHENTICATE NOPE": "NO", "AUTHENTICATE PLAIN !!": "BAD", "NOOP x": "BAD", "UID": "BAD", "CAPABILITY": "IMAP4rev1",
	} {
		c.gets(want, cmd)
	}
	c.ok("LOGIN anna secret")
	for cmd, want := range map[string]string{
		"LOGIN a b": "BAD already", "SELECT": "BAD", "SELECT nowhere": "NO [NONEXISTENT]", "FETCH 1 FLAGS": "BAD select a mailbox", "STATUS INBOX (NOPE)": "BAD",
		"CREATE INBOX": "NO [ALREADYEXISTS]", "DELETE INBOX": "NO", "LIST \"\"": "BAD", "APPEND INBOX": "BAD", "ENABLE": "BAD", "CREATE \"a*b\"": "NO", "CREATE &Jjo": "NO",
	} {
		c.gets(want, cmd)
	}
}

func TestSelectFetchStoreSearch(t *testing.T) {
	// covers: I.19
	w := newWorld(t)
	w.deliver("anna", mail)
	w.deliver("anna", strings.Replace(mail, "hello", "bye", 1))
	c := w.login("anna")
	out := c.ok("SELECT INBOX")
	for _, want := range []string{"* 2 EXISTS", "* 2 RECENT", "[UNSEEN 1]", "[UIDNEXT 3]", "[READ-WRITE]", `\*)]`} {
		if !strings.Contains(out, want) {
			t.Errorf("SELECT lacks %q:\n%s", want, out)
		}
	}
	c.gets(`* 1 FETCH (UID 1 FLAGS (\Recent))`, "FETCH 1 (UID FLAGS)")
	c.gets(`ENVELOPE ("Mon, 1 Jan 2024 10:00:00 +0000" "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" (("Anna" NIL "anna" "a.test"))`, "FETCH 1 ENVELOPE")
	c.gets("BODY[HEADER.FIELDS (SUBJECT)] {40}", "FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]")
	c.gets("BODY[TEXT]<6> {5}\nworld", "FETCH 1 BODY.PEEK[TEXT]<6.5>")
	c.gets(`FLAGS (\Seen \Recent)`, "FETCH 2 BODY[]") // reading sets \Seen
	c.gets("BAD", "FETCH 3 FLAGS")
	c.ok("UID FETCH 99 FLAGS")
	c.gets(`* 1 FETCH (FLAGS (\Flagged \Recent $Label))`, `STORE 1 +FLAGS (\Flagged $Label)`)
	if out := c.ok(`STORE 1 -FLAGS.SILENT (\Flagged)`); strings.Contains(out, "FETCH") {
		t.Errorf("a silent STORE talked:\n%s", out)
	}
	c.gets("BAD", `STORE 1 FLAGS (\Nope)`)
	for key, want := range map[string]string{
		"SUBJECT grüße": "", "CHARSET UTF-8 SUBJECT {7+}\r\nGrüße": "* SEARCH 1 2", "BODY hello": "* SEARCH 1\n", "NOT BODY hello": "* SEARCH 2\n", "SEEN": "* SEARCH 2\n",
		"KEYWORD $label": "* SEARCH 1\n", "UID 2:*": "* SEARCH 2\n", "SENTON 1-Jan-2024": "* SEARCH 1 2\n", "OR SEEN KEYWORD $Label": "* SEARCH 1 2\n", "FROM anna LARGER 10": "* SEARCH 1 2\n", "SINCE 1-Jan-2090": "* SEARCH\n",
	} {
		if want != "" {
			c.gets(want, "SEARCH "+key)
		}
	}
	c.gets("[BADCHARSET", "SEARCH CHARSET KLINGON ALL")
	e := w.login("anna")
	e.ok("EXAMINE INBOX")
	for _, cmd := range []string{`STORE 1 +FLAGS (\Seen)`, "EXPUNGE", "MOVE 1 Trash"} {
		e.gets("NO [READ-ONLY]", cmd)
	}
	e.ok("FETCH 1 BODY[]")
	c.gets("* SEARCH 2\n", "SEARCH SEEN") // EXAMINE set nothing
	e.ok("CLOSE")
	c.gets("* SEARCH 1 2\n", "SEARCH ALL")
}

func TestCopyMoveExpungeAppend(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		w.deliver("anna", mail)
	}
	c, other := w.login("anna"), w.login("anna")
	c.ok("SELECT INBOX")
	other.ok("SELECT INBOX")
	c.gets("[TRYCREATE]", "COPY 1 nowhere")
	c.gets("[COPYUID ", "COPY 1:2 Archive")
	out := c.ok("UID MOVE 2 Trash")
	if !strings.Contains(out, "[COPYUID ") || !strings.Contains(out, "* 2 EXPUNGE") {
		t.Errorf("MOVE:\n%s", out)
	}
	if out := other.ok("FETCH 1:4 UID"); strings.Contains(out, "EXPUNGE") { // RFC 3501 §7.4.1
		t.Errorf("EXPUNGE during FETCH:\n%s", out)
	}
	other.gets("* 2 EXPUNGE", "NOOP")
	c.ok(`STORE 1,3 +FLAGS.SILENT (\Deleted)`)
	c.gets("* 3 EXPUNGE", "UID EXPUNGE 4")
	c.gets("* 1 EXPUNGE", "EXPUNGE")
	c.gets("MESSAGES 1 UIDNEXT 5", "STATUS INBOX (MESSAGES UIDNEXT)")
	fmt.Fprintf(c.c, "a1 APPEND Drafts (\\Seen $X) \"01-Feb-2024 10:00:00 +0000\" {%d}\r\n", len(mail))
	if l := c.line(); !strings.HasPrefix(l, "+") {
		t.Fatalf("no go-ahead: %s", l)
	}
	fmt.Fprintf(c.c, "%s\r\n", mail)
	if out := c.until("a1"); !strings.Contains(out[len(out)-1], "[APPENDUID ") {
		t.Errorf("%v", out)
	}
	fmt.Fprintf(c.c, "a2 APPEND Drafts {%d+}\r\n%s\r\n", len(mail), mail)
	c.until("a2")
	c.gets("MESSAGES 2 UNSEEN 1", "STATUS Drafts (MESSAGES UNSEEN)")
	fmt.Fprintf(c.c, "a3 APPEND nowhere {%d+}\r\n%s\r\n", len(mail), mail) // refused, but in step
	if out := c.until("a3"); !strings.Contains(out[len(out)-1], "[TRYCREATE]") {
		t.Errorf("%v", out)
	}
	c.gets("NO [TOOBIG]", "APPEND Drafts {999999999}")
	c.ok("NOOP")
	c.gets("NO [ALREADYEXISTS]", "RENAME Drafts Trash")
	c.ok("CREATE a/b/c")
	c.ok("RENAME a x")
	c.gets(`"x/b/c"`, `LIST "" "x/*"`)
	c.gets(`\HasChildren`, `LIST "" x`)
	if out := c.ok(`LIST "x/" "%"`); strings.Contains(out, "x/b/c") {
		t.Errorf("%% matched a level below:\n%s", out)
	}
	c.gets(`\Drafts) "/" "Drafts"`, `LIST (SPECIAL-USE) "" "*"`)
	c.ok("RENAME INBOX old")
	c.gets("MESSAGES 0", "STATUS INBOX (MESSAGES)")
	c.gets("MESSAGES 1", "STATUS old (MESSAGES)")
	c.ok("CREATE &Jjo-")
	c.gets(`"&Jjo-"`, `LIST "" "&Jjo-"`)
}

func TestLiteralsKeepStep(t *testing.T) {
	w := newWorld(t)
	c := w.dial()
	fmt.Fprintf(c.c, "l1 LOGIN {100000+}\r\n%s secret\r\nl2 NOOP\r\n", strings.Repeat("A1 LOGOUT\r\n", 10000)[:100000])
	if out := c.until("l1"); !strings.HasPrefix(out[len(out)-1], "BAD") {
		t.Errorf("%v", out)
	}
	c.until("l2") // the literal's contents were not run as commands
	c.gets("BAD", "LOGIN {99999999999999}")
	fmt.Fprintf(c.c, "l3 LOGIN {4+}\r\nanna {6}\r\n")
	if l := c.line(); !strings.HasPrefix(l, "+") {
		t.Fatal(l)
	}
	fmt.Fprintf(c.c, "secret\r\n")
	if out := c.until("l3"); !strings.HasPrefix(out[len(out)-1], "OK") {
		t.Errorf("%v", out)
	}
	c.gets("BAD", "SEARCH "+strings.Repeat("(", 1000))
}

func TestIdleWakes(t *testing.T) {
	w := newWorld(t)
	w.deliver("anna", mail)
	c := w.login("anna")
	c.ok("SELECT INBOX")
	w.deliver("anna", mail) // between the last command and IDLE: told first
	fmt.Fprintf(c.c, "i IDLE\r\n")
	if l := c.line(); !strings.HasPrefix(l, "+") {
		t.Fatal(l)
	}
	for want := 2; want <= 5; want++ {
		for l := c.line(); l != fmt.Sprintf("* %d EXISTS", want); l = c.line() {
			if strings.Contains(l, "EXISTS") {
				t.Fatalf("%s, want %d", l, want)
			}
		}
		w.deliver("anna", mail)
	}
	fmt.Fprintf(c.c, "DONE\r\n")
	if out := c.until("i"); !strings.HasPrefix(out[len(out)-1], "OK") {
		t.Error(out)
	}
}

func TestConcurrentSessionsAgree(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		w.deliver("anna", mail)
	}
	var wg sync.WaitGroup
	for k := range 4 {
		c := w.login("anna")
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.ok("SELECT INBOX")
			for i := range 10 {
				c.do(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted k%d)`, 1+(i*7+k*3)%30, k))
				c.do("FETCH 1:* (UID FLAGS)")
				if i%3 == 0 {
					c.do("EXPUNGE")
				}
			}
		}()
	}
	wg.Wait()
	a, b := w.login("anna"), w.login("anna")
	a.ok("SELECT INBOX")
	b.ok("SELECT INBOX")
	x, y := a.do("FETCH 1:* (UID FLAGS)"), b.do("FETCH 1:* (UID FLAGS)")
	if strings.ReplaceAll(strings.Join(x, "\n"), ` \Recent`, "") != strings.ReplaceAll(strings.Join(y, "\n"), ` \Recent`, "") {
		t.Error("two sessions see different mailboxes")
	}
}

func FuzzSession(f *testing.F) {
	w := newWorld(f)
	w.deliver("anna", mail)
	f.Add([]byte("a SELECT INBOX\r\nb FETCH 1 BODY[]\r\n"))
	f.Add([]byte("a APPEND INBOX {3+}\r\nabc\r\nx IDLE\r\nDONE\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Skip(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(c, "z LOGIN anna secret\r\n")
		c.Write(data)
		c.Write([]byte("\r\n"))
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

// TestNotFresh: while it isn't sure that this node knows the latest, commands that would show it
// get a temporary error, and the session goes on.
func TestNotFresh(t *testing.T) {
	// covers: R11.09
	w := newWorld(t)
	var mu sync.Mutex
	var fault error
	w.store.SetFresh(func(context.Context) error { mu.Lock(); defer mu.Unlock(); return fault })
	set := func(err error) { mu.Lock(); fault = err; mu.Unlock() }
	c := w.login("anna")
	c.ok("SELECT INBOX")
	set(context.DeadlineExceeded)
	for _, cmd := range []string{"NOOP", "CHECK", "IDLE", "STATUS INBOX (MESSAGES)", `LIST "" "*"`, `LSUB "" "*"`, "APPEND INBOX {1+}\r\nx"} {
		if out := c.do(cmd); !strings.HasPrefix(out[len(out)-1], "NO [UNAVAILABLE]") || len(out) != 1 {
			t.Errorf("%s: %v", cmd, out)
		}
	}
	for _, cmd := range []string{"SELECT INBOX", "EXAMINE INBOX"} {
		c.gets("NO [UNAVAILABLE]", cmd)
	}
	other := w.dial()
	other.gets("NO [UNAVAILABLE]", "LOGIN anna secret")
	set(nil)
	c.ok("SELECT INBOX")
	c.ok("NOOP")
	other.ok("LOGIN anna secret")
}
