package server

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/certs"
	"mailplusd/mail/directory"
	"mailplusd/mail/directory/ldap"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// setUpDNS is how long set-up asks DNS whether it agrees; without an answer it warns and goes on.
const setUpDNS = 4 * time.Second

// SetUp is what makes a mail system of an empty node (R2.26–R2.37).
type SetUp struct {
	Domain, Hostname string
	Source           string // account source; another than local must be bound
	Interface        string
	Resolvers        []string       // DNS servers; none: those of the host
	Services         model.Services // which listeners, on which ports
	Admin            string         // first administrator; empty: none
	AdminHash        string
	Seal             func(name string, keyPEM []byte) (string, error) // the key of the certificate; nil: it is sealed later
}

// fromDirectory tells whether accounts come from a directory that is bound already.
func (s *SetUp) fromDirectory() bool { return s.Source != "" && s.Source != model.SourceLocal }

// DefaultServices are the listeners after set-up: SMTP on all three ports; IMAP and POP3 are
// switched on by the administrator (R6.12–R6.28).
func DefaultServices() model.Services {
	s := model.DefaultSettings().Services
	s.SMTP.Enabled, s.SMTPS.Enabled, s.Submission.Enabled = true, true, true
	return s
}

// Plan gives the settings that SetUp would store, validated, and what to warn about.
func (in *SetUp) Plan() (*model.Settings, error) {
	set := model.DefaultSettings()
	if in.Hostname == "" && in.Domain != "" {
		in.Hostname = "mail." + asciiDomain(in.Domain) // R2.31
	}
	set.System.Domain, set.System.Hostname = asciiDomain(in.Domain), asciiDomain(in.Hostname)
	if err := model.ValidateDomainName("domain", set.System.Domain); err != nil {
		return nil, err
	}
	if err := model.ValidateHostname("hostname", set.System.Hostname); err != nil {
		return nil, err
	}
	if in.Source != "" {
		set.System.Source = in.Source
	}
	if in.Interface != "" {
		set.System.Interface = in.Interface
	}
	set.Services, set.Network.Resolvers = in.Services, in.Resolvers
	return &set, set.Validate()
}

// SetUpSystem carries a set-up out, all of it or nothing, together with what also adds.
func SetUpSystem(ctx context.Context, st *state.State, in SetUp, now time.Time, also func(*state.Tx) error) (*model.Settings, error) {
	set, err := in.Plan()
	if err != nil {
		return nil, err
	}
	var id [16]byte
	rand.Read(id[:])
	_, issuer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	set.System.ID, set.System.SetUp = hex.EncodeToString(id[:]), now.Unix()
	set.System.IssuerKey = base64.StdEncoding.EncodeToString(issuer.Seed())
	cert, err := certs.SelfSigned("default", []string{set.System.Hostname}, now)
	if err != nil {
		return nil, err
	}
	key := string(cert.KeyPEM)
	if in.Seal != nil {
		if key, err = in.Seal("default", cert.KeyPEM); err != nil {
			return nil, err
		}
	}
	row := &model.Certificate{Name: "default", Cert: string(cert.CertPEM), Key: key, Source: model.CertSelfSigned, Default: true, Created: now.Unix()}
	return set, st.Update(ctx, func(tx *state.Tx) error {
		if err := setUpRows(tx, set, now, row); err != nil {
			return err
		}
		if err := firstAdmin(tx, in, now); err != nil || also == nil {
			return err
		}
		return also(tx)
	})
}

// setUpRows stores what every system has: settings, the main domain, a certificate.
func setUpRows(tx *state.Tx, set *model.Settings, now time.Time, certificate *model.Certificate) error {
	have, err := state.LoadSettings(tx)
	if err != nil {
		return err
	}
	if have.System.SetUp != 0 {
		return refused("this system is set up already, as "+have.System.Hostname, "mpctl setup show")
	}
	if err := state.StoreSettings(tx, set); err != nil {
		return err
	}
	if err := addDomain(tx, &model.Domain{Name: set.System.Domain, AutoAdd: true}, now); err != nil || certificate == nil {
		return err
	}
	return state.Certificates.Put(tx, certificate)
}

