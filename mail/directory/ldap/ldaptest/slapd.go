// Package ldaptest runs Debian's slapd for tests, with a directory of its own on loopback.
package ldaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// What the directory has: its base, the account that may read it, and the password of that
// account and of every user.
const (
	Base     = "dc=example,dc=test"
	BindDN   = "cn=mail," + Base
	Password = "correct-horse-9"
	rootDN   = "cn=root," + Base
)

// Slapd is a directory server.
type Slapd struct {
	URI, LDAPS string
	CA         string // PEM
	CAFile     string
	Addr       string // host:port of URI
	t          testing.TB
	dir        string
	cmd        *exec.Cmd
	exited     chan error
}

// person is a user in LDIF.
func person(name string) string {
	return fmt.Sprintf("dn: uid=%s,ou=people,%s\nobjectClass: inetOrgPerson\nuid: %s\ncn: %s\nsn: %s\ndisplayName: The %s\nuserPassword: %s\n\n", name, Base, name, name, name, name, Password)
}

// Start makes a directory with the users and LDIF entries, and serves it until the test ends. It
// skips the test where slapd is not installed.
func Start(t testing.TB, users []string, more ...string) *Slapd {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/slapd"); err != nil {
		t.Skip("slapd is not installed (apt-get install slapd ldap-utils)")
	}
	s := &Slapd{t: t, dir: t.TempDir()}
	s.certificate()
	s.Addr = freeAddr(t)
	s.URI, s.LDAPS = "ldap://"+s.Addr, "ldaps://"+freeAddr(t)
	conf := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
pidfile %[1]s/slapd.pid
argsfile %[1]s/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile %[1]s/ca.pem
TLSCertificateFile %[1]s/ca.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
maxsize 268435456
suffix "%[2]s"
rootdn "%[3]s"
rootpw %[4]s
directory %[1]s/db
dbnosync
index objectClass,uid eq
limits dn.exact="%[5]s" size=unlimited
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="%[5]s" read by * none
`, s.dir, Base, rootDN, Password, BindDN)
	s.write("slapd.conf", conf)
	var ldif strings.Builder
	fmt.Fprintf(&ldif, "dn: %[1]s\nobjectClass: dcObject\nobjectClass: organization\no: test\ndc: example\n\n"+
		"dn: ou=people,%[1]s\nobjectClass: organizationalUnit\nou: people\n\ndn: ou=groups,%[1]s\nobjectClass: organizationalUnit\nou: groups\n\n"+
		"dn: %[2]s\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: mail\nuserPassword: %[3]s\n\n", Base, BindDN, Password)
	for _, u := range users {
		ldif.WriteString(person(u))
	}
	for _, m := range more {
		ldif.WriteString(m + "\n\n")
	}
	s.write("all.ldif", ldif.String())
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/usr/sbin/slapadd", "-q", "-f", s.path("slapd.conf"), "-l", s.path("all.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	t.Cleanup(s.Stop)
	s.Run()
	return s
}

func (s *Slapd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Slapd) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// certificate makes one that signs itself, for 127.0.0.1.
func (s *Slapd) certificate() {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.CAFile = s.path("ca.pem")
	s.write("ca.pem", s.CA)
	s.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Run starts the server and returns when it answers.
func (s *Slapd) Run() {
	s.t.Helper()
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command("/usr/sbin/slapd", "-f", s.path("slapd.conf"), "-h", s.URI+"/ "+s.LDAPS+"/", "-d", "0")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	go func(c *exec.Cmd, ch chan error) { ch <- c.Wait() }(s.cmd, s.exited)
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-s.exited:
			text, _ := os.ReadFile(s.path("log"))
			s.t.Fatalf("slapd ended: %v\n%s", err, text)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatal("slapd does not listen")
		}
	}
}

// Stop ends the server.
func (s *Slapd) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Pause stops the server's process without closing anything; Resume has it go on.
func (s *Slapd) Pause() { s.cmd.Process.Signal(stopSignal) }

// Resume ends Pause.
func (s *Slapd) Resume() { s.cmd.Process.Signal(contSignal) }

// Change runs fn on a connection that may change everything.
func (s *Slapd) Change(fn func(*goldap.Conn) error) {
	s.t.Helper()
	c, err := goldap.DialURL(s.URI)
	if err == nil {
		defer c.Close()
		if err = c.Bind(rootDN, Password); err == nil {
			err = fn(c)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// DN is where a user is.
func DN(name string) string { return "uid=" + name + ",ou=people," + Base }

// Add adds a user.
func (s *Slapd) Add(name string) {
	s.t.Helper()
	s.Change(func(c *goldap.Conn) error {
		r := goldap.NewAddRequest(DN(name), nil)
		for k, v := range map[string]string{"objectClass": "inetOrgPerson", "uid": name, "cn": name, "sn": name, "userPassword": Password} {
			r.Attribute(k, []string{v})
		}
		return c.Add(r)
	})
}

// Delete deletes a user.
func (s *Slapd) Delete(name string) {
	s.t.Helper()
	s.Change(func(c *goldap.Conn) error { return c.Del(goldap.NewDelRequest(DN(name), nil)) })
}

// SetPassword changes a user's password.
func (s *Slapd) SetPassword(name, password string) {
	s.t.Helper()
	s.Change(func(c *goldap.Conn) error {
		r := goldap.NewModifyRequest(DN(name), nil)
		r.Replace("userPassword", []string{password})
		return c.Modify(r)
	})
}

// Group is the LDIF of a groupOfNames with members by their DNs.
func Group(name string, members ...string) string {
	text := fmt.Sprintf("dn: cn=%s,ou=groups,%s\nobjectClass: groupOfNames\ncn: %s\n", name, Base, name)
	for _, m := range members {
		text += "member: " + m + "\n"
	}
	return text
}
