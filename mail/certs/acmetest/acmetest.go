// Package acmetest runs a real ACME server in a test: pebble, which Let's Encrypt tests with. It
// comes to the challenges as an authority does, by names that it looks up.
package acmetest

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailplusd/mail/certs"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Options of Start.
type Options struct {
	HTTPPort, TLSPort int               // where challenges are looked for
	Address           string            // to which all names lead; empty: 127.0.0.1
	Resolver          string            // who answers instead, by TCP; empty: a server that knows only Address
	Validity          time.Duration     // of certificates; 0: 90 days
	Blocked           []string          // names that the server refuses
	EAB               map[string]string // key ID and base64url key of external accounts; the server wants one, if there are any
}

// Server is a running ACME server.
type Server struct {
	URL  string // of the directory
	Root string // PEM: what the directory's own certificate is trusted by

	t       testing.TB
	o       Options
	log     *log.Logger
	cert    tls.Certificate
	addr    string
	handler http.Handler
	mu      sync.Mutex
	srv     *http.Server
	refuse  *Problem
	orders  int
}

// Problem is a refusal that the server is told to give to orders (RFC 8555 §6.7).
type Problem struct {
	Type       string `json:"type"` // such as "rateLimited"
	Detail     string `json:"detail"`
	Status     int    `json:"status"`
	RetryAfter string `json:"-"`
}

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	// Read by pebble when it is made: no pauses before it looks, and a look each time.
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	os.Setenv("PEBBLE_AUTHZREUSE", "0")
	if o.Resolver == "" {
		o.Resolver = names(t, o.Address)
	}
	if o.Validity == 0 {
		o.Validity = 90 * 24 * time.Hour
	}
	logger := log.New(testLog{}, "", 0)
	if !testing.Verbose() {
		logger = log.New(io.Discard, "", 0)
	}
	s := &Server{t: t, o: o, log: logger, addr: "127.0.0.1:0"}
	s.Forget()
	own, err := certs.SelfSigned("acme", []string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Root = string(own.CertPEM)
	if s.cert, err = tls.X509KeyPair(own.CertPEM, own.KeyPEM); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	s.URL = "https://" + s.addr + wfe.DirectoryPath
	t.Cleanup(s.Stop)
	return s
}

// Forget makes the server one that was set up anew: it knows no account and no order.
func (s *Server) Forget() {
	s.t.Helper()
	store := db.NewMemoryStore()
	for _, name := range s.o.Blocked {
		if err := store.AddBlockedDomain(name); err != nil {
			s.t.Fatal(err)
		}
	}
	for id, key := range s.o.EAB {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			s.t.Fatal(err)
		}
	}
	profiles := map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: uint64(s.o.Validity / time.Second)}}
	issuer := ca.New(s.log, store, "", "ecdsa", 0, 1, profiles)
	validator := va.New(s.log, s.o.HTTPPort, s.o.TLSPort, true, s.o.Resolver, store)
	front := wfe.New(s.log, store, validator, issuer, []string{"pebble.test"}, true, len(s.o.EAB) > 0, 0, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = front.Handler()
}

// testLog shows pebble's log.
type testLog struct{}

func (testLog) Write(b []byte) (int, error) {
	os.Stderr.WriteString("pebble: " + string(b)) // pebble may outlive the test
	return len(b), nil
}

// Restart listens again, at the same address.
func (s *Server) Restart() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	s.mu.Lock()
	s.srv = srv
	s.mu.Unlock()
	go srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.cert}}))
}

// Stop is a server that has gone away; what it has issued is remembered.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		s.srv.Close()
		s.srv = nil
	}
}

// Refuse answers orders with a problem from now on; nil: no more.
func (s *Server) Refuse(p *Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = p
}

// Orders counts the orders that were taken.
func (s *Server) Orders() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orders
}

// counting sees the status of an answer.
type counting struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (c *counting) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, handler := s.refuse, s.handler
	s.mu.Unlock()
	order := strings.Contains(r.URL.Path, "order-plz")
	if p == nil || !order {
		c := &counting{ResponseWriter: w}
		handler.ServeHTTP(c, r)
		if order && c.status == http.StatusCreated { // not: refused because of its nonce, as one in 20 is
			s.mu.Lock()
			s.orders++
			s.mu.Unlock()
		}
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.RetryAfter != "" {
		w.Header().Set("Retry-After", p.RetryAfter)
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(Problem{Type: "urn:ietf:params:acme:error:" + p.Type, Detail: p.Detail, Status: p.Status})
}

// names is a DNS server on which every name leads to one address, but for those that begin with "nowhere".
func names(t testing.TB, address string) string {
	t.Helper()
	if address == "" {
		address = "127.0.0.1"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		q := m.Question[0]
		if strings.HasPrefix(q.Name, "nowhere.") {
			r.Rcode = dns.RcodeNameError
		} else if q.Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(address)}}
		}
		w.WriteMsg(r)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return l.Addr().String()
}

// RootFile writes what the directory is trusted by to a file.
func (s *Server) RootFile() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "acme-root.pem")
	if err := os.WriteFile(path, []byte(s.Root), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}