// firstAdmin makes the group of administrators and, when asked for, the first one.
func firstAdmin(tx *state.Tx, in SetUp, now time.Time) error {
	group := &model.Group{Name: model.Administrators, Description: "may administer the mail system", Created: now.Unix()}
	if err := state.Groups.Put(tx, group); err != nil {
		return err
	}
	if in.Admin == "" {
		return nil
	}
	_, err := addUser(tx, newUser{Name: in.Admin, Hash: in.AdminHash, Groups: []string{model.Administrators}, Activate: true}, now)
	return err
}

// DevAccounts are the accounts of `mailplusd dev`.
var DevAccounts = []string{"alice", "bob"}

// SetUpDev makes the system of `mailplusd dev` when the node is empty: example.test on high
// ports, alice (administrator) and bob, activated. It reports whether it did.
func (s *Server) SetUpDev(ctx context.Context, password []byte, offset int) (bool, error) {
	if s.mail.State.Current().System.SetUp != 0 {
		return false, nil
	}
	hash, err := s.hashPassword("alice", password)
	if err != nil {
		return false, err
	}
	svc := model.Services{
		SMTP: model.Listener{Enabled: true, Port: 2525 + offset}, SMTPS: model.Listener{Enabled: true, Port: 2465 + offset},
		Submission: model.Listener{Enabled: true, Port: 2587 + offset},
		IMAP:       model.MailboxService{Enabled: true, Port: 2143 + offset, TLS: true, TLSPort: 2993 + offset},
		POP3:       model.MailboxService{Enabled: true, Port: 2110 + offset, TLS: true, TLSPort: 2995 + offset},
		PlainLogin: "loopback",
	}
	svc.Autoconfig = model.Autoconfig{Port: 2443 + offset, HTTP: true, HTTPPort: 2480 + offset}
	in := SetUp{Domain: "example.test", Hostname: "mail.example.test", Interface: "127.0.0.1", Services: svc, Admin: DevAccounts[0], AdminHash: hash, Seal: s.mail.Certs.Seal}
	if _, err := SetUpSystem(ctx, s.mail.State, in, time.Now(), nil); err != nil {
		return false, err
	}
	return true, s.mail.State.Update(ctx, func(tx *state.Tx) error {
		_, err := addUser(tx, newUser{Name: DevAccounts[1], Hash: hash, Activate: true}, time.Now())
		return err
	})
}

// writable tells whether a directory can be written to.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

func (s *Server) setupShow(context.Context, *Call, *op.None) (out api.SetupShowOut, err error) {
	pic, err := directory.Draw(s.mail.State, time.Now())
	if err != nil {
		return out, err
	}
	var admins []string
	for _, a := range pic.Users {
		if pic.IsAdmin(a) {
			admins = append(admins, a.Name)
		}
	}
	slices.Sort(admins)
	return s.setupOut(s.mail.State.Current(), strings.Join(admins, ", ")), nil
}

func (s *Server) setupOut(set *model.Settings, admin string) api.SetupShowOut {
	return api.SetupShowOut{SetUp: set.System.SetUp != 0, Domain: set.System.Domain, Hostname: set.System.Hostname, Source: set.System.Source,
		Interface: set.System.Interface, Storage: s.data, Seats: model.FreeSeats, Admin: admin}
}

// planSetUp checks what is asked for, and gives the set-up and the settings that it makes.
func (s *Server) planSetUp(ctx context.Context, in *api.SetupNewIn) (su SetUp, set *model.Settings, err error) {
	if have := s.mail.State.Current().System; have.SetUp != 0 {
		return su, nil, refused("this system is set up already, as "+have.Hostname, "mpctl setup show")
	}
	if in.Source != "" && in.Source != model.SourceLocal {
		if err := s.readyToSetUp(ctx, in); err != nil {
			return su, nil, err
		}
	}
	if in.Storage != "" && in.Storage != s.data {
		return su, nil, refused("this node keeps its data in "+s.data+"; start mailplusd with --data "+in.Storage+" to use another place", "")
	}
	if err := writable(s.data); err != nil {
		return su, nil, refused(fmt.Sprintf("%s is not writable: %v", s.data, err), "")
	}
	su = SetUp{Domain: in.Domain, Hostname: in.Hostname, Source: in.Source, Interface: in.Interface, Resolvers: in.Resolver, Services: DefaultServices(), Seal: s.mail.Certs.Seal}
	if in.Admin != "" && !su.fromDirectory() {
		su.Admin = in.Admin
		if in.Password == "" {
			return su, nil, op.Errorf(op.Usage, "the first administrator needs a password: give --password-file")
		}
		if su.AdminHash, err = s.hashPassword(in.Admin, []byte(in.Password)); err != nil {
			return su, nil, err
		}
	}
	if set, err = su.Plan(); err != nil {
		return su, nil, err
	}
	return su, set, s.mail.Listeners.Probe(set)
}

