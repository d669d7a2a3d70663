package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"mailplusd/mail/autoconfig"
	"mailplusd/mail/certs"
	"mailplusd/mail/certs/keeper"
	"mailplusd/mail/check"
	"mailplusd/mail/commit"
	"mailplusd/mail/directory"
	"mailplusd/mail/imapd"
	"mailplusd/mail/login"
	"mailplusd/mail/maillog"
	"mailplusd/mail/model"
	"mailplusd/mail/pop3d"
	"mailplusd/mail/queue"
	"mailplusd/mail/remote"
	"mailplusd/mail/search"
	"mailplusd/mail/sender"
	"mailplusd/mail/smtpd"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
	"mailplusd/mail/tally"
	"mailplusd/mail/vault"
	"mailplusd/mail/wire"
)

// Options of New.
type Options struct {
	Data    string // directory for what only this node keeps
	Bind    string // fixed address of all listeners; empty: as the settings say
	State   *state.State
	Bodies  *segment.Store
	Log     *slog.Logger
	Leading func() bool
	Ready   func() bool                         // mail may be accepted; nil: always
	Node    func() (number uint16, paired bool) // of this node in a pair; nil: alone
	// Hold, when set and true, keeps bodies that nobody refers to any more: the other node of the
	// pair is away or not merged yet and may still want them.
	Hold func() bool
	// Steer gives what hands sessions of a listener to the other node; nil: none are.
	Steer func(listener string) wire.Steerer
	// Fresh waits until this node knows everything that any node has acknowledged; an error
	// says that it may not. nil: it always does.
	Fresh func(context.Context) error
	// MaildropElsewhere tells whether the other node serves a POP3 maildrop; nil: there is none.
	MaildropElsewhere func(ctx context.Context, account model.AccountID) bool
	// Unblock has the other node let a client in again; nil: there is none.
	Unblock func(context.Context, netip.Addr) (found bool, err error)
	// Settle waits until the other node has done what follows from the changes so far, or does not answer;
	// nil: there is none.
	Settle func(context.Context)
	// Failed logins and what follows from them are told to the other node; nil: there is none.
	ShareLogin func(login.Event)
}

// Server is the mail server of one node.
type Server struct {
	State     *state.State
	Store     *store.Store
	Bodies    *segment.Store
	Directory *directory.Directory
	Login     *login.Login
	MailLog   *maillog.Log
	Keyring   *certs.Keyring
	Certs     *keeper.Keeper
	Vault     *vault.Vault // keys of the secrets in the settings
	Signer    *sender.Signer
	DNS       *check.DNS   // for the stages of the chain
	Clients   tally.Ledger // what each client does, on both nodes
	Queue     *queue.Queue
	Listeners *Listeners
	Commit    *commit.Committer
	Search    *search.Index

	local    *localNetwork
	outgoing *remote.Client // DNS as deliveries see it
	reports  tlsReports
	node     func() (uint16, bool)
	log      *slog.Logger
	leading  func() bool
	ready    func() bool
	hold     func() bool
	suspects suspects
	steer    func(string) wire.Steerer
	unblock  func(context.Context, netip.Addr) (bool, error)
	smtp     *smtpd.Server
	imap     *imapd.Server
	pop3     *pop3d.Server
	auto     *autoconfig.Server

	challenges *autoconfig.Server // where an ACME server looks and no other listener is
	bound      bound
	ctx        context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup

	junkPurged time.Time // when PurgeJunk ran last; houseKeeping's alone
}

