package server

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/smtpd"
	"mailplusd/mail/state"
)

// me is the account of who calls.
func (s *Server) me(c *Call) (*directory.Account, error) {
	a := s.accountOf(c.Actor.User)
	if a == nil {
		return nil, op.Errorf(op.Forbidden, "%s has no account here; log in as one", c.Actor.Name).With("mpctl --server HOST:PORT --login USER me show")
	}
	return a, nil
}

func (s *Server) meShow(_ context.Context, c *Call, _ *op.None) (api.MeOut, error) {
	a, err := s.me(c)
	if err != nil {
		return api.MeOut{}, err
	}
	out := api.MeOut{Name: a.Name, Addresses: a.Addresses, Activated: a.Activated}
	boxes, err := s.mail.Store.Mailboxes(a.ID)
	for _, b := range boxes {
		out.Messages += int(b.Messages)
		out.Bytes += b.Size
	}
	return out, err
}

func (s *Server) mePasswd(ctx context.Context, c *Call, in *api.MePasswdIn) (op.None, error) {
	a, err := s.me(c)
	if err != nil {
		return op.None{}, err
	}
	return op.None{}, s.setPassword(ctx, a.Name, []byte(in.Password))
}

func (s *Server) meClientSettings(_ context.Context, c *Call, _ *op.None) ([]api.ClientRow, error) {
	set := s.mail.State.Current()
	user := "account name or address"
	if a := s.accountOf(c.Actor.User); a != nil {
		user = a.Name
	}
	out := []api.ClientRow{}
	for _, l := range s.listeners(set) {
		if !l.Enabled || l.Name == "smtp" {
			continue
		}
		out = append(out, api.ClientRow{Service: l.Name, Server: set.System.Hostname, Port: l.Port, Security: l.TLS, Login: user})
	}
	return out, nil
}

func directions(d flow.Direction) string {
	var out []string
	for _, x := range []struct {
		d flow.Direction
		s string
	}{{flow.In, "in"}, {flow.Out, "out"}, {flow.Own, "own"}} {
		if d&x.d != 0 {
			out = append(out, x.s)
		}
	}
	return strings.Join(out, " ")
}

func (s *Server) flowShow(context.Context, *Call, *op.None) ([]api.StageRow, error) {
	out := []api.StageRow{}
	for i, st := range mail.Chain {
		out = append(out, api.StageRow{N: i + 1, Phase: string(st.Phase), Stage: st.Name, For: directions(st.For), Help: st.Help})
	}
	return out, nil
}

