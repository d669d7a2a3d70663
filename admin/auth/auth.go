// Package auth says who calls: an Actor travels with every request, and is written to the
// admin log with every change.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"mailplusd/admin/op"

	"golang.org/x/sys/unix"
)

// Group of the operating system whose members are administrators.
const Group = "mailplus"

// Actor is who calls.
type Actor struct {
	Name  string // root, a local user, or an account
	How   string // socket, token, password
	From  string // process or address
	Admin bool
	User  string // the account, for operations about oneself; empty: none
}

func (a Actor) String() string { return a.Name + " (" + a.How + ")" }

// May tells whether an actor has a role.
func (a Actor) May(r op.Role) bool {
	switch r {
	case op.RoleAnyone:
		return true
	case op.RoleUser:
		return a.Admin || a.User != ""
	}
	return a.Admin
}

// FromSocket reads the credentials of the process at the other end of a Unix socket. Root,
// the daemon's own user and members of the group mailplus are administrators.
func FromSocket(c *net.UnixConn) (Actor, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Actor{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Actor{}, err
	}
	if credErr != nil {
		return Actor{}, credErr
	}
	a := Actor{Name: "uid " + strconv.Itoa(int(cred.Uid)), How: "socket", From: "pid " + strconv.Itoa(int(cred.Pid))}
	a.Admin = cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
	u, err := user.LookupId(strconv.Itoa(int(cred.Uid)))
	if err != nil {
		return a, nil
	}
	a.Name = u.Username
	if g, err := user.LookupGroup(Group); err == nil && !a.Admin {
		ids, err := u.GroupIds()
		a.Admin = err == nil && slices.Contains(ids, g.Gid)
	}
	if !a.Admin {
		a.User = u.Username
	}
	return a, nil
}

// NewToken makes a login token and the hash under which it is kept.
func NewToken() (token string, hash []byte) {
	var raw [32]byte
	rand.Read(raw[:])
	token = "mpt_" + base64.RawURLEncoding.EncodeToString(raw[:])
	return token, HashToken(token)
}

// CertHash reads a PEM client certificate and gives the hash under which it is kept.
func CertHash(text []byte, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the file has no PEM certificate in front")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate can't be read: %w", err)
	}
	if now.After(cert.NotAfter) {
		return nil, fmt.Errorf("the certificate has expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	return HashCert(cert), nil
}

// HashCert is the form in which a client certificate is kept and looked up. The prefix keeps it
// apart from tokens.
func HashCert(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(append([]byte("client certificate\x00"), cert.Raw...))
	return sum[:]
}

// HashToken is the form in which a token is kept and looked up.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// Denied is the refusal of a call by who may not make it.
func Denied(a Actor, o op.Any) *op.Error {
	if a.How == "socket" && o.Spec().Role == op.RoleAdmin {
		return op.Errorf(op.Forbidden, "user %s of this machine may not use mpctl %s: root and the group %s may", a.Name, o.Name(), Group).With("sudo mpctl " + o.Name() + " …")
	}
	return op.Errorf(op.Forbidden, "%s may not use mpctl %s: that takes the role %s", a.Name, o.Name(), o.Spec().Role)
}
