package login

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
)

// Errors of an exchange.
var (
	ErrCanceled  = errors.New("the client cancelled the exchange")
	ErrBase64    = errors.New("not base64")
	ErrMechanism = errors.New("unknown mechanism")
)

// NewSASL makes the server side of PLAIN or LOGIN.
func NewSASL(mech string, check func(user string, password []byte) error) (sasl.Server, error) {
	switch strings.ToUpper(mech) {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && !strings.EqualFold(identity, user) {
				return ErrPassword // nobody may act for another
			}
			return check(user, []byte(password))
		}), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	}
	return nil, ErrMechanism
}

// loginServer is LOGIN (draft-murchison-sasl-login): user name, then password.
type loginServer struct {
	check func(string, []byte) error
	step  int
	user  string
}

// Next implements sasl.Server.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch s.step {
	case 0:
		s.step = 1
		if response == nil {
			return []byte("Username:"), false, nil
		}
		fallthrough
	case 1:
		s.user, s.step = string(response), 2
		return []byte("Password:"), false, nil
	case 2:
		s.step = 3
		return nil, true, s.check(s.user, response)
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}

// Exchange runs a mechanism over lines of base64 (RFC 5034, RFC 3501 §6.2.2). initial is the
// initial response as sent: empty for none, "=" for an empty one.
func Exchange(server sasl.Server, initial string, ask func(challenge string) (string, error)) error {
	var response []byte
	if initial != "" {
		var err error
		if response, err = decode(initial); err != nil {
			return err
		}
	}
	for range 10 {
		challenge, done, err := server.Next(response)
		if err != nil || done {
			return err
		}
		line, err := ask(base64.StdEncoding.EncodeToString(challenge))
		if err != nil {
			return err
		}
		if line == "*" {
			return ErrCanceled
		}
		if response, err = decode(line); err != nil {
			return err
		}
	}
	return sasl.ErrUnexpectedClientResponse
}

func decode(s string) ([]byte, error) {
	if s == "=" || s == "" {
		return []byte{}, nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, ErrBase64
	}
	return b, nil
}
