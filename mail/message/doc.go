// Package message reads mail as it really is: addresses, header fields, MIME structure.
// Its walker is tolerant (what it can't understand is text, never an error) and bounded
// (parts, depth, header octets). It also makes the wire form of IMAP's ENVELOPE and
// BODYSTRUCTURE once, when a message is stored, so that a listing only copies it.
package message
