package imapd

import (
	"encoding/hex"
	"errors"

	"mailplusd/mail/store"
)

// objectID writes an identifier of RFC 8474.
func objectID(guid [16]byte) string { return hex.EncodeToString(guid[:]) }

// emailID tells whether the message of a search has an EMAILID. The view doesn't keep it: it is read.
func (s *search) emailID(id string) (bool, error) {
	st, err := s.ss.srv.Store.Message(s.ss.view.Mailbox.ID, s.m.UID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && objectID(st.GUID) == id, err
}
