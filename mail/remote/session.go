package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// How long the other server may take (RFC 5321 §4.5.3.2). Each is for one reply as a whole, so
// an octet a minute is not an answer.
const (
	connectTime  = 30 * time.Second
	greetingTime = 5 * time.Minute
	commandTime  = 5 * time.Minute
	tlsTime      = time.Minute
	dataTime     = 2 * time.Minute  // answer to DATA
	blockTime    = 3 * time.Minute  // progress in sending text
	finalTime    = 10 * time.Minute // answer to the end of the text
	quitTime     = 2 * time.Second
)

// session is a connection to a server behind its greeting, ready for transactions.
type session struct {
	key        string // of the pool
	host       string
	where      string // host and address, for people
	conn       net.Conn
	r          *bufio.Reader
	w          *bufio.Writer
	ext        map[string]string // extensions that it offers, and their parameters
	protection string            // TLS version and cipher; empty: in clear
	label      string            // how it is protected, in a word
	wrong      error             // what would have ended it if the policy were in force
	note       string            // what the log should say about it
	used       int               // messages sent
	dirty      bool              // a transaction is open: RSET comes first
	broken     bool              // answers are outstanding: not fit for another message
	idle       *time.Timer       // ends it while it waits in the pool
}

// timed gives each write its own time.
type timed struct{ net.Conn }

func (t timed) Write(p []byte) (int, error) {
	t.SetWriteDeadline(time.Now().Add(blockTime))
	return t.Conn.Write(p)
}

// tlsFailure is an error of STARTTLS or the handshake.
type tlsFailure struct{ err error }

func (t *tlsFailure) Error() string { return "TLS failed: " + oneLine(t.err.Error()) }
func (t *tlsFailure) Unwrap() error { return t.err }

// told is how the session is protected, for people; empty: there was no connection.
func (s *session) told() string {
	switch {
	case s.conn == nil:
		return ""
	case s.protection == "":
		return Clear
	}
	return s.label + ", " + s.protection
}

// connect opens a session as the job's way wants it: TLS, and a login if there is one.
func (c *Client) connect(ctx context.Context, t target, p *protection, r *Route) (*session, error) {
	g, err := c.guard(ctx, p, t)
	if err != nil {
		c.tried(p, g, t, nil, err)
		return nil, err
	}
	s, err := c.open(ctx, t, g)
	c.tried(p, g, t, s, err)
	var failed *tlsFailure
	if errors.As(err, &failed) && g.mode == TLSStartTLS && (r == nil || r.User == "") && ctx.Err() == nil {
		// Opportunistic (RFC 7435): in clear rather than not at all.
		if s, err = c.open(ctx, t, &guard{mode: TLSNone}); err == nil {
			s.note = failed.Error() + "; sent in clear"
		}
	}
	if err != nil {
		return nil, err
	}
	if r != nil && r.User != "" {
		if err := s.login(r, g.mode); err != nil {
			s.end()
			return nil, err
		}
	}
	return s, nil
}

func (c *Client) mode(r *Route) string {
	switch {
	case r != nil && r.TLS != "":
		return r.TLS
	case c.UseTLS():
		return TLSStartTLS
	}
	return TLSNone
}