// New puts the server together; Start opens it to the world.
func New(o Options) (*Server, error) {
	s := &Server{State: o.State, Bodies: o.Bodies, log: o.Log, leading: o.Leading, ready: o.Ready, hold: o.Hold, steer: o.Steer, unblock: o.Unblock, node: o.Node, local: &localNetwork{bind: o.Bind}}
	if s.ready == nil {
		s.ready = func() bool { return true }
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.Store = store.New(o.State, o.Bodies)
	s.Store.SetFresh(o.Fresh)
	s.Directory = directory.New(o.State, o.Log)
	var err error
	if s.MailLog, err = maillog.Open(maillog.Options{Path: filepath.Join(o.Data, "maillog.db"), Logger: o.Log}); err != nil {
		return nil, err
	}
	if s.Vault, err = vault.Open(o.Data); err != nil {
		s.MailLog.Close()
		return nil, err
	}
	s.Keyring = certs.NewKeyring()
	s.Certs = &keeper.Keeper{State: o.State, Vault: s.Vault, Ring: s.Keyring, Leading: o.Leading, Log: o.Log, Now: time.Now, Context: s.ctx, Go: s.wg.Go, Apply: s.applyListeners, Serving: s.serving, Settle: o.Settle}
	s.Login = s.newLogin(o.ShareLogin)
	s.DNS = &check.DNS{Servers: func() []string { return s.State.Current().Network.Resolvers }}
	s.Signer = &sender.Signer{Unseal: s.Vault.Unseal}
	s.Directory.Secret = func(sealed string) (string, error) { return s.Vault.Unseal(SRSSecret, sealed) }
	s.Commit = &commit.Committer{
		Chain: Chain, Store: s.Store, Log: s.MailLog, Slog: o.Log, Now: time.Now, NewID: smtpd.NewID, Sign: s.sign,
		Holds: func() ([]*model.HoldRule, error) {
			pic, err := s.Directory.Now()
			if err != nil {
				return nil, err
			}
			return pic.Holds, nil
		},
	}
	s.newQueue(o.Node)
	s.newSearch(filepath.Join(o.Data, "search"))
	s.newProtocols()
	s.pop3.Elsewhere = o.MaildropElsewhere
	s.Listeners = &Listeners{Bind: o.Bind, Log: o.Log, Make: s.wireConfig, Open: s.serve, More: s.Certs.Ports}
	return s, nil
}

func (s *Server) newProtocols() {
	s.smtp = &smtpd.Server{
		Chain: Chain, Store: s.Store, Commit: s.Commit, Login: s.Login, Directory: s.Directory, DNS: s.DNS, Rates: s.Clients.Rate(messages),
		Settings: s.State.Current, Log: s.log, MailLog: s.MailLog, Now: time.Now, Ready: s.ready, Local: s.IsLocal,
	}
	s.pop3 = &pop3d.Server{Store: s.Store, Login: s.Login, Settings: s.State.Current, Log: s.log}
	s.auto = &autoconfig.Server{Settings: s.State.Current, Hosts: s.hosts, STS: s.ownSTS, Log: s.log, Challenge: s.Certs.Answer}
	s.challenges = &autoconfig.Server{Settings: s.State.Current, Hosts: func(string) bool { return false }, Log: s.log, Challenge: s.Certs.Answer}
	s.imap = &imapd.Server{Store: s.Store, Login: s.Login, Settings: s.State.Current, Index: s.Search, Log: s.log}
}

// MaildropInUse tells whether a POP3 session of this node has an account's maildrop.
func (s *Server) MaildropInUse(account model.AccountID) bool { return s.pop3.InUse(account) }

// Start opens the listeners, and keeps them and the certificates as the settings say.
func (s *Server) Start() {
	s.reload()
	w := s.State.WatchTopic(state.TopicRows)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer w.Close()
		again := time.NewTicker(5 * time.Second) // until there is a secret: the node may lead later
		defer again.Stop()
		for {
			if s.ensureSRS() {
				again.Stop()
			}
			select {
			case <-s.ctx.Done():
				return
			case <-w.C():
				s.reload()
			case <-again.C:
			}
		}
	}()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.Queue.Run(s.ctx)
	}()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.houseKeeping()
	}()
	s.wg.Go(func() { s.Search.Run(s.ctx) })
	s.wg.Go(func() { s.Certs.Run(s.ctx) })
	s.wg.Go(s.reporting)
	s.wg.Go(s.followDirectory)
}

// reload brings what follows from rows up to date.
func (s *Server) reload() {
	if err := s.Certs.Load(); err != nil {
		s.log.Error("certificates can't be loaded", "err", err)
	}
	s.applyListeners()
}

// Settled does now what follows from the changes so far: it would be done in a moment.
func (s *Server) Settled() { s.reload() }

func (s *Server) applyListeners() { s.Listeners.Apply(s.State.Current()) }

// Stop says goodbye to clients, finishes what was accepted and closes what New opened.
func (s *Server) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.Listeners.Shutdown(ctx)
	s.cancel()
	s.wg.Wait()
	if err := s.MailLog.Close(); err != nil {
		s.log.Error("mail log not closed cleanly", "err", err)
	}
}

// wireConfig is how the gate treats the connections of a listener.
func (s *Server) wireConfig(name string) wire.Config {
	set := s.State.Current()
	cfg := wire.Config{
		TLS: func(h *tls.ClientHelloInfo) (*tls.Config, error) { return s.Keyring.Config(), nil },
		Log: s.log, Timeouts: wire.DefaultTimeouts,
		Limits: wire.Limits{MaxConns: set.Delivery.ConnectionLimit, MaxPerIP: set.Delivery.PerAddressLimit},
	}
	cfg.Clients = wire.Clients{Rate: s.Clients.Rate(name), Open: s.Clients.Open(name)}
	if s.steer != nil {
		cfg.Steer = s.steer(name)
	}
	switch name {
	case "smtp", "smtps", "submission", "imap", "imaps", "pop3", "pop3s":
		cfg.Proxy, cfg.ProxyFrom = wire.ProxyListed, func() []netip.Prefix { return model.Prefixes(s.State.Current().Network.Proxies) }
	}
	switch name {
	case "smtp", "smtps", "submission":
		cfg.Protocol, cfg.Limits = s.smtp.Gate(smtpd.Kind(name)), s.clientLimits(set)
		cfg.ImplicitTLS = name == "smtps"
	case "imap", "imaps":
		cfg.Protocol, cfg.Timeouts = wire.IMAP{}, imapTimeouts
		cfg.ImplicitTLS = name == "imaps"
		if name == "imap" && !set.Services.IMAP.TLS {
			cfg.TLS = nil
		}
	case "pop3", "pop3s":
		cfg.Protocol, cfg.Timeouts = wire.POP3{}, pop3d.Timeouts
		cfg.ImplicitTLS = name == "pop3s"
		if name == "pop3" && !set.Services.POP3.TLS {
			cfg.TLS = nil
		}
	case "autoconfig", "autoconfig-http", keeper.ListenTLS, keeper.ListenHTTP: // short and the same on both nodes: nothing to steer
		cfg.Steer, cfg.Timeouts, cfg.Limits = nil, autoconfig.Timeouts, autoconfig.Limits
		cfg.ImplicitTLS = name == "autoconfig" || name == keeper.ListenTLS
		if cfg.TLS = s.tlsWithChallenges; !cfg.ImplicitTLS {
			cfg.TLS = nil
		}
	}
	return cfg
}

