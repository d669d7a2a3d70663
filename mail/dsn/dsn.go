// Package dsn writes delivery status notifications (RFC 3461, RFC 3464): to people in the
// first part, to programs in the second, with the original or its header in the third. Where
// addresses or the original's header are not ASCII they have the forms of RFC 6533.
package dsn

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"mailplusd/mail/model"
)

// Kind is what is reported.
type Kind string

// The kinds.
const (
	Failed    Kind = "failed"
	Delayed   Kind = "delayed"
	Relayed   Kind = "relayed"   // delivered to a server that doesn't report
	Delivered Kind = "delivered" // stored in a mailbox
)

// Rcpt is one recipient in a notification.
type Rcpt struct {
	Address, ORcpt string
	Code           int
	Reason         string // the other server's words
	Remote         string
	At             time.Time
	Until          time.Time // of a delay: when it is given up
}

// Report is what a notification says.
type Report struct {
	Kind     Kind
	Hostname string
	To       string // the original's sender
	EnvID    string
	Arrived  time.Time
	Now      time.Time
	Rcpts    []Rcpt
	Original []byte // the header of the original, or all of it
	Full     bool   // Original is all of it
}

const maxHeader = 64 << 10

// MaxFull is the size in octets up to which a whole original is given back, where RET=FULL asks
// for it. Of a larger one there is the header (RFC 3461 §4.3 leaves that to the server).
const MaxFull = 256 << 10

// Wanted tells whether a recipient's NOTIFY asks for a kind; without NOTIFY only failures and
// delays are told (RFC 3461 §4.1).
func Wanted(r *model.QueueRcpt, k Kind) bool {
	word := map[Kind]string{Failed: "FAILURE", Delayed: "DELAY", Relayed: "SUCCESS", Delivered: "SUCCESS"}[k]
	if r.Notify == "" {
		return word != "SUCCESS"
	}
	for _, n := range strings.Split(strings.ToUpper(r.Notify), ",") {
		if n == word {
			return true
		}
	}
	return false
}

var subjects = map[Kind]string{
	Failed: "Undelivered mail", Delayed: "Delayed mail (still being tried)", Relayed: "Successful delivery", Delivered: "Successful delivery",
}

// Build writes the notification. It needs SMTPUTF8 where To is not ASCII, and no more than 8BITMIME
// otherwise.
func (r *Report) Build() []byte {
	var raw [12]byte
	rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n",
		r.Hostname, r.To, subjects[r.Kind], r.Now.Format(time.RFC1123Z), id, r.Hostname)
	fmt.Fprintf(&b, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"\r\n\r\n", id)
	var people, programs strings.Builder
	r.people(&people)
	r.programs(&programs)
	part(&b, id, "text/plain; charset=utf-8", []byte(people.String()))
	if r.global() {
		part(&b, id, "message/global-delivery-status", []byte(programs.String()))
	} else {
		part(&b, id, "message/delivery-status", []byte(programs.String()))
	}
	kind, original := r.original()
	part(&b, id, kind, original)
	fmt.Fprintf(&b, "--%s--\r\n", id)
	return b.Bytes()
}

