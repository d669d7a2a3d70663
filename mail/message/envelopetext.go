package message

// EnvelopeText is what a person sees of a message in a list.
type EnvelopeText struct {
	Date      string // as written
	Subject   string // decoded
	From      string // decoded: name <address>
	MessageID string
}

// ReadEnvelope reads the ENVELOPE of a Meta. What can't be read stays empty.
func ReadEnvelope(env []byte) (t EnvelopeText) {
	f, ok := SplitEnvelope(env)
	if !ok {
		return t
	}
	t.Date, t.Subject, t.MessageID = NString(f[EnvDate]), Decode(NString(f[EnvSubject])), NString(f[EnvMessageID])
	for _, a := range EnvelopeAddresses(f[EnvFrom], 0) {
		if a.Host == "" || a.IsGroup {
			continue
		}
		if t.From = a.Local + "@" + a.Host; a.Name != "" {
			t.From = Decode(a.Name) + " <" + t.From + ">"
		}
		break
	}
	return t
}
