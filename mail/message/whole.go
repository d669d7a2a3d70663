package message

import (
	"slices"
	"strings"
)

// A field with addresses can be searched in the ENVELOPE when the addresses, written in one of the
// usual ways, give what the header says. Comments, groups and odd spaces don't.
const (
	quoteNames = 1 << iota // names in quotation marks that don't need them
	angleBare              // addresses without a name in angle brackets
	addressForms
)

// addressBits is where Meta.Whole has its bits about a field with addresses: one that the ENVELOPE
// tells all of it, two for the form. 0: it has none.
func addressBits(field int) int {
	if i := slices.Index([]int{EnvFrom, EnvTo, EnvCc, EnvBcc}, field); i >= 0 {
		return envFields + 3*i
	}
	return 0
}

// addressForm finds the way in which a field is written.
func addressForm(value string, env []byte) (form int, ok bool) {
	want := Fold(Decode(value))
	list := EnvelopeAddresses(env, 0)
	for form := range addressForms {
		if s, ok := writeAddresses(list, form); ok && Fold(Decode(s)) == want {
			return form, true
		}
	}
	return 0, false
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// writeAddresses writes a list of addresses as it stands in a header; false: it has none, or groups.
func writeAddresses(list []Mailbox, form int) (string, bool) {
	var b strings.Builder
	for i, a := range list {
		if a.IsGroup || a.Host == "" {
			return "", false
		}
		if i > 0 {
			b.WriteString(", ")
		}
		bracket := a.Name != "" || form&angleBare != 0
		switch {
		case a.Name == "":
		case form&quoteNames != 0 || strings.ContainsAny(a.Name, `()<>[]:;@\,."`):
			b.WriteString(`"` + escaper.Replace(a.Name) + `" `)
		default:
			b.WriteString(a.Name + " ")
		}
		if bracket {
			b.WriteByte('<')
		}
		b.WriteString(a.Local + "@" + a.Host)
		if bracket {
			b.WriteByte('>')
		}
	}
	return b.String(), len(list) > 0
}

// Has tells whether a field of the header contains a folded text, as FieldHas does, as far as the
// ENVELOPE knows; known is false where only the message itself can tell.
func (m *Meta) Has(name, folded string) (has, known bool) {
	i := slices.IndexFunc(envelopeNames[:], func(s string) bool { return strings.EqualFold(s, name) })
	if i < 0 {
		return false, false
	}
	shift := addressBits(i)
	listed := shift > 0 && m.Whole>>shift&1 != 0
	if !listed && m.Whole&(1<<i) == 0 {
		return false, false
	}
	env, ok := SplitEnvelope(m.Envelope)
	if !ok {
		return false, false
	}
	switch i {
	case EnvDate, EnvSubject, EnvInReplyTo, EnvMessageID:
	default:
		if !listed { // no such field, but Sender and Reply-To show From then
			return false, true
		}
		if folded == "" {
			return true, true
		}
		s, ok := writeAddresses(EnvelopeAddresses(env[i], 0), int(m.Whole>>(shift+1))&(addressForms-1))
		return ok && strings.Contains(Fold(Decode(s)), folded), ok
	}
	if string(env[i]) == "NIL" {
		return false, true
	}
	return folded == "" || strings.Contains(Fold(Decode(NString(env[i]))), folded), true
}