func (s *Server) flowTrace(ctx context.Context, _ *Call, in *api.FlowTraceIn) ([]api.TraceRow, error) {
	set := s.mail.State.Current()
	ip, err := netip.ParseAddr(in.IP)
	if err != nil {
		return nil, op.Errorf(op.Usage, "%q is no IP address", in.IP)
	}
	if len(in.Rcpt) == 0 {
		return nil, op.Errorf(op.Usage, "give at least one --rcpt")
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	e := &flow.Envelope{
		ID: smtpd.NewID(), Direction: flow.In, Listener: "smtp", Client: ip, Helo: "trace", Proto: "ESMTP", At: time.Now(), Settings: set, Directory: pic,
		Local: flow.InNetworks(ip, set.Network.LAN) || flow.IsNear(ip), Trusted: flow.InNetworks(ip, set.Network.Trusted), Body: []byte(in.Text),
	}
	if in.From != "" {
		if e.From, err = message.ParseMailbox(in.From, true); err != nil {
			return nil, op.Errorf(op.Usage, "--from: %v", err)
		}
	}
	if in.User != "" {
		if e.Actor = pic.Login(in.User); e.Actor == nil {
			return nil, notFound("user", in.User, "mpctl user list")
		}
	}
	if e.Actor != nil || e.Trusted || e.Local && set.Delivery.LANExempt {
		e.Direction = flow.Out
	}
	out := []api.TraceRow{}
	mail.Trace(ctx, e, in.Rcpt, func(phase, stage, verdict string) {
		out = append(out, api.TraceRow{Phase: phase, Stage: stage, Verdict: verdict})
	})
	return out, nil
}

func (s *Server) storageShow(context.Context, *Call, *op.None) (api.StorageOut, error) {
	st := s.mail.Bodies.Stats()
	return api.StorageOut{Segments: st.Segments, Bodies: st.Bodies, Bytes: st.Bytes, Live: st.Live, Dead: st.Dead, Appends: st.Appends, Fsyncs: st.Fsyncs, MaxBatch: st.MaxBatch}, nil
}

func (s *Server) storageVerify(ctx context.Context, _ *Call, _ *op.None) (api.StorageVerifyOut, error) {
	st, err := s.mail.Bodies.Verify(ctx, nil)
	out := api.StorageVerifyOut{Bodies: st.Bodies, Bytes: st.Bytes}
	for _, d := range st.Damaged {
		out.Damaged = append(out.Damaged, d.Error())
	}
	if err == nil && len(st.Damaged) > 0 {
		err = op.Errorf(op.Partial, "%d of %d bodies are damaged; they are not served", len(st.Damaged), st.Bodies)
	}
	return out, err
}

func (s *Server) storageCompact(ctx context.Context, c *Call, _ *op.None) (api.StorageCompactOut, error) {
	if c.DryRun {
		return api.StorageCompactOut{}, nil
	}
	before := s.mail.Bodies.Stats()
	if err := s.mail.CollectBodies(ctx); err != nil {
		return api.StorageCompactOut{}, err
	}
	st, err := s.mail.Bodies.Compact(ctx, 0.01, nil)
	after := s.mail.Bodies.Stats()
	return api.StorageCompactOut{Segments: st.Segments, Moved: st.Moved, Freed: before.Bytes - after.Bytes}, err
}

func (s *Server) lockList(context.Context, *Call, *op.None) ([]api.LockRow, error) {
	out := []api.LockRow{}
	for _, l := range s.mail.Login.Locks() {
		out = append(out, api.LockRow{Account: l.Key, Until: l.Until.Format(time.RFC3339)})
	}
	return out, nil
}

func (s *Server) lockClear(_ context.Context, c *Call, in *api.LockClearIn) (op.None, error) {
	if !c.DryRun && s.mail.Login.Unlock(model.FoldName(in.Name)) == 0 {
		return op.None{}, notFound("lock-out of", in.Name, "mpctl login lock list")
	}
	return op.None{}, nil
}

func (s *Server) mailSend(ctx context.Context, c *Call, in *api.MailSendIn) (op.None, error) {
	for _, v := range []string{in.To, in.From, in.Subject} {
		if strings.ContainsAny(v, "\r\n") {
			return op.None{}, op.Errorf(op.Usage, "a line break in an address or subject")
		}
	}
	host := s.mail.State.Current().System.Hostname
	raw := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n",
		in.From, in.To, in.Subject, time.Now().Format(time.RFC1123Z), smtpd.NewID(), host, strings.ReplaceAll(strings.ReplaceAll(in.Text, "\r\n", "\n"), "\n", "\r\n"))
	if c.DryRun {
		return op.None{}, nil
	}
	return op.None{}, s.mail.Inject(ctx, in.From, in.To, []byte(raw))
}

func (s *Server) complete(_ context.Context, _ *Call, in *api.CompleteIn) (out api.CompleteOut, err error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	var all []string
	switch in.Kind {
	case "user":
		for _, a := range pic.Users {
			all = append(all, a.Name)
		}
	case "group":
		for g := range pic.Groups {
			all = append(all, g)
		}
	case "domain":
		for d := range pic.Domains {
			all = append(all, d)
		}
	case "alias":
		for a := range pic.Aliases {
			if local, domain, _ := model.SplitAddress(a); len(in.Words) == 0 || domain == in.Words[0] {
				all = append(all, local)
			}
		}
	case "setting":
		for _, k := range model.SettingKeys() {
			all = append(all, k.Name)
		}
	case "cert":
		for c, err := range state.Certificates.All(s.mail.State, "") {
			if err != nil {
				return out, err
			}
			all = append(all, c.Name)
		}
	case "queue":
		rows, err := s.queueRows(queueFilter{}, 500)
		if err != nil {
			return out, err
		}
		for _, r := range rows {
			all = append(all, r.ID)
		}
	}
	for _, v := range all {
		if strings.HasPrefix(v, in.Prefix) && len(out.Values) < 500 {
			out.Values = append(out.Values, v)
		}
	}
	slices.Sort(out.Values)
	return out, nil
}

func (s *Server) tokenAdd(ctx context.Context, c *Call, in *api.TokenAddIn) (row api.TokenRow, err error) {
	token, hash := auth.NewToken()
	now := time.Now()
	t := &model.Token{Name: in.Name, User: model.FoldName(in.User), Hash: hash, Created: now.Unix(), Expires: now.AddDate(0, 0, max(in.Days, 1)).Unix()}
	if err := model.ValidateUserName(in.Name); err != nil {
		return row, err
	}
	err = s.change(ctx, c, func(tx *state.Tx) error {
		if _, err := getUser(tx, in.User); err != nil {
			return err
		}
		if has, err := state.Tokens.Has(tx, t.Name); err != nil {
			return err
		} else if has {
			return exists("token", t.Name, "mpctl token delete "+t.Name)
		}
		return state.Tokens.Put(tx, t)
	})
	return api.TokenRow{Name: t.Name, User: t.User, Token: token, Expires: stamp(t.Expires)}, err
}

