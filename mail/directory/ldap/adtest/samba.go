// Package adtest runs Debian's Samba as the domain controller of an Active Directory domain for tests, on an
// address of its own on loopback. One controller serves all tests of a package.
package adtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	goldap "github.com/go-ldap/ldap/v3"
)

// What the domain is called, and the password of every account.
const (
	Realm    = "ad.example.test"
	Short    = "EXAMPLE"
	Base     = "DC=ad,DC=example,DC=test"
	Host     = "dc1." + Realm // of the controller's certificate, and Addr, too
	Admin    = "CN=Administrator,CN=Users," + Base
	BindUser = "mail@" + Realm
	Password = "Correct-Horse-9"
)

// DC is a domain controller.
type DC struct {
	Addr   string // IP address; LDAP is on port 389 there, LDAPS on 636
	CA     string // PEM
	CAFile string
	t      testing.TB
	dir    string
}

var (
	once   sync.Once
	shared *DC
	failed error
)

// Start gives the controller of this package, and starts it the first time: that takes some seconds. It skips the test
// where Samba is not installed, or without root: its ports are below 1024. Tests give their
// objects names of their own.
func Start(t testing.TB) *DC {
	t.Helper()
	if _, err := exec.LookPath("samba-tool"); err != nil {
		t.Skip("Samba is not installed (apt-get install samba samba-ad-provision samba-dsdb-modules samba-vfs-modules)")
	}
	if os.Getuid() != 0 {
		t.Skip("a domain controller needs root: LDAP is on port 389")
	}
	once.Do(func() { shared, failed = provision() })
	if failed != nil {
		t.Fatal(failed)
	}
	dc := *shared
	dc.t = t
	return &dc
}

// script keeps the controller running until this process ends, however it does: then standard input closes.
const script = `samba -i -M single -s "$1/etc/smb.conf" --debuglevel=0 </dev/null >"$1/log" 2>&1 &
cat >/dev/null
kill $!
wait
rm -rf "$1"
`

func provision() (*DC, error) {
	dir, err := os.MkdirTemp("", "adtest")
	if err != nil {
		return nil, err
	}
	pid := os.Getpid()
	dc := &DC{dir: dir, Addr: fmt.Sprintf("127.93.%d.%d", pid>>8&255, pid&255|1)}
	for _, option := range [][]string{{
		"domain", "provision", "--realm=" + Realm, "--domain=" + Short, "--server-role=dc", "--dns-backend=NONE", "--adminpass=" + Password,
		"--host-name=dc1", "--host-ip=" + dc.Addr, "--targetdir=" + dir,
	}} {
		if out, err := exec.Command("samba-tool", option...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("samba-tool: %w\n%s", err, out), os.RemoveAll(dir))
		}
	}
	if err := dc.configure(); err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", script, "sh", dir)
	if _, err := cmd.StdinPipe(); err != nil { // the script ends when this process, which holds it, is gone
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go cmd.Wait()
	for deadline := time.Now().Add(40 * time.Second); ; {
		c, err := dc.dial()
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, fmt.Errorf("samba does not serve: %w\n%s", err, text)
		}
		<-time.After(50 * time.Millisecond)
	}
	return dc, dc.fill()
}

// configure leaves LDAP alone of all services, gives it a certificate, and has it lock accounts.
func (d *DC) configure() error {
	key, cert, err := certificate(net.ParseIP(d.Addr))
	if err != nil {
		return err
	}
	d.CA, d.CAFile = string(cert), filepath.Join(d.dir, "ca.pem")
	file := filepath.Join(d.dir, "etc/smb.conf")
	conf, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	more := fmt.Sprintf("\n[global]\n\tserver services = ldap\n\tbind interfaces only = yes\n\tinterfaces = %[1]s/8\n\ttls keyfile = %[2]s/key.pem\n\ttls certfile = %[2]s/ca.pem\n\ttls cafile = %[2]s/ca.pem\n\tpid directory = %[2]s\n\tncalrpc dir = %[2]s/ncalrpc\n\tlog file = %[2]s/log.%%m\n", d.Addr, d.dir)
	text := string(conf) + more // what comes last counts
	return errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(d.CAFile, cert, 0o600), os.WriteFile(filepath.Join(d.dir, "key.pem"), key, 0o600))
}

