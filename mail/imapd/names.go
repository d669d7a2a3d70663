package imapd

import (
	"strings"
	"unicode/utf8"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/model"
)

// utf8Names tells whether mailbox names are UTF-8 on this connection (RFC 6855 §3, RFC 9051 §5.1).
func (ss *session) utf8Names() bool { return ss.has(featUTF8 | featRev2) }

// quote writes a mailbox name.
func (ss *session) quote(name string) string {
	if !ss.utf8Names() {
		name = encodeUTF7(name)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// decode gives a name or pattern as it was sent its meaning.
func (ss *session) decode(raw string) (string, error) {
	if !ss.utf8Names() {
		return decodeUTF7(raw)
	}
	if !utf8.ValidString(raw) {
		return "", errUTF8
	}
	return raw, nil
}

// decodeName is decode for the name of a mailbox. A delimiter at its end says that mailboxes below are
// meant to come (RFC 3501 §6.3.3) and is no part of it.
func (ss *session) decodeName(raw string) (string, error) {
	name, err := ss.decode(raw)
	if err != nil {
		return "", no{"CANNOT", err.Error()}
	}
	return model.CanonicalMailboxName(strings.TrimSuffix(name, model.Delimiter)), nil
}

// mailboxName reads a mailbox name.
func (ss *session) mailboxName(p *imapparse.Parser) (string, error) {
	raw, err := p.Mailbox()
	if err != nil {
		return "", bad{err.Error()}
	}
	return ss.decodeName(raw)
}