// tlsWithChallenges is for listeners to which an ACME server may come.
func (s *Server) tlsWithChallenges(h *tls.ClientHelloInfo) (*tls.Config, error) {
	if cfg, err := s.Certs.TLS(h); cfg != nil || err != nil {
		return cfg, err
	}
	return s.Keyring.Config(), nil
}

// serving tells whether a port is listened on, or why it can't be.
func (s *Server) serving(port int) (bool, error) {
	var err error
	for _, l := range s.Listeners.State() {
		if _, p, _ := net.SplitHostPort(l.Address); p == strconv.Itoa(port) {
			return true, nil
		}
		if l.Err != "" && (l.Name == keeper.ListenHTTP || l.Name == keeper.ListenTLS) {
			err = errors.New(l.Err)
		}
	}
	return false, err
}

// hosts tells whether mail for a domain is received here.
func (s *Server) hosts(domain string) bool {
	pic, err := s.Directory.Now()
	return err == nil && pic.Domains[domain] != nil
}

var imapTimeouts = wire.Timeouts{
	Idle: 31 * time.Minute, Command: 2 * time.Minute, Data: 3 * time.Minute, MinRate: 64, Write: 5 * time.Minute,
}

// serve runs a protocol on a new listener.
func (s *Server) serve(name string, l *wire.Listener) (stop func()) {
	done := make(chan struct{})
	run := func(serve func() error) {
		go func() {
			defer close(done)
			if err := serve(); err != nil {
				s.log.Debug("listener ended", "listener", name, "err", err)
			}
		}()
	}
	switch name {
	case "imap", "imaps":
		run(func() error { return s.imap.Serve(l) })
	case "pop3", "pop3s":
		run(func() error { return s.pop3.Serve(l) })
	case "autoconfig", "autoconfig-http":
		run(func() error { return s.auto.Serve(l, name == "autoconfig-http") })
	case keeper.ListenHTTP, keeper.ListenTLS:
		run(func() error { return s.challenges.Serve(l, name == keeper.ListenHTTP) })
	default:
		engine := s.smtp.Engine(smtpd.Kind(name))
		run(func() error { return engine.Serve(l) })
		return func() { engine.Close(); <-done }
	}
	return func() { <-done }
}

// newLogin joins login with the directory.
func (s *Server) newLogin(share func(login.Event)) *login.Login {
	return login.New(login.Options{Directory: accounts{s}, Policy: s.loginPolicy, Local: s.isInside, Share: share, Logger: s.log})
}

func (s *Server) loginPolicy() login.Policy {
	l := s.State.Current().Login
	return login.Policy{
		MaxFailures: l.MaxFailures, Window: time.Duration(l.WindowMinutes) * time.Minute,
		LockTime: time.Duration(l.LockMinutes) * time.Minute, MinPassword: l.MinPassword,
	}
}

// accounts shows the directory to login.
type accounts struct{ s *Server }

// Lookup implements login.Directory.
func (a accounts) Lookup(_ context.Context, name string) (login.Credential, error) {
	pic, err := a.s.Directory.Now()
	if err != nil {
		return login.Credential{}, fmt.Errorf("%w: %w", login.ErrTemporary, err)
	}
	var c login.Credential
	acc := pic.Login(name)
	if acc != nil {
		c = login.Credential{
			AccountID: acc.ID, Name: acc.Name, Hash: acc.Hash, Enabled: !acc.Off(), Activated: acc.Activated,
			Supported: acc.Status() != model.UserUnsupported, Admin: pic.IsAdmin(acc), Addresses: acc.Addresses,
		}
		for _, d := range acc.Deny {
			c.Denied = append(c.Denied, login.Service(d))
		}
	}
	if pic.Source != model.SourceLocal {
		a.s.credential(&c, acc)
	}
	if acc == nil {
		return c, login.ErrUnknown
	}
	limit(&c, acc.Policy)
	return c, nil
}
