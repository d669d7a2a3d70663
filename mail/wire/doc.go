// Package wire is the gate between the network and the SMTP, IMAP and POP3
// sessions. It owns everything that is about the connection and not about
// mail: TLS, deadlines, limits, coalesced writes, the PROXY protocol, byte
// counters and the transcript. For SMTP it also stands between the client and
// the go-smtp engine and lets only well-formed input through.
//
// # Listening
//
//	l, err := wire.Listen("tcp", ":25", wire.Config{
//		Protocol: wire.SMTP(&wire.SMTPConfig{Hostname: "mx.example.org"}),
//		TLS:      certs.ForHello,
//		Timeouts: wire.DefaultTimeouts,
//		Limits:   wire.Limits{MaxConns: 1000, MaxPerIP: 50},
//		Log:      log,
//	})
//
// Listener is a net.Listener. Rebind moves it to another address while it
// runs, SetLimits changes the limits, Shutdown says goodbye to each client when
// it is between two commands.
//
// # SMTP (mail/smtpd)
//
// Give the listener to (*smtp.Server).Serve with these settings, because the
// gate does the rest:
//
//	srv.ReadTimeout, srv.WriteTimeout = 0, 0 // the gate keeps time by progress
//	srv.MaxLineLength = 0                    // the gate limits lines
//	srv.MaxMessageBytes = 0                  // the gate limits size and announces SIZE
//	srv.TLSConfig = nil                      // STARTTLS lives in the gate
//	srv.AllowInsecureAuth = true             // the gate hides and refuses AUTH
//
// In the backend:
//
//	func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
//		g := wire.FromSMTP(c.Conn()) // facts: g.RemoteIP(), g.TLSState(), g.Helo() …
//	}
//	func (s *session) Rcpt(to string, o *smtp.RcptOptions) error {
//		path := s.g.Path() // what stood between < and >, quoting kept: parse this
//	}
//	func (s *session) Data(r io.Reader) error {
//		body := s.g.Body(r) // several times faster than r, same bytes
//	}
//
// An error from Body (or from r) means that the message is refused: the session
// must not accept what it has read so far. A *Reply error carries the text that
// the gate sends anyway, whatever the session returns. go-smtp creates the session
// at the first EHLO and keeps it over STARTTLS and XCLIENT, so ask the gate for the
// TLS state each time, and use SMTPConfig.OnReset to forget what was learnt before.
//
// `RCPT TO:<postmaster>` reaches go-smtp as <postmaster@PostmasterDomain>;
// Path still says "postmaster".
//
// # IMAP and POP3 (mail/imapd, mail/pop3d)
//
// Accept returns a *Conn. ReadLine, ReadN, Peek and Literal read through one
// buffer, without allocation; Write collects answers, which leave when the
// reader is about to block, at 32 KiB, or at Flush. While the reader is blocked
// (IDLE) a Write from another goroutine leaves at once. WaitReadable waits for
// input, holding no buffer, and ends with its context. StartTLS upgrades after
// the answer to STARTTLS was written.
//
// Deadlines follow progress: Timeouts.Idle until the first byte of a command,
// Timeouts.Command for the whole command line, and for literals Timeouts.Data
// between two bytes together with a minimal rate over the whole literal. A
// 100 MiB APPEND over a slow line works, a client that dribbles does not.
package wire
