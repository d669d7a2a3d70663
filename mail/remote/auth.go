package remote

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// later is an error that is tried again whatever the other server's code: a relay that refuses
// our login is a matter of settings, not of the message.
type later struct{ err error }

func (l *later) Error() string { return l.err.Error() }
func (l *later) Unwrap() error { return l.err }

// login authenticates towards a relay: SCRAM-SHA-256, PLAIN or LOGIN, the best that it offers.
// A password goes over TLS only, unless the route says that there is none.
func (s *session) login(r *Route, mode string) error {
	if s.protection == "" && mode != TLSNone {
		return &later{fmt.Errorf("%s offers no TLS, and the relay's password is not sent in clear", s.host)}
	}
	offered := strings.Fields(strings.ToUpper(s.ext["AUTH"]))
	var err error
	switch {
	case slices.Contains(offered, "SCRAM-SHA-256"):
		err = s.scram(r.User, r.Password)
	case slices.Contains(offered, "PLAIN"):
		_, err = s.cmd(2, commandTime, "AUTH PLAIN "+b64("\x00"+r.User+"\x00"+r.Password))
	case slices.Contains(offered, "LOGIN"):
		err = s.loginLogin(r.User, r.Password)
	case s.offers("AUTH"):
		err = fmt.Errorf("%s offers no login that is known here (%s)", s.host, oneLine(s.ext["AUTH"]))
	default:
		err = fmt.Errorf("%s offers no login", s.host)
	}
	if err != nil {
		var no *refusal
		if errors.As(err, &no) {
			err = fmt.Errorf("the relay refuses the login: %w", err)
		}
		return &later{err}
	}
	return nil
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (s *session) loginLogin(user, password string) error {
	if _, err := s.cmd(3, commandTime, "AUTH LOGIN"); err != nil {
		return err
	}
	if _, err := s.secret(3, user); err != nil {
		return err
	}
	_, err := s.secret(2, password)
	return err
}

// secret sends one answer of an exchange; errors don't repeat it.
func (s *session) secret(want int, text string) (reply, error) {
	s.w.WriteString(b64(text) + "\r\n")
	if err := s.w.Flush(); err != nil {
		return reply{}, lost(err, "sending AUTH")
	}
	return s.want(want, commandTime, "the answer to AUTH")
}

// maxIterations bounds the work that a server may ask of us.
const maxIterations = 1_000_000

// scram is SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding. It also proves that the
// server knows the password.
func (s *session) scram(user, password string) error {
	var raw [18]byte
	rand.Read(raw[:])
	nonce := base64.StdEncoding.EncodeToString(raw[:])
	bare := "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user) + ",r=" + nonce
	rep, err := s.cmd(3, commandTime, "AUTH SCRAM-SHA-256 "+b64("n,,"+bare))
	if err != nil {
		return err
	}
	first, fields := scramFields(rep)
	salt, err1 := base64.StdEncoding.DecodeString(fields["s"])
	n, err2 := strconv.Atoi(fields["i"])
	if err1 != nil || err2 != nil || n < 1 || n > maxIterations || !strings.HasPrefix(fields["r"], nonce) || len(fields["r"]) == len(nonce) {
		return errors.New("the relay's SCRAM challenge makes no sense")
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, n, sha256.Size)
	if err != nil {
		return err
	}
	final := "c=biws,r=" + fields["r"]
	message := bare + "," + first + "," + final
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= client[i]
	}
	rep, err = s.secret(3, final+",p="+base64.StdEncoding.EncodeToString(proof))
	var no *refusal
	if errors.As(err, &no) && no.code/100 == 2 { // the proof came with the success
		rep, err = no.reply, nil
	}
	if err != nil {
		return err
	}
	_, fields = scramFields(rep)
	if want := base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), message)); fields["v"] != want {
		return errors.New("the relay does not know the password that it asks for")
	}
	if rep.code/100 == 3 {
		_, err = s.secret(2, "")
	}
	return err
}

// scramFields reads a server's message: key=value, separated by commas.
func scramFields(rep reply) (message string, fields map[string]string) {
	fields = map[string]string{}
	text := strings.Join(rep.lines, "")
	if i := strings.LastIndexByte(text, ' '); i >= 0 { // behind an enhanced status code
		text = text[i+1:]
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fields
	}
	for _, f := range strings.Split(string(raw), ",") {
		if k, v, ok := strings.Cut(f, "="); ok {
			fields[k] = v
		}
	}
	return string(raw), fields
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