func (s *Server) tokenList(context.Context, *Call, *op.None) ([]api.TokenRow, error) {
	out := []api.TokenRow{}
	for t, err := range state.Tokens.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		out = append(out, api.TokenRow{Name: t.Name, User: t.User, Expires: stamp(t.Expires)})
	}
	return out, nil
}

func (s *Server) tokenDelete(ctx context.Context, c *Call, in *api.TokenIn) (op.None, error) {
	err := s.change(ctx, c, func(tx *state.Tx) error { return state.Tokens.Delete(tx, in.Name) })
	if errors.Is(err, state.ErrNotFound) {
		err = notFound("token", in.Name, "mpctl token list")
	}
	return op.None{}, err
}

// A seat key is payload.signature in base64: quantity, expiry, a random serial, for one system.
const licensePrefix = "MPL1."

func (s *Server) issuer() (ed25519.PrivateKey, error) {
	seed, err := base64.StdEncoding.DecodeString(s.mail.State.Current().System.IssuerKey)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("this system has no issuer key")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (s *Server) licenseIssue(_ context.Context, _ *Call, in *api.LicenseIssueIn) (api.LicenseKey, error) {
	if in.Quantity%5 != 0 {
		return api.LicenseKey{}, op.Errorf(op.Usage, "licences come in packs of 5 or 20 accounts: give a multiple of 5")
	}
	key, err := s.issuer()
	if err != nil {
		return api.LicenseKey{}, err
	}
	_, serial := auth.NewToken()
	payload := binary.BigEndian.AppendUint32(nil, uint32(in.Quantity))
	expires := int64(0)
	if in.Days > 0 {
		expires = time.Now().AddDate(0, 0, in.Days).Unix()
	}
	payload = binary.BigEndian.AppendUint64(payload, uint64(expires))
	payload = append(payload, serial[:8]...)
	sig := ed25519.Sign(key, append([]byte(s.mail.State.Current().System.ID), payload...))
	return api.LicenseKey{Key: licensePrefix + base64.RawURLEncoding.EncodeToString(append(payload, sig...)) + "\n"}, nil
}

func (s *Server) parseLicense(text string) (*model.License, error) {
	text = strings.TrimSpace(text)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, licensePrefix))
	if err != nil || !strings.HasPrefix(text, licensePrefix) || len(raw) != 20+ed25519.SignatureSize {
		return nil, op.Errorf(op.Refused, "%.20q is no licence key", text)
	}
	key, err := s.issuer()
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), append([]byte(s.mail.State.Current().System.ID), raw[:20]...), raw[20:]) {
		return nil, op.Errorf(op.Refused, "the licence key was not made for this system")
	}
	return &model.License{
		Serial: hex.EncodeToString(raw[12:20]), Key: text, Quantity: int(binary.BigEndian.Uint32(raw)), Expires: int64(binary.BigEndian.Uint64(raw[4:])), Activated: time.Now().Unix(),
	}, nil
}

// licenseAdd installs keys, all or none (R4.14, R4.15).
func (s *Server) licenseAdd(ctx context.Context, c *Call, in *api.LicenseAddIn) ([]api.LicenseRow, error) {
	if !in.Accept {
		return nil, refused("the terms of the licence must be agreed to", "mpctl license add … --accept-terms")
	}
	err := s.change(ctx, c, func(tx *state.Tx) error {
		for _, text := range in.Keys {
			l, err := s.parseLicense(text)
			if err != nil {
				return err
			}
			if has, err := state.Licenses.Has(tx, l.Serial); err != nil {
				return err
			} else if has {
				return exists("licence key", l.Serial, "mpctl license list")
			}
			l.Owner = in.Owner
			if err := state.Licenses.Put(tx, l); err != nil {
				return err
			}
			c.Diff(op.FieldDiff{Field: l.Serial, New: fmt.Sprint(l.Quantity, " seats")})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.licenseList(ctx, c, nil)
}

func (s *Server) licenseList(context.Context, *Call, *op.None) ([]api.LicenseRow, error) {
	out := []api.LicenseRow{{Serial: "DEFAULT FREE LICENSE", Quantity: model.FreeSeats, Status: "Validated"}}
	for l, err := range state.Licenses.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		row := api.LicenseRow{Serial: l.Serial, Quantity: l.Quantity, Activated: time.Unix(l.Activated, 0).Format("2006/01/02"), Status: "Validated"}
		if l.Expires != 0 {
			row.Expires = time.Unix(l.Expires, 0).Format("2006/01/02")
			if l.Expires < time.Now().Unix() {
				row.Status = "Expired"
			}
		}
		out = append(out, row)
	}
	return out, nil
}
