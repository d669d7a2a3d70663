package autoreply

import (
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
)

// maxReferences bounds the message IDs that a reply refers to.
const maxReferences = 20

// Build writes the reply of an account to a message (RFC 3834 §3). id names it.
func Build(e *flow.Envelope, a *directory.Account, r *model.AutoReply, id string, now time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s\r\nTo: <%s>\r\n", mailbox(a.DisplayName, a.MainAddress()), e.From.String())
	field(&b, "Subject", mime.QEncoding.Encode("utf-8", subject(r, e.Facts.Subject)))
	fmt.Fprintf(&b, "Date: %s\r\nMessage-ID: <%s@%s>\r\n", now.Format(time.RFC1123Z), id, e.Settings.System.Hostname)
	if ids := message.MessageIDs(e.Facts.MessageID); len(ids) == 1 && plain(ids[0]) {
		fmt.Fprintf(&b, "In-Reply-To: <%s>\r\n", ids[0])
		field(&b, "References", references(&e.Facts.Header, ids[0]))
	}
	b.WriteString("Auto-Submitted: auto-replied\r\nX-Auto-Response-Suppress: All\r\nMIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	fmt.Fprintf(w, "%s\r\n", strings.ReplaceAll(strings.TrimRight(r.Text, "\n"), "\n", "\r\n"))
	w.Close()
	return []byte(b.String())
}

// subject is the user's, or says that the answer is automatic (RFC 3834 §3.1.5).
func subject(r *model.AutoReply, original string) string {
	if r.Subject != "" {
		return r.Subject
	}
	clean := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(original, "\uFFFD"))
	if clean = strings.TrimSpace("Auto: " + clean); utf8.RuneCountInString(clean) > model.MaxReplySubject {
		clean = string([]rune(clean)[:model.MaxReplySubject])
	}
	return clean
}

// references are the original's and its own ID (RFC 5322 §3.6.4), the last ones when there are many.
func references(h *message.Header, id string) string {
	ids := message.MessageIDs(h.Get("References"))
	if len(ids) == 0 {
		if parent := message.MessageIDs(h.Get("In-Reply-To")); len(parent) == 1 {
			ids = parent
		}
	}
	ids = append(ids, id)
	out := make([]string, 0, maxReferences)
	for _, x := range ids[max(0, len(ids)-maxReferences):] {
		if plain(x) {
			out = append(out, "<"+x+">")
		}
	}
	return strings.Join(out, " ")
}

// plain tells whether a message ID can be repeated in a header.
func plain(id string) bool {
	if id == "" || len(id) > 250 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] >= 0x7f {
			return false
		}
	}
	return true
}

// mailbox writes a name and an address.
func mailbox(name, address string) string {
	if name == "" {
		return "<" + address + ">"
	}
	ascii := !strings.ContainsFunc(name, func(c rune) bool { return c >= 0x80 })
	if ascii {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" <` + address + ">"
	}
	return mime.BEncoding.Encode("utf-8", name) + " <" + address + ">"
}

// field writes a header field, folded at blanks (RFC 5322 §2.2.3).
func field(b *strings.Builder, name, value string) {
	line := name + ":"
	for _, w := range strings.Split(strings.ReplaceAll(value, "\r\n ", " "), " ") {
		if len(line)+1+len(w) > 78 && len(line) > len(name)+1 {
			b.WriteString(line + "\r\n")
			line = ""
		}
		line += " " + w
	}
	b.WriteString(line + "\r\n")
}
