package model

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// AutoReply is what a user's absence answers by itself (RFC 3834). It is the user's own.
type AutoReply struct {
	User    string `cbor:"user" json:"user"`                 // key of the user
	Subject string `cbor:"subject,omitempty" json:"subject"` // empty: "Auto:" and the subject of the mail
	Text    string `cbor:"text" json:"text"`
	From    int64  `cbor:"from,omitempty" json:"from"`   // Unix seconds; 0: at once
	Until   int64  `cbor:"until,omitempty" json:"until"` // Unix seconds, not included; 0: until it is deleted
	// Since is when it was set (Unix nanoseconds): who was answered before gets the new text, too.
	Since int64 `cbor:"since" json:"-"`
}

// Limits of automatic replies.
const (
	MaxReplySubject = 200      // characters
	MaxReplyText    = 32 << 10 // octets
	ReplyDays       = 7        // a sender is answered once in so many days (RFC 3834 §2)
	MaxReplied      = 1000     // senders that are remembered for one user, and answered in that time
)

// Validate checks the reply's own fields.
func (r *AutoReply) Validate() error {
	r.Subject, r.Text = strings.TrimSpace(r.Subject), strings.ReplaceAll(r.Text, "\r\n", "\n")
	switch {
	case strings.TrimSpace(r.Text) == "":
		return Invalid("text", "is empty")
	case len(r.Text) > MaxReplyText:
		return Invalid("text", "has %d octets, more than %d", len(r.Text), MaxReplyText)
	case !utf8.ValidString(r.Text):
		return Invalid("text", "is not valid UTF-8")
	case utf8.RuneCountInString(r.Subject) > MaxReplySubject:
		return Invalid("subject", "has more than %d characters", MaxReplySubject)
	case r.Until != 0 && r.Until <= r.From:
		return Invalid("until", "is not after the start")
	}
	for _, c := range r.Subject {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return Invalid("subject", "contains a control character, or is not valid UTF-8")
		}
	}
	for _, c := range r.Text {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			return Invalid("text", "contains %q, which is not allowed", c)
		}
	}
	return nil
}

// InForce tells whether mail that comes at a time (Unix seconds) is answered.
func (r *AutoReply) InForce(at int64) bool {
	return at >= r.From && (r.Until == 0 || at < r.Until)
}