func (c *Client) open(ctx context.Context, t target, g *guard) (*session, error) {
	ap := netip.AddrPortFrom(t.addr, t.port)
	conn, err := c.dial(ctx, ap)
	if err != nil {
		return nil, fmt.Errorf("can't connect to %s: %w", ap, cause(err))
	}
	s := &session{host: t.host, where: fmt.Sprintf("%s [%s]", t.host, t.addr)}
	s.over(timed{conn})
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = s.greet(ctx, c, g)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// over makes the session speak through a connection.
func (s *session) over(conn net.Conn) {
	s.conn, s.r, s.w = conn, bufio.NewReaderSize(conn, 4<<10), bufio.NewWriterSize(conn, 16<<10)
}

// dial gives up in time even when the context has more of it.
func (c *Client) dial(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	wait := c.Connect
	if wait == 0 {
		wait = connectTime
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if c.Dial != nil {
		return c.Dial(ctx, ap)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", ap.String())
}

func (s *session) greet(ctx context.Context, c *Client, g *guard) error {
	if g.mode == TLSWrapped {
		if err := s.encrypt(ctx, c, g); err != nil {
			return err
		}
	}
	if _, err := s.want(2, greetingTime, "its greeting"); err != nil {
		return err
	}
	if err := s.ehlo(c.Hello()); err != nil {
		return err
	}
	if g.mode != TLSStartTLS && g.mode != TLSRequire {
		return nil
	}
	if _, offered := s.ext["STARTTLS"]; !offered {
		if g.mode == TLSRequire {
			return &certFailure{failNoTLS, fmt.Errorf("%s offers no STARTTLS; %s", s.host, g.want)}
		}
		return nil
	}
	if _, err := s.cmd(2, tlsTime, "STARTTLS"); err != nil {
		if errors.As(err, new(*refusal)) {
			err = &tlsFailure{err}
		}
		return err
	}
	if s.r.Buffered() > 0 { // answers to what was not asked yet: somebody has put them in
		return &tlsFailure{errors.New("text in clear behind the answer to STARTTLS")}
	}
	if err := s.encrypt(ctx, c, g); err != nil {
		return err
	}
	err := s.ehlo(c.Hello())
	var lost *lostError
	if errors.As(err, &lost) && !lost.timeout { // with TLS 1.3 that is how the other side says that it wants no more of it
		err = &tlsFailure{err}
	}
	return err
}

// encrypt does the handshake and holds the certificate against what is demanded. Where nothing is,
// an unverified certificate is better than no encryption (RFC 7435).
func (s *session) encrypt(ctx context.Context, c *Client, g *guard) error {
	var wrong error
	cfg := &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, ServerName: g.sni, ClientSessionCache: c.tickets(),
		VerifyConnection: func(st tls.ConnectionState) error { // also of a session that is resumed
			if s.label, wrong = g.verdict(&st); g.testing {
				return nil
			}
			return wrong
		},
	}
	s.conn.SetReadDeadline(time.Now().Add(tlsTime))
	tc := tls.Client(s.conn, cfg)
	ctx, cancel := context.WithTimeout(ctx, tlsTime)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		if wrong != nil {
			err = fmt.Errorf("%w; %s", wrong, g.want)
		}
		return &tlsFailure{err}
	}
	if wrong != nil {
		s.wrong, s.note = wrong, "the certificate would not do if the MTA-STS policy were enforced: "+oneLine(wrong.Error())
	}
	s.over(tc)
	st := tc.ConnectionState()
	s.protection = tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
	return nil
}

// ehlo greets, in the old way where the new one is not understood (RFC 5321 §3.2).
func (s *session) ehlo(name string) error {
	s.ext = map[string]string{}
	rep, err := s.cmd(2, commandTime, "EHLO "+name)
	var no *refusal
	if errors.As(err, &no) && no.code >= 500 {
		_, err = s.cmd(2, commandTime, "HELO "+name)
		return err
	}
	if err != nil {
		return err
	}
	for _, line := range rep.lines[1:] {
		word, params, _ := strings.Cut(line, " ")
		word, old, _ := strings.Cut(strings.ToUpper(word), "=") // AUTH=LOGIN of old servers
		if params == "" {
			params = old
		}
		s.ext[word] = params
	}
	return nil
}

func (s *session) offers(ext string) bool { _, ok := s.ext[ext]; return ok }

// maxSize is the largest message that the server takes; 0: not told (RFC 1870).
func (s *session) maxSize() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s.ext["SIZE"]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// cmd sends a line and reads its reply, whose first digit must be as wanted.
func (s *session) cmd(want int, wait time.Duration, line string) (reply, error) {
	s.w.WriteString(line)
	s.w.WriteString("\r\n")
	verb, _, _ := strings.Cut(line, " ")
	if err := s.w.Flush(); err != nil {
		return reply{}, lost(err, "sending "+verb)
	}
	return s.want(want, wait, "the answer to "+verb)
}

// want reads a reply. Others than wanted are a refusal; 0 wants any.
func (s *session) want(digit int, wait time.Duration, what string) (reply, error) {
	rep, err := s.read(wait, what)
	if err == nil && digit != 0 && rep.code/100 != digit {
		err = &refusal{rep}
	}
	return rep, err
}

func (s *session) read(wait time.Duration, what string) (reply, error) {
	s.conn.SetReadDeadline(time.Now().Add(wait))
	rep, err := readReply(s.r)
	if err != nil {
		return reply{}, lost(err, "waiting for "+what)
	}
	return rep, nil
}

// quit says goodbye and closes. It waits for the answer only a moment.
func (s *session) quit() {
	if s.broken { // it would take QUIT for text
		s.conn.Close()
		return
	}
	s.conn.SetDeadline(time.Now().Add(quitTime))
	s.w.WriteString("QUIT\r\n")
	if s.w.Flush() == nil {
		readReply(s.r)
	}
	s.conn.Close()
}

func (s *session) end() { s.conn.Close() }
