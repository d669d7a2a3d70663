package sender

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"sync"

	"mailplusd/mail/message"
	"mailplusd/mail/model"

	"github.com/emersion/go-msgauth/dkim"
)

// Signature names one signature to make.
type Signature struct {
	Domain   string // d=
	Selector string // s=
	Public   []byte
	Private  string // sealed
}

// Signer makes DKIM signatures with keys that are sealed.
type Signer struct {
	Unseal func(use, sealed string) (string, error)

	mu   sync.Mutex
	keys map[string]crypto.Signer // by use and sealed text
}

// maxCached is how many keys are kept in the clear; beyond it they are read anew.
const maxCached = 1000

// Ready tells whether a key can be used on this node; an error says why not.
func (s *Signer) Ready(public []byte, sealed string) error {
	_, err := s.key(public, sealed)
	return err
}

func (s *Signer) key(public []byte, sealed string) (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	use := Use(public)
	if k := s.keys[use+sealed]; k != nil {
		return k, nil
	}
	text, err := s.Unseal(use, sealed)
	if err != nil {
		return nil, err
	}
	k, err := parsePrivate(text)
	if err != nil {
		return nil, err
	}
	if s.keys == nil || len(s.keys) >= maxCached {
		s.keys = map[string]crypto.Signer{}
	}
	s.keys[use+sealed] = k
	return k, nil
}

// Sign gives the DKIM-Signature fields to put in front of a message. The message is head, fields
// that were put in front already, then text; lines end in CRLF. A signature that can't be made is
// left out and told in the error.
func (s *Signer) Sign(list []Signature, head, text []byte) ([]byte, error) {
	names := signedFields(head, text)
	var out []byte
	var errs []error
	for _, sig := range list {
		field, err := s.sign(sig, names, head, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", model.DKIMRecordName(sig.Selector, sig.Domain), err))
			continue
		}
		out = append(out, field...)
	}
	return out, errors.Join(errs...)
}

func (s *Signer) sign(sig Signature, names []string, head, text []byte) (string, error) {
	key, err := s.key(sig.Public, sig.Private)
	if err != nil {
		return "", err
	}
	w, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: sig.Domain, Selector: sig.Selector, Signer: key, HeaderKeys: names,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		return "", err
	}
	for _, piece := range [][]byte{head, text, endOfHeader(text)} {
		if err == nil {
			_, err = w.Write(piece)
		}
	}
	if cerr := w.Close(); cerr != nil { // the signer's own words say more than those of the pipe
		err = cerr
	}
	if err != nil {
		return "", err
	}
	return w.Signature(), nil
}

// endOfHeader is the empty line that a message without a body may lack.
func endOfHeader(text []byte) []byte {
	switch {
	case bytes.HasPrefix(text, []byte("\r\n")), bytes.Contains(text, []byte("\r\n\r\n")):
		return nil
	case bytes.HasSuffix(text, []byte("\r\n")), len(text) == 0:
		return []byte("\r\n")
	}
	return []byte("\r\n\r\n")
}

// oversigned are fields that a reader is shown or that say how the text is read: one more of them
// than there are is signed, so that nobody can add another (RFC 6376 §8.15).
var oversigned = []string{
	"From", "Sender", "Reply-To", "Subject", "Date", "Message-ID", "To", "Cc", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// signed are further fields that are signed where they are there (RFC 6376 §5.4.1). Trace fields are
// not: every server on the way adds its own.
var signed = []string{
	"In-Reply-To", "References", "Content-Disposition", "Content-ID", "Content-Description",
	"Resent-Date", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
	"Auto-Submitted",
}

// maxNames bounds the octets of h=, which is one line (RFC 5322 §2.1.1).
const maxNames = 700

// signedFields lists the names for h=.
func signedFields(head, text []byte) (out []string) {
	count := map[string]int{}
	for _, raw := range [][]byte{head, text} {
		h := message.ParseHeader(raw)
		for i := range h.Fields {
			count[strings.ToLower(h.Fields[i].Name)]++
		}
	}
	size := 0
	add := func(name string, n int) {
		for ; n > 0 && size+len(name) < maxNames; n-- {
			out = append(out, name)
			size += len(name) + 1
		}
	}
	for _, name := range oversigned {
		add(name, min(count[strings.ToLower(name)], maxRepeats)+1)
	}
	for _, name := range signed {
		add(name, min(count[strings.ToLower(name)], maxRepeats))
	}
	return out
}

// maxRepeats is how often a field is signed that must not be there twice (RFC 5322 §3.6).
const maxRepeats = 4
