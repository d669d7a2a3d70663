package wire

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// PostmasterDomain stands behind the bare <postmaster> of RFC 5321 §4.5.1, which
// go-smtp can't parse. It is under .invalid, so nobody can own it.
const PostmasterDomain = "postmaster.invalid"

// Reply is an SMTP reply. As an error from a body reader it means that the gate
// refuses the message and will send this text whatever the session says.
type Reply struct {
	Code  int    // 200–599
	Enh   string // RFC 3463 code such as "5.5.1"; may be empty
	Text  string
	Close bool // end the connection after it; 421 and 521 always do
}

// Error implements error.
func (r *Reply) Error() string { return strings.TrimRight(string(r.line()), "\r\n") }

func (r *Reply) line() []byte {
	b := strconv.AppendInt(make([]byte, 0, 64), int64(r.Code), 10)
	b = append(b, ' ')
	if r.Enh != "" {
		b = append(append(b, r.Enh...), ' ')
	}
	return append(append(b, r.Text...), '\r', '\n')
}

func (r *Reply) closes() bool { return r.Close || r.Code == 421 || r.Code == 521 }

// BarePolicy says what happens to a message with a bare CR or LF in DATA. A bare
// CR or LF never ends a message, nor a command, under either policy.
type BarePolicy uint8

// Policies for bare CR and LF.
const (
	// BareReject refuses the message.
	BareReject BarePolicy = iota
	// BareNormalise makes CRLF of a bare LF and a space of a bare CR. Messages
	// sent with BDAT are refused all the same.
	BareNormalise
)

// SMTPConfig is what the SMTP gate does. It is shared by all connections and
// must not change while in use. Hooks may be nil; they run in the connection's
// goroutine and may block.
type SMTPConfig struct {
	// Hostname begins the greeting and the EHLO reply (RFC 5321 §4.2).
	Hostname string
	// Banner follows the hostname in the greeting; "ESMTP" if empty.
	Banner string
	// MaxMessage is the message size limit in bytes, announced as SIZE; 0: none.
	MaxMessage int64
	// MaxCommand is the longest command line with CRLF; 4096 if 0. AUTH and its
	// answers may have 12288 (RFC 4954 §4).
	MaxCommand int
	// MaxBodyLine is the longest line of a message with CRLF; 1 MiB if 0.
	MaxBodyLine int
	BareNewline BarePolicy
	// RejectPipelining refuses clients that send ahead where they must wait.
	RejectPipelining bool
	// AuthOverPlain offers AUTH without TLS.
	AuthOverPlain bool
	// After SoftErrors error replies each further one is delayed by Tarpit; after
	// HardErrors the connection ends. Zero is 10, 20 and one second.
	SoftErrors, HardErrors int
	Tarpit                 time.Duration
	// After JunkLimit commands that do nothing (NOOP, RSET, VRFY, EXPN, HELP,
	// ETRN) every ten more cost a delay of JunkDelay. Zero is 100 and one second.
	JunkLimit int
	JunkDelay time.Duration
	// XClientFrom are the addresses that may use XCLIENT.
	XClientFrom []netip.Prefix
	// Pregreet is how long the greeting is held back to see whether the client
	// talks first. Teaser, if set, is sent before the wait as "220-Teaser".
	Pregreet time.Duration
	Teaser   string

	// PregreetDelay replaces Pregreet per connection, to spare known clients.
	PregreetDelay func(*SMTPConn) time.Duration
	// OnConnect runs before the greeting, after the pregreet test; a reply refuses.
	OnConnect func(*SMTPConn) *Reply
	// OnPregreet decides about a client that talked first; nil hook refuses it,
	// a nil reply lets it pass.
	OnPregreet func(*SMTPConn) *Reply
	// OnPipelining is told of unauthorised pipelining at a command; a reply
	// refuses. Without the hook RejectPipelining decides.
	OnPipelining func(c *SMTPConn, verb string) *Reply
	// OnCommand sees each well-formed command before the engine; a reply answers
	// it instead. Not called for DATA's body, SASL answers and BDAT's octets.
	OnCommand func(c *SMTPConn, verb, arg string) *Reply
	// EHLO edits the announced extensions.
	EHLO func(c *SMTPConn, caps []string) []string
	// OnReply may change a one-line reply of the engine to a command.
	OnReply func(c *SMTPConn, verb string, r *Reply)
	// OnReset is told that STARTTLS or XCLIENT began the session anew: what the
	// client said before counts no more (RFC 3207 §4.2).
	OnReset func(c *SMTPConn, verb string)
}