// certificate makes one that signs itself, for the controller's name and address.
func certificate(ip net.IP) (keyPEM, certPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{Host}, IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// URI is the address for LDAP with STARTTLS.
func (d *DC) URI() string { return "ldap://" + d.Addr }

// LDAPS is the address for TLS from the first octet.
func (d *DC) LDAPS() string { return "ldaps://" + d.Addr }

// Zone is what DNS has of the domain: a controller that is down comes first.
func (d *DC) Zone() string {
	return fmt.Sprintf("_ldap._tcp.dc._msdcs.%[1]s. 60 IN SRV 0 100 389 gone.%[1]s.\n_ldap._tcp.dc._msdcs.%[1]s. 60 IN SRV 10 100 389 %[2]s.\n%[2]s. 60 IN A %[3]s\ngone.%[1]s. 60 IN A 127.93.255.254\n", Realm, Host, d.Addr)
}

func (d *DC) dial() (*goldap.Conn, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(d.CA))
	c, err := goldap.DialURL(d.LDAPS(), goldap.DialWithTLSConfig(&tls.Config{RootCAs: pool, ServerName: d.Addr}))
	if err != nil {
		return nil, err
	}
	if err := c.Bind(Admin, Password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Change runs fn on a connection that may change everything.
func (d *DC) Change(fn func(*goldap.Conn) error) {
	d.t.Helper()
	c, err := d.dial()
	if err == nil {
		defer c.Close()
		err = fn(c)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// fill makes the account that reads the directory, and has accounts locked after three wrong passwords.
func (d *DC) fill() error {
	c, err := d.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	r := goldap.NewModifyRequest(Base, nil)
	r.Replace("lockoutThreshold", []string{"3"})
	r.Replace("lockoutDuration", []string{"-18000000000"}) // 30 minutes, in 100 ns
	r.Replace("lockOutObservationWindow", []string{"-18000000000"})
	return errors.Join(c.Modify(r), c.Add(user("mail", nil)))
}

// DN is where a user is.
func DN(name string) string { return "CN=" + name + ",CN=Users," + Base }

// unicodePwd is a password as the directory wants it (MS-ADTS §3.1.1.3.1.5.1).
func unicodePwd(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

func user(name string, more map[string]string) *goldap.AddRequest {
	r := goldap.NewAddRequest(DN(name), nil)
	attrs := map[string]string{"objectClass": "user", "sAMAccountName": name, "userPrincipalName": name + "@" + Realm, "displayName": "The " + name,
		"unicodePwd": unicodePwd(Password), "userAccountControl": "512"}
	for k, v := range more {
		attrs[k] = v
	}
	for k, v := range attrs {
		if v != "" {
			r.Attribute(k, []string{v})
		}
	}
	return r
}

// Add adds a user; more replaces attributes, an empty value leaves one out. He is gone when the test ends.
func (d *DC) Add(name string, more map[string]string) {
	d.t.Helper()
	d.Change(func(c *goldap.Conn) error { return c.Add(user(name, more)) })
	d.t.Cleanup(func() { d.Delete(name) })
}

// Group adds a group with members by their DNs. It is gone when the test ends.
func (d *DC) Group(name string, members ...string) {
	d.t.Helper()
	d.Change(func(c *goldap.Conn) error {
		r := goldap.NewAddRequest(DN(name), nil)
		r.Attribute("objectClass", []string{"group"})
		r.Attribute("sAMAccountName", []string{name})
		if len(members) > 0 {
			r.Attribute("member", members)
		}
		return c.Add(r)
	})
	d.t.Cleanup(func() { d.Delete(name) })
}

// Delete deletes a user or group, if he is there.
func (d *DC) Delete(name string) {
	d.t.Helper()
	d.Change(func(c *goldap.Conn) error {
		err := c.Del(goldap.NewDelRequest(DN(name), nil))
		if goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject) {
			return nil
		}
		return err
	})
}

// Set replaces an attribute of a user or group.
func (d *DC) Set(name, attr string, values ...string) {
	d.t.Helper()
	d.Change(func(c *goldap.Conn) error {
		r := goldap.NewModifyRequest(DN(name), nil)
		r.Replace(attr, values)
		return c.Modify(r)
	})
}

// SetPassword changes a user's password.
func (d *DC) SetPassword(name, password string) { d.Set(name, "unicodePwd", unicodePwd(password)) }

// Rename gives a user another name: where he is, what he logs in with, and his principal name. He is gone when
// the test ends.
func (d *DC) Rename(from, to string) {
	d.t.Helper()
	d.Change(func(c *goldap.Conn) error {
		if err := c.ModifyDN(goldap.NewModifyDNRequest(DN(from), "CN="+to, true, "")); err != nil {
			return err
		}
		r := goldap.NewModifyRequest(DN(to), nil)
		r.Replace("sAMAccountName", []string{to})
		r.Replace("userPrincipalName", []string{to + "@" + Realm})
		return c.Modify(r)
	})
	d.t.Cleanup(func() { d.Delete(to) })
}
