package imapd

// doNamespace is RFC 2342: one namespace, the user's own.
func (ss *session) doNamespace() error {
	ss.put(`* NAMESPACE (("" "/")) NIL NIL`, "\r\n")
	return nil
}