// part writes a part of the notification.
func part(b *bytes.Buffer, boundary, kind string, text []byte) {
	fmt.Fprintf(b, "--%s\r\nContent-Type: %s\r\n", boundary, kind)
	if !isASCII(text) {
		b.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	b.WriteString("\r\n")
	b.Write(text)
	b.WriteString("\r\n")
}

// original is what is given back, and of which type it is (RFC 3462 §2, RFC 6533 §5).
func (r *Report) original() (kind string, text []byte) {
	text = r.Original
	header := text
	if i := bytes.Index(text, []byte("\r\n\r\n")); i >= 0 {
		header = text[:i+2]
	}
	full := r.Full && len(text) <= MaxFull
	if !full {
		text = header[:min(len(header), maxHeader)]
	}
	switch ascii := isASCII(header); {
	case full && ascii:
		return "message/rfc822", text
	case full:
		return "message/global", text
	case ascii:
		return "text/rfc822-headers", text
	}
	return "message/global-headers", text
}

func (r *Report) people(b *strings.Builder) {
	fmt.Fprintf(b, "This is the mail server %s.\r\n\r\n", r.Hostname)
	switch r.Kind {
	case Failed:
		b.WriteString("Your message could not be delivered to the recipients below. It will not be tried again.\r\n")
	case Delayed:
		b.WriteString("Your message has not been delivered yet. You need not send it again: it is still being tried.\r\n")
	case Relayed:
		b.WriteString("Your message was handed over to the recipients' mail servers.\r\n")
	case Delivered:
		b.WriteString("Your message has been delivered to the recipients' mailboxes.\r\n")
	}
	for _, x := range r.Rcpts {
		fmt.Fprintf(b, "\r\n<%s>\r\n", x.Address)
		if x.Remote != "" {
			fmt.Fprintf(b, "    server: %s\r\n", x.Remote)
		}
		fmt.Fprintf(b, "    reason: %s\r\n", x.Reason)
		if !x.Until.IsZero() {
			fmt.Fprintf(b, "    given up after: %s\r\n", x.Until.Format(time.RFC1123Z))
		}
	}
}

// global tells whether the part for programs has addresses that are not ASCII (RFC 6533 §4).
func (r *Report) global() bool {
	for _, x := range r.Rcpts {
		if !isASCII(x.Address) || !isASCII(x.ORcpt) {
			return true
		}
	}
	return false
}

func (r *Report) programs(b *strings.Builder) {
	words := func(s string) string { return plain(s, r.global()) }
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", r.Hostname)
	if r.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", words(r.EnvID))
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", r.Arrived.Format(time.RFC1123Z))
	for _, x := range r.Rcpts {
		b.WriteString("\r\n")
		if kind, addr, ok := strings.Cut(x.ORcpt, ";"); ok {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", typed(kind, addr, ";"))
		}
		fmt.Fprintf(b, "Final-Recipient: %s\r\nAction: %s\r\nStatus: %s\r\n", typed("rfc822", x.Address, "; "), r.Kind, status(r.Kind, x.Reason))
		if host, _, ok := strings.Cut(x.Remote, " "); ok {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", words(host))
		}
		switch first, _, _ := strings.Cut(x.Reason, " "); {
		case x.Code > 0 && isCode(first):
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", words(x.Reason))
		case r.Kind == Failed || r.Kind == Delayed: // our words
			fmt.Fprintf(b, "Diagnostic-Code: x-mailplusd; %s\r\n", words(x.Reason))
		}
		fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", x.At.Format(time.RFC1123Z))
		if !x.Until.IsZero() {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", x.Until.Format(time.RFC1123Z))
		}
	}
}

// typed writes an address with its type. One that is not ASCII is of the type utf-8 (RFC 6533 §3).
func typed(kind, addr, between string) string {
	if !isASCII(addr) || strings.EqualFold(kind, "utf-8") {
		return "utf-8" + between + unitext(addr)
	}
	return plain(kind, false) + between + plain(addr, false)
}

// unitext is an address as RFC 6533 §3 has it in a notification: in UTF-8, what would be taken for
// something else as code points.
func unitext(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c <= ' ' || c == 0x7f || c == '+' || c == '=' || c == '\\' {
			fmt.Fprintf(&b, "\\x{%02X}", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// plain keeps foreign words from ending a line, and where it must in ASCII.
func plain(s string, utf8 bool) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && !utf8 {
			return '?'
		}
		return c
	}, s)
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// status takes the enhanced code out of the other server's words (RFC 3463), where it stands behind the
// reply's code, or out of ours, where it is first; or makes one. Elsewhere it is part of an address or a version.
func status(k Kind, reason string) string {
	before := ""
	for _, w := range strings.Fields(reason) {
		if isStatus(w) && (before == "" || isCode(before) || strings.HasSuffix(before, ":")) {
			if isCode(before) {
				w = before[:1] + w[1:] // where they disagree, what the client has gone by
			}
			return w
		}
		before = w
	}
	return map[Kind]string{Failed: "5.0.0", Delayed: "4.0.0", Relayed: "2.0.0", Delivered: "2.0.0"}[k]
}

// isCode tells whether a word is a reply code that has a class in RFC 3463.
func isCode(w string) bool {
	return len(w) == 3 && strings.IndexByte("245", w[0]) >= 0 && digits(w[1:])
}

func isStatus(w string) bool {
	f := strings.Split(w, ".")
	return len(f) == 3 && len(f[0]) == 1 && strings.Contains("245", f[0]) && digits(f[1]) && digits(f[2])
}

// digits tells whether a text is a number of at most three digits.
func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 3
}
