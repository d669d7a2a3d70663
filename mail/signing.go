package mail

import (
	"context"
	"strings"

	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/model"
	"mailplusd/mail/sender"
)

// dkimSign says with which keys a message is signed (R8.25, A.60): those of the domain in From, which
// is also what d= names. Mail from other servers never gets a signature, whatever its From claims.
func dkimSign(_ context.Context, e *flow.Envelope, _ *flow.Recipient) flow.Verdict {
	e.Sign = nil
	author := e.Facts.Author
	switch {
	case !e.Leaves():
		return flow.Note("not signed: it does not leave this server")
	case author.IsNull():
		return flow.Note("not signed: there is no From field, or more than one")
	}
	domain, row := signingDomain(e, author.Domain)
	switch {
	case row == nil || !row.Enabled:
		return flow.Note("not signed: signing is not on for %s", author.Domain)
	case e.Actor != nil && e.Settings.Delivery.SenderMatch && !owns(e, author.String()):
		return flow.Note("not signed: %s does not belong to the login %s", author, e.Actor.Name)
	}
	var names []string
	for _, k := range row.Signing() {
		e.Sign = append(e.Sign, sender.Signature{Domain: domain, Selector: k.Selector, Public: k.Public, Private: k.Private})
		names = append(names, "s="+k.Selector)
	}
	return flow.Note("signed with d=%s %s", domain, strings.Join(names, " "))
}

// signingDomain finds the keys for a From domain. What the server itself writes, such as
// notifications, is from its host name: there the hosted domain above it signs.
func signingDomain(e *flow.Envelope, from string) (string, *model.DKIM) {
	if row := e.Directory.DKIM(from); row != nil || from != e.Settings.System.Hostname {
		return from, row
	}
	return above(e.Directory, from)
}

func above(pic *directory.Picture, name string) (string, *model.DKIM) {
	for {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return "", nil
		}
		if row := pic.DKIM(rest); row != nil {
			return rest, row
		}
		name = rest
	}
}

// sign makes the signatures that the chain has asked for. Mail that can't be signed goes out
// unsigned: it may be taken all the same, and the administrator is told by status and check dns.
func (s *Server) sign(e *flow.Envelope, head, text []byte) []byte {
	out, err := s.Signer.Sign(e.Sign, head, text)
	if err != nil {
		s.log.Error("message not signed", "id", e.ID, "err", err)
	}
	return out
}
