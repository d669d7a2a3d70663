// Package server carries out the operations of admin/api: listeners, identity, permission,
// admin log, and one file of functions per noun.
package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mailplusd/admin/auth"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
	"mailplusd/cluster"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/login"
	"mailplusd/mail/model"
	"mailplusd/mail/state"

	"golang.org/x/net/idna"
)

// Server is the admin plane of one node.
type Server struct {
	mail      *mail.Server
	cluster   *cluster.Node
	log       *slog.Logger
	node      string
	data      string
	started   time.Time
	handlers  map[string]*handler
	slots     chan struct{}
	patience  patience
	mu        sync.Mutex
	servers   []*http.Server
	jobs      *job.List
	forwarder Forwarder
	ha        *HA
	life      context.Context // until Close
	end       context.CancelFunc
	wg        sync.WaitGroup
}

// Options of New.
type Options struct {
	Mail    *mail.Server
	Cluster *cluster.Node
	Log     *slog.Logger
	Node    string    // name of this node
	Data    string    // its data directory
	Forward Forwarder // nil: this node is alone
	HA      *HA       // nil: this node has no link
}

// New makes a Server with every operation bound.
func New(o Options) (*Server, error) {
	jobs, err := job.Open(filepath.Join(o.Data, "jobs.json"), func(err error) { o.Log.Error("the list of jobs can't be written", "err", err) })
	if err != nil {
		return nil, err
	}
	s := &Server{
		jobs: jobs, mail: o.Mail, cluster: o.Cluster, log: o.Log, node: o.Node, data: o.Data, started: time.Now(),
		forwarder: o.Forward, ha: o.HA,
		handlers: map[string]*handler{}, slots: make(chan struct{}, maxCalls), patience: defaultPatience,
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.bindAll()
	if s.ha != nil {
		s.servePairing(s.ha)
		s.wg.Go(func() { s.resumeCreate(s.ha) })
	}
	return s, nil
}

// identify says who calls: the process at the other end of the socket, or a login token.
func (s *Server) identify(r *http.Request) (auth.Actor, error) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.fromToken(token, r.RemoteAddr)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.Header.Get("Authorization") == "" {
		return s.fromCert(r.TLS.PeerCertificates[0], r.RemoteAddr)
	}
	if user, password, ok := r.BasicAuth(); ok {
		return s.fromPassword(r, user, password)
	}
	if uc, ok := conn.(*net.UnixConn); ok {
		a, err := auth.FromSocket(uc)
		if err == nil && a.User != "" && s.accountOf(a.User) == nil {
			a.User = ""
		}
		return a, err
	}
	return auth.Actor{}, op.Errorf(op.Forbidden, "who are you? log in").With("mpctl --server HOST:PORT --login USER …")
}

func (s *Server) accountOf(name string) *directory.Account {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil
	}
	return pic.User(name)
}

func (s *Server) fromToken(token, from string) (auth.Actor, error) {
	t, err := s.tokenByHash(auth.HashToken(token), "the login token")
	if err != nil {
		return auth.Actor{}, err
	}
	return s.actorOf(t.User, "token "+t.Name, from)
}

// fromCert knows a client certificate by its hash; who signed it says nothing.
func (s *Server) fromCert(cert *x509.Certificate, from string) (auth.Actor, error) {
	t, err := s.tokenByHash(auth.HashCert(cert), "the client certificate")
	if err == nil && time.Now().After(cert.NotAfter) {
		err = op.Errorf(op.Forbidden, "the client certificate has expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	if err != nil {
		return auth.Actor{}, err
	}
	return s.actorOf(t.User, "certificate "+t.Name, from)
}

func (s *Server) tokenByHash(hash []byte, what string) (*model.Token, error) {
	rows, err := state.Tokens.Find(s.mail.State, state.IndexTokenHash, string(hash))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || rows[0].Expires != 0 && rows[0].Expires < time.Now().Unix() {
		return nil, op.Errorf(op.Forbidden, "%s is unknown or has expired", what).With("mpctl token list")
	}
	if source := s.mail.State.Current().System.Source; model.SourceKey(rows[0].Source, "") != model.SourceKey(source, "") {
		return nil, op.Errorf(op.Forbidden, "%s is for an account of another source than the one in force (%s)", what, source).With("mpctl token list")
	}
	return rows[0], nil
}

func (s *Server) fromPassword(r *http.Request, user, password string) (auth.Actor, error) {
	ap, err := addrOf(r.RemoteAddr)
	if err != nil && r.TLS == nil {
		ap = loopback
	}
	return s.checkPassword(r.Context(), user, []byte(password), r.Header.Get(op.CodeHeader), ap)
}

func (s *Server) checkPassword(ctx context.Context, user string, password []byte, code string, remote netip.Addr) (auth.Actor, error) {
	acc, err := s.mail.Login.Authenticate(ctx, login.Attempt{
		Service: login.Admin, Remote: remote, TLS: true, Mechanism: "BASIC", User: user, Password: password,
	})
	switch {
	case login.IsTemporary(err):
		s.log.Warn("login failed", "user", user, "err", err)
		return auth.Actor{}, op.Errorf(op.Unreachable, "accounts can't be checked at the moment").With("sudo " + directoryCommand(s.mail.State.Current().System.Source) + " test, on the server")
	case err != nil:
		return auth.Actor{}, op.Errorf(op.Forbidden, "login failed")
	}
	asked, err := s.askCode(ctx, acc.Name, code)
	if err != nil {
		return auth.Actor{}, err
	}
	how := "password"
	if asked {
		how = "password and code"
	}
	return s.actorOf(acc.Name, how, remote.String())
}

func (s *Server) actorOf(name, how, from string) (auth.Actor, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return auth.Actor{}, err
	}
	a := pic.User(name)
	if a == nil || a.Off() {
		return auth.Actor{}, op.Errorf(op.Forbidden, "the account %s is not there or disabled", name)
	}
	return auth.Actor{Name: a.Name, How: how, From: from, Admin: pic.IsAdmin(a), User: a.Name}, nil
}

// diffRows compares two rows field by field as JSON shows them.
func diffRows(c *Call, before, after any) {
	c.diff = append(c.diff, op.DiffValues(before, after)...)
}

// asciiDomain gives a domain's A-label form, lower case (I.43).
func asciiDomain(name string) string {
	name = model.FoldDomain(name)
	if a, err := idna.Lookup.ToASCII(name); err == nil {
		return a
	}
	return name
}

func matches(search string, fields ...any) bool {
	if search == "" {
		return true
	}
	search = strings.ToLower(search)
	for _, f := range fields {
		if strings.Contains(strings.ToLower(fmt.Sprint(f)), search) {
			return true
		}
	}
	return false
}

func stamp(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(unix, 0).Format(time.RFC3339)
}