func or[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// SMTP makes the protocol for a listener.
func SMTP(cfg *SMTPConfig) Protocol { return &smtpProtocol{cfg} }

type smtpProtocol struct{ cfg *SMTPConfig }

func (p *smtpProtocol) Name() string { return "smtp" }

func (p *smtpProtocol) Refuse(r Refusal) []byte {
	text := "Error: too many connections"
	if r == RefusedPerIP || r == RefusedPerMinute {
		text = "Error: too many connections from your address"
	}
	if r == RefusedPaused {
		return []byte("421 4.3.2 " + p.cfg.Hostname + " Service not available here at the moment\r\n")
	}
	return []byte("421 4.7.0 " + p.cfg.Hostname + " " + text + "\r\n")
}

func (p *smtpProtocol) Bye() []byte {
	return []byte("421 4.3.2 " + p.cfg.Hostname + " Service closing\r\n")
}

func (p *smtpProtocol) Wrap(c *Conn) net.Conn { return NewSMTP(c, p.cfg) }

// mode is what the client's next bytes are.
type mode uint8

const (
	modeCommand mode = iota
	modeAuth         // an answer to a 334 challenge
	modeData         // a message, up to CRLF.CRLF
	modeBDAT         // octets of a chunk
)

// SMTPConn is the gate between an SMTP client and the go-smtp engine. The engine
// sees one well-formed command at a time, and the body of a message only behind
// a 354.
type SMTPConn struct {
	*Conn
	cfg *SMTPConfig

	mode    mode
	feed    []byte // bytes on their way to the engine
	verb    string // command whose reply is awaited
	swap    *swap  // what happens instead of passing its reply on
	out     []byte // incomplete reply of the engine
	greeted bool   // banner is out
	gone    bool   // closed by the gate; the engine is fed EOF
	closing bool   // close after the next reply

	helo, nextHelo string
	esmtp          bool
	authed         bool
	mail           bool // a transaction is open
	rcpts          int
	binary         bool // BODY=BINARYMIME
	nextBinary     bool
	path           string
	chunks         bool // BDAT has begun
	last           bool // … and this is its last chunk
	left           int64
	maxMessage     int64

	body    body
	fault   *Reply // why the message under way is refused
	told    bool   // the engine's reader has had the error
	fast    bool   // the session reads through Body
	lastOut byte   // last body byte fed to the engine

	errors, junk int
	messages     int
	pregreet     bool
	early        bool
	xclient      map[string]string
}

// swap replaces the engine's reply to a command that the gate put in.
type swap struct {
	reply *Reply
	then  func() error
}

// NewSMTP puts the SMTP gate over a connection.
func NewSMTP(c *Conn, cfg *SMTPConfig) *SMTPConn {
	return &SMTPConn{Conn: c, cfg: cfg, maxMessage: cfg.MaxMessage}
}

// FromSMTP returns the gate under an engine's connection, as (*smtp.Conn).Conn()
// gives it; nil if there is none.
func FromSMTP(c net.Conn) *SMTPConn {
	s, _ := c.(*SMTPConn)
	return s
}

// Helo returns the name the client gave in its last accepted HELO or EHLO.
func (s *SMTPConn) Helo() string { return s.helo }

// ESMTP reports whether the client said EHLO.
func (s *SMTPConn) ESMTP() bool { return s.esmtp }

// Authenticated reports whether AUTH succeeded.
func (s *SMTPConn) Authenticated() bool { return s.authed }

// Pregreeted reports whether the client talked before the greeting.
func (s *SMTPConn) Pregreeted() bool { return s.pregreet }

// Pipelined reports whether the client sent ahead where it had to wait.
func (s *SMTPConn) Pipelined() bool { return s.early }

// Errors returns the number of error replies so far.
func (s *SMTPConn) Errors() int { return s.errors }

// Messages returns the number of messages accepted on this connection.
func (s *SMTPConn) Messages() int { return s.messages }

// Path returns what stood between < and > in the current MAIL or RCPT, quoting
// and case kept, source route removed: "" for <>, "postmaster" for <postmaster>.
func (s *SMTPConn) Path() string { return s.path }

// XClient returns an attribute of the client's XCLIENT command ("LOGIN", "NAME",
// "PROTO" …), decoded; empty if not given.
func (s *SMTPConn) XClient(name string) string { return s.xclient[name] }

// SetMaxMessage changes the size limit of this connection, after AUTH for
// instance; 0 removes it.
func (s *SMTPConn) SetMaxMessage(n int64) { s.maxMessage = n }

// CloseAfterReply ends the connection after the next reply of the engine.
func (s *SMTPConn) CloseAfterReply() { s.closing = true }

// BodyFacts are what the gate saw in the raw bytes of a message.
type BodyFacts struct {
	Size    int64 // bytes, dots unstuffed
	BareLF  int
	BareCR  int
	Longest int // longest line with its CRLF
	Chunked bool
}

// BodyFacts describes the message of the present transaction; complete when its
// reader has returned io.EOF.
func (s *SMTPConn) BodyFacts() BodyFacts {
	return BodyFacts{Size: s.body.size, BareLF: s.body.bareLF, BareCR: s.body.bareCR,
		Longest: s.body.longest, Chunked: s.chunks}
}

// TLSConnectionState returns the TLS state or nil on a plain connection.
func (s *SMTPConn) TLSConnectionState() *tls.ConnectionState {
	if st, ok := s.TLSState(); ok {
		return &st
	}
	return nil
}
