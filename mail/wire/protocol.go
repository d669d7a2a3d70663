package wire

import "net"

// Plain is a protocol without texts of its own.
type Plain struct{}

// Name implements Protocol.
func (Plain) Name() string { return "plain" }

// Refuse implements Protocol.
func (Plain) Refuse(Refusal) []byte { return nil }

// Bye implements Protocol.
func (Plain) Bye() []byte { return nil }

// Wrap implements Protocol.
func (Plain) Wrap(c *Conn) net.Conn { return c }

// IMAP is RFC 9051: refusals and goodbyes are BYE responses (§7.1.5).
type IMAP struct{ Plain }

// Name implements Protocol.
func (IMAP) Name() string { return "imap" }

// Refuse implements Protocol.
func (IMAP) Refuse(r Refusal) []byte {
	if r == RefusedPaused {
		return []byte("* BYE [UNAVAILABLE] Service not available here at the moment\r\n")
	}
	return []byte("* BYE [UNAVAILABLE] Too many connections, try again later\r\n")
}

// Bye implements Protocol.
func (IMAP) Bye() []byte { return []byte("* BYE [UNAVAILABLE] Server shutting down\r\n") }

// POP3 is RFC 1939 with the response codes of RFC 3206.
type POP3 struct{ Plain }

// Name implements Protocol.
func (POP3) Name() string { return "pop3" }

// Refuse implements Protocol.
func (POP3) Refuse(r Refusal) []byte {
	if r == RefusedPaused {
		return []byte("-ERR [SYS/TEMP] Service not available here at the moment\r\n")
	}
	return []byte("-ERR [SYS/TEMP] Too many connections, try again later\r\n")
}

// Bye implements Protocol.
func (POP3) Bye() []byte { return []byte("-ERR [SYS/TEMP] Server shutting down\r\n") }