func (s *Server) setupNew(ctx context.Context, c *Call, in *api.SetupNewIn) (out api.SetupShowOut, err error) {
	su, set, err := s.planSetUp(ctx, in)
	if err != nil {
		return out, err
	}
	def := model.DefaultSettings()
	for _, d := range model.DiffSettings(&def, set) {
		c.Diff(op.FieldDiff(d))
	}
	if in.Admin != "" {
		c.Diff(op.FieldDiff{Field: "administrator", New: in.Admin})
	}
	if c.DryRun {
		return s.setupOut(set, in.Admin), nil
	}
	if set, err = SetUpSystem(ctx, s.mail.State, su, time.Now(), func(tx *state.Tx) error { return s.putEvent(tx, c) }); err != nil {
		return out, err
	}
	c.logged = true
	if su.fromDirectory() {
		s.firstSync(ctx, c, in.Admin)
	}
	s.warnDNS(ctx, c, set)
	return s.setupOut(set, in.Admin), nil
}

// readyToSetUp refuses an account source whose directory is not bound, or can't be reached (R5.08).
func (s *Server) readyToSetUp(ctx context.Context, in *api.SetupNewIn) error {
	conf, client, err := s.mail.Bound()
	switch {
	case conf == nil && err == nil, conf != nil && conf.Source != in.Source:
		return refused("no directory of type "+in.Source+" is bound", howToBind[in.Source]+"; then this again")
	case err != nil:
		return refused(err.Error(), directoryCommand(in.Source)+" set --bind-password-file FILE")
	case in.Password != "":
		return op.Errorf(op.Usage, "passwords are the directory's: leave --password-file out; --admin names a user there")
	}
	probes := client.Probe(ctx)
	if !slices.ContainsFunc(probes, func(p ldap.Probe) bool { return p.Err == nil }) {
		return refused(fmt.Sprintf("the directory can't be asked: %s: %v", probes[0].URI, probes[0].Err), directoryCommand(in.Source)+" test")
	}
	return nil
}

// firstSync reads the accounts of the directory into a system that was just set up, and makes one of them the
// administrator. What fails is a warning: the system is there, and its next step can be repeated.
func (s *Server) firstSync(ctx context.Context, c *Call, admin string) {
	source := s.mail.State.Current().System.Source
	if _, err := s.mail.SyncDirectory(ctx, false); err != nil {
		c.Warn("the accounts were not read yet: %v; %s sync does it", err, directoryCommand(source))
		return
	}
	err := s.mail.State.Update(ctx, func(tx *state.Tx) error {
		if admin != "" {
			u, err := getUser(tx, admin)
			if err != nil {
				return err
			}
			u.Admin = true
			if err := state.Users.Put(tx, u); err != nil {
				return err
			}
		}
		return s.warnSource(tx, c)
	})
	if err != nil {
		c.Warn("nobody was made administrator: %v; mpctl user set NAME --admin on", err)
	}
}

// warnDNS compares what was set up with what DNS says. A mismatch is a warning (R2.29, R2.30): many
// set the server up first and publish its records then.
func (s *Server) warnDNS(ctx context.Context, c *Call, set *model.Settings) {
	ctx, cancel := context.WithTimeout(ctx, setUpDNS)
	defer cancel()
	f := findings{}
	s.hostDNS(ctx, &f)
	s.dnsOf(ctx, &f, set.System.Domain)
	s.warnOf(c, f)
	c.Warn("publish the DNS records (mpctl domain dns-records %s), then mpctl check all", set.System.Domain)
}

// warnOf warns of what DNS says otherwise.
func (s *Server) warnOf(c *Call, f findings) {
	for _, w := range f {
		if w.Level != "ok" {
			c.Warn("DNS: %s: %s", w.Subject, w.Message)
		}
	}
}
