// Package dsn writes delivery status notifications (RFC 3461, RFC 3464): to people in the
// first part, to programs in the second, with the original's header in the third.
package dsn

import (
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
	Failed  Kind = "failed"
	Delayed Kind = "delayed"
	Relayed Kind = "relayed" // delivered to a server that doesn't report
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
	Header   []byte // of the original
}

const maxHeader = 64 << 10

// Wanted tells whether a recipient's NOTIFY asks for a kind; without NOTIFY only failures and
// delays are told (RFC 3461 §4.1).
func Wanted(r *model.QueueRcpt, k Kind) bool {
	word := map[Kind]string{Failed: "FAILURE", Delayed: "DELAY", Relayed: "SUCCESS"}[k]
	if r.Notify == "" {
		return k != Relayed
	}
	for _, n := range strings.Split(strings.ToUpper(r.Notify), ",") {
		if n == word {
			return true
		}
	}
	return false
}

var subjects = map[Kind]string{Failed: "Undelivered mail", Delayed: "Delayed mail (still being tried)", Relayed: "Successful delivery"}

// Build writes the notification.
func (r *Report) Build() []byte {
	var raw [12]byte
	rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	var b strings.Builder
	fmt.Fprintf(&b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n",
		r.Hostname, r.To, subjects[r.Kind], r.Now.Format(time.RFC1123Z), id, r.Hostname)
	fmt.Fprintf(&b, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"\r\n\r\n", id)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", id)
	r.people(&b)
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: message/delivery-status\r\n\r\n", id)
	r.programs(&b)
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: text/rfc822-headers\r\n\r\n", id)
	h := r.Header
	if len(h) > maxHeader {
		h = h[:maxHeader]
	}
	b.Write(h)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", id)
	return []byte(b.String())
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

func (r *Report) programs(b *strings.Builder) {
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", r.Hostname)
	if r.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", r.EnvID)
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", r.Arrived.Format(time.RFC1123Z))
	for _, x := range r.Rcpts {
		b.WriteString("\r\n")
		if x.ORcpt != "" {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", x.ORcpt)
		}
		fmt.Fprintf(b, "Final-Recipient: rfc822; %s\r\nAction: %s\r\nStatus: %s\r\n", x.Address, r.Kind, status(r.Kind, x.Reason))
		if host, _, ok := strings.Cut(x.Remote, " "); ok {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", host)
		}
		if x.Code > 0 {
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", x.Reason)
		}
		fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", x.At.Format(time.RFC1123Z))
		if !x.Until.IsZero() {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", x.Until.Format(time.RFC1123Z))
		}
	}
}

// status takes the enhanced code out of the other server's words (RFC 3463), or makes one.
func status(k Kind, reason string) string {
	for _, w := range strings.Fields(reason) {
		var c, s, d int
		if n, _ := fmt.Sscanf(w, "%d.%d.%d", &c, &s, &d); n == 3 && c >= 2 && c <= 5 {
			return fmt.Sprintf("%d.%d.%d", c, s, d)
		}
	}
	return map[Kind]string{Failed: "5.0.0", Delayed: "4.0.0", Relayed: "2.0.0"}[k]
}
