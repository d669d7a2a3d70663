// Package autoreply decides which mail is answered while its reader is away, and writes the
// answer (RFC 3834). Only what a person has written to the account by name is answered, and only
// to the address that bounces would go to.
package autoreply

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/srs"
)

// Silence says why nobody's absence answers a message; empty: it may be answered.
func Silence(e *flow.Envelope) string {
	h := &e.Facts.Header
	switch {
	case e.Direction == flow.Own:
		return "the server wrote it itself"
	case e.From.IsNull():
		return "it has no sender: a notification"
	case e.Use == model.UseJunk:
		return "it is junk"
	case system(e.From.Local):
		return e.From.String() + " is no person"
	}
	if v, _, _ := strings.Cut(h.Get("Auto-Submitted"), ";"); v != "" && !strings.EqualFold(strings.TrimSpace(v), "no") {
		return "Auto-Submitted: " + v
	}
	switch v := strings.ToLower(strings.TrimSpace(h.Get("Precedence"))); v {
	case "bulk", "list", "junk":
		return "Precedence: " + v
	}
	for i := range h.Fields {
		if name := strings.ToLower(h.Fields[i].Name); strings.HasPrefix(name, "list-") || name == "mailing-list" || name == "feedback-id" {
			return "mail of a list: " + h.Fields[i].Name
		}
	}
	for _, v := range strings.Split(strings.ToLower(h.Get("X-Auto-Response-Suppress")), ",") { // [MS-OXCMAIL] §2.1.3.2.20
		switch strings.TrimSpace(v) {
		case "all", "oof", "autoreply":
			return "X-Auto-Response-Suppress: " + v
		}
	}
	if strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "multipart/report") {
		return "a report"
	}
	return ""
}

// robots are local parts of addresses that no person reads, and parts of such.
var robots = regexp.MustCompile(`^(mailer-daemon|postmaster|hostmaster|webmaster|abuse|root|daemon|nobody|uucp|www-data|listserv|majordomo|mailman|owner-.*|.*-(owner|request|bounces?)|bounces?([+=-].*)?|.*[+=-]bounces?([+=-].*)?|(do-?)?(no|not)[-_.]?reply([+=_.-].*)?|.*[-_.](no|do-?not)[-_.]?reply)$`)

func system(local string) bool { return robots.MatchString(strings.ToLower(local)) }

// Addressed tells whether the header names one of an account's addresses: mail that came through
// a list, an alias or a blind copy doesn't (RFC 5230 §4.5).
func Addressed(h *message.Header, a *directory.Account, p *directory.Picture) bool {
	for i := range h.Fields {
		switch strings.ToLower(h.Fields[i].Name) {
		case "to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc":
			for _, m := range message.ParseAddresses(h.Fields[i].Value) {
				if !m.IsGroup && owns(p, a, m.Local+"@"+m.Host) {
					return true
				}
			}
		}
	}
	return false
}

func owns(p *directory.Picture, a *directory.Account, address string) bool {
	if p.Address(address) == a {
		return true
	}
	local, domain, _ := model.SplitAddress(address)
	base, _, tagged := strings.Cut(local, "+")
	return tagged && p.Address(base+"@"+domain) == a
}

// Due gives the replies of the accounts that a message has reached and whose absence answers it.
func Due(e *flow.Envelope) []*model.AutoReply {
	if len(e.Directory.Replies) == 0 || e.Way == nil || Silence(e) != "" {
		return nil
	}
	var out []*model.AutoReply
	for i := range e.Way.Local {
		l := &e.Way.Local[i]
		r := e.Directory.Replies[l.Account.Name]
		if r == nil || !l.Asked || !r.InForce(e.At.Unix()) || len(out) == maxReplies {
			continue
		}
		if !owns(e.Directory, l.Account, e.From.String()) && Addressed(&e.Facts.Header, l.Account, e.Directory) {
			out = append(out, r)
		}
	}
	return out
}

// maxReplies bounds the absences that one message can meet.
const maxReplies = 20

// batv is the tag in front of a sender's local part that changes every day.
var batv = regexp.MustCompile(`(?i)^(prvs|msprvs1)=[^=]*=`)

// Sender names a sender for a reply: the same for the same person, whatever tags its address has,
// and another when the reply was set anew.
func Sender(from message.Address, r *model.AutoReply) []byte {
	local, domain := from.Local, from.Domain
	if l, d, ok := srs.Base(local); ok {
		local, domain = l, d
	}
	local = batv.ReplaceAllString(local, "")
	sum := sha256.Sum256(fmt.Appendf(nil, "%s@%s\n%d", strings.ToLower(local), strings.ToLower(domain), r.Since))
	return sum[:16]
}
