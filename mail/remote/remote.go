// Package remote delivers to other mail servers: it finds them by MX, speaks SMTP as a
// client and tells what became of each recipient.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"mailplusd/mail/model"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"
)

// Job is one message for the recipients of one destination.
type Job struct {
	From, EnvID, Ret string
	Domain           string // where it goes
	Route            *Route // nil: by MX of Domain
	Rcpts            []model.QueueRcpt
	UTF8, EightBit   bool
	Size             int64
	Open             func() (io.ReadCloser, error)
}

// Result is what became of one recipient.
type Result struct {
	N       uint32
	Outcome model.Outcome
	Code    int
	Reason  string // the other server's words, or ours
	Remote  string // host and address
	TLS     string
}

// Client delivers.
type Client struct {
	Resolvers func() []string // host:port or address; empty: the host's
	Hello     func() string   // our name
	Port      func() int
	UseTLS    func() bool
	// Ours tells whether an address is this server's: mail must not go round in circles.
	Ours func(netip.AddrPort) bool
	// Self tells whether a mail server that DNS names is this one; nil: none is.
	Self    func(host string, addr netip.Addr) bool
	Connect time.Duration // 0: 30 s
}

// Limits of what other servers may do to us.
const (
	maxHosts     = 100
	maxAddresses = 20
	maxReply     = 64 << 10 // octets of all replies of a connection
	maxReason    = 500
)

var errNullMX = errors.New("the domain accepts no mail (null MX)")

// target is one address to try.
type target struct {
	host string
	addr netip.Addr
}

// Deliver tries the destination's hosts in order until one of them has given an answer for
// every recipient.
func (c *Client) Deliver(ctx context.Context, j Job) []Result {
	targets, err := c.targets(ctx, &j)
	if err != nil {
		return all(j, err, "")
	}
	var last []Result
	for _, t := range targets {
		res, next := c.try(ctx, j, t)
		if last = res; !next || ctx.Err() != nil {
			break
		}
	}
	return last
}

func (c *Client) targets(ctx context.Context, j *Job) ([]target, error) {
	r := j.Route
	switch {
	case r == nil:
		return c.lookup(ctx, j.Domain)
	case r.Wait != "":
		return nil, errors.New(r.Wait)
	case r.Both:
		return c.lookupBoth(ctx, r.Host)
	case r.MX:
		return c.lookup(ctx, r.Host)
	}
	if ip, err := netip.ParseAddr(strings.Trim(r.Host, "[]")); err == nil {
		return []target{{r.Host, ip}}, nil
	}
	return c.addresses(ctx, r.Host)
}

// permanent marks an error that trying again won't mend.
type permanent struct {
	code int
	err  error
}

func (p *permanent) Error() string { return p.err.Error() }

// all gives every recipient the same outcome.
func all(j Job, err error, where string) []Result {
	out := make([]Result, len(j.Rcpts))
	for i, r := range j.Rcpts {
		out[i] = outcome(r.N, err, where, "")
	}
	return out
}

// outcome reads an error: 5xx fails, everything else is tried again.
func outcome(n uint32, err error, where, protection string) Result {
	r := Result{N: n, Outcome: model.OutcomeDeferred, Remote: where, TLS: protection}
	var se *smtp.SMTPError
	var p *permanent
	switch {
	case err == nil:
		r.Outcome, r.Code, r.Reason = model.OutcomeDelivered, 250, "accepted"
	case errors.As(err, &se):
		r.Code = se.Code
		r.Reason = fmt.Sprintf("%d %s", se.Code, se.Message)
		if se.EnhancedCode[0] > 0 {
			r.Reason = fmt.Sprintf("%d %d.%d.%d %s", se.Code, se.EnhancedCode[0], se.EnhancedCode[1], se.EnhancedCode[2], se.Message)
		}
		if se.Code >= 500 {
			r.Outcome = model.OutcomeFailed
		}
	case errors.As(err, &p):
		r.Outcome, r.Code, r.Reason = model.OutcomeFailed, p.code, err.Error()
	default:
		r.Reason = err.Error()
	}
	r.Reason = oneLine(r.Reason)
	return r
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return s
}

// try delivers to one address. next tells whether another host may be asked.
func (c *Client) try(ctx context.Context, j Job, t target) (res []Result, next bool) {
	port := c.Port()
	if j.Route != nil && j.Route.Port != 0 {
		port = j.Route.Port
	}
	where := fmt.Sprintf("%s [%s]", t.host, t.addr)
	ap := netip.AddrPortFrom(t.addr, uint16(port))
	if c.Ours != nil && c.Ours(ap) {
		return all(j, &permanent{554, fmt.Errorf("mail for %s loops back to this server; check its MX, or add it with mpctl domain add", j.Domain)}, where), false
	}
	cl, protection, err := c.connect(ctx, t, ap)
	if err != nil {
		return all(j, err, where), true
	}
	defer cl.Close()
	stop := context.AfterFunc(ctx, func() { cl.Close() })
	defer stop()
	if ok, size := cl.Extension("SIZE"); ok {
		if limit, err := strconv.ParseInt(size, 10, 64); err == nil && limit > 0 && j.Size > limit {
			return all(j, &permanent{552, fmt.Errorf("the message has %d octets, %s takes %d at most", j.Size, t.host, limit)}, where), false
		}
	}
	res, err = transaction(cl, j, where, protection)
	if err != nil {
		return all(j, err, where), !errors.As(err, new(*smtp.SMTPError)) && !errors.As(err, new(*permanent))
	}
	cl.Quit()
	return res, false
}

// connect dials, greets and starts TLS when the other side offers it.
func (c *Client) connect(ctx context.Context, t target, ap netip.AddrPort) (*smtp.Client, string, error) {
	cl, err := c.dial(ctx, ap)
	if err != nil {
		return nil, "", err
	}
	if ok, _ := cl.Extension("STARTTLS"); !ok || !c.UseTLS() {
		return cl, "", nil
	}
	cl.Close()
	conn, err := c.socket(ctx, ap)
	if err != nil {
		return nil, "", err
	}
	// Opportunistic (RFC 7435): an unverified certificate is better than no encryption.
	tc, err := smtp.NewClientStartTLS(conn, &tls.Config{ServerName: t.host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err == nil {
		c.timeouts(tc)
		if err = tc.Hello(c.Hello()); err == nil {
			if st, ok := tc.TLSConnectionState(); ok {
				return tc, tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite), nil
			}
		}
		tc.Close()
	}
	cl, err = c.dial(ctx, ap) // TLS failed: in clear
	return cl, "", err
}

func (c *Client) socket(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
	wait := c.Connect
	if wait == 0 {
		wait = 30 * time.Second
	}
	conn, err := (&net.Dialer{Timeout: wait}).DialContext(ctx, "tcp", ap.String())
	if err != nil {
		return nil, fmt.Errorf("can't connect to %s: %w", ap, cause(err))
	}
	return &bounded{Conn: conn, left: maxReply}, nil
}

func cause(err error) error {
	for {
		u := errors.Unwrap(err)
		if u == nil {
			return err
		}
		err = u
	}
}

// bounded ends a connection whose other side talks too much.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the other server sent too much")
	}
	n, err := b.Conn.Read(p)
	b.left -= n
	return n, err
}

func (c *Client) timeouts(cl *smtp.Client) {
	cl.CommandTimeout = 5 * time.Minute     // RFC 5321 §4.5.3.2
	cl.SubmissionTimeout = 10 * time.Minute //
}

func (c *Client) dial(ctx context.Context, ap netip.AddrPort) (*smtp.Client, error) {
	conn, err := c.socket(ctx, ap)
	if err != nil {
		return nil, err
	}
	cl := smtp.NewClient(conn)
	c.timeouts(cl)
	if err := cl.Hello(c.Hello()); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

// transaction sends one message. The error is for all recipients.
func transaction(cl *smtp.Client, j Job, where, protection string) ([]Result, error) {
	o := &smtp.MailOptions{}
	dsn, _ := cl.Extension("DSN")
	if j.EightBit {
		if ok, _ := cl.Extension("8BITMIME"); ok {
			o.Body = smtp.Body8BitMIME
		}
	}
	if j.UTF8 {
		if ok, _ := cl.Extension("SMTPUTF8"); !ok {
			return nil, &permanent{553, errors.New("the message needs SMTPUTF8, which the other server doesn't offer")}
		}
		o.UTF8 = true
	}
	if ok, _ := cl.Extension("SIZE"); ok {
		o.Size = j.Size
	}
	if dsn {
		o.Return, o.EnvelopeID = smtp.DSNReturn(j.Ret), j.EnvID
	}
	if err := cl.Mail(j.From, o); err != nil {
		return nil, err
	}
	out := make([]Result, len(j.Rcpts))
	var accepted []int
	for i, r := range j.Rcpts {
		err := cl.Rcpt(r.Address, rcptOptions(r, dsn))
		var se *smtp.SMTPError
		if err != nil && !errors.As(err, &se) {
			return nil, err // the connection is gone
		}
		out[i] = outcome(r.N, err, where, protection)
		if err == nil {
			accepted = append(accepted, i)
		}
	}
	if len(accepted) == 0 {
		return out, nil
	}
	err := send(cl, j)
	for _, i := range accepted {
		out[i] = outcome(j.Rcpts[i].N, err, where, protection)
	}
	return out, nil
}

func rcptOptions(r model.QueueRcpt, dsn bool) *smtp.RcptOptions {
	if !dsn {
		return nil
	}
	o := &smtp.RcptOptions{}
	for _, n := range strings.Split(r.Notify, ",") {
		if n != "" {
			o.Notify = append(o.Notify, smtp.DSNNotify(n))
		}
	}
	if kind, addr, ok := strings.Cut(r.ORcpt, ";"); ok {
		o.OriginalRecipientType, o.OriginalRecipient = smtp.DSNAddressType(strings.ToUpper(kind)), addr
	}
	return o
}

func send(cl *smtp.Client, j Job) error {
	body, err := j.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	w, err := cl.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, body); err != nil {
		return err
	}
	return w.Close()
}

// lookup finds the hosts of a domain: MX in order, or its own address (RFC 5321 §5.1).
func (c *Client) lookup(ctx context.Context, domain string) ([]target, error) {
	if lit, ok := strings.CutPrefix(domain, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(lit, "]"), "IPv6:"))
		if err != nil {
			return nil, &permanent{553, fmt.Errorf("bad address literal %s", domain)}
		}
		return []target{{domain, ip}}, nil
	}
	rrs, err := c.query(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	var mx []*dns.MX
	for _, rr := range rrs {
		if m, ok := rr.(*dns.MX); ok && len(mx) < maxHosts {
			mx = append(mx, m)
		}
	}
	if len(mx) == 1 && mx[0].Mx == "." {
		return nil, &permanent{556, errNullMX} // RFC 7505
	}
	if len(mx) == 0 {
		mx = []*dns.MX{{Mx: dns.Fqdn(domain)}}
	}
	rand.Shuffle(len(mx), func(i, k int) { mx[i], mx[k] = mx[k], mx[i] })
	sort.SliceStable(mx, func(i, k int) bool { return mx[i].Preference < mx[k].Preference })
	var out []target
	var last error
	for _, m := range mx {
		host := strings.ToLower(strings.TrimSuffix(m.Mx, "."))
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			rrs, err := c.query(ctx, host, kind)
			if err != nil {
				last = err
				continue
			}
			for _, rr := range rrs {
				if ip, ok := address(rr); ok && len(out) < maxAddresses {
					out = append(out, target{host, ip})
				}
			}
		}
	}
	return found(out, last, domain)
}

// addresses finds those of one host.
func (c *Client) addresses(ctx context.Context, host string) (out []target, err error) {
	var last error
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		rrs, err := c.query(ctx, host, kind)
		if err != nil {
			last = err
			continue
		}
		for _, rr := range rrs {
			if ip, ok := address(rr); ok && len(out) < maxAddresses {
				out = append(out, target{host, ip})
			}
		}
	}
	return found(out, last, host)
}

func found(out []target, last error, domain string) ([]target, error) {
	if len(out) > 0 {
		return out, nil
	}
	if last == nil || errors.As(last, new(*permanent)) {
		return nil, &permanent{550, fmt.Errorf("the mail servers of %s have no address", domain)}
	}
	return nil, last
}

func address(rr dns.RR) (netip.Addr, bool) {
	switch r := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(r.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(r.AAAA)
	}
	return netip.Addr{}, false
}

// query asks the resolvers in turn. A name that doesn't exist is permanent, everything else is
// tried again later.
func (c *Client) query(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	servers := c.servers()
	if len(servers) == 0 {
		return nil, errors.New("no DNS server is known; set network.resolvers")
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.SetEdns0(1232, false)
	var last error
	for _, s := range servers {
		resp, err := exchange(ctx, m, s)
		switch {
		case err != nil:
			last = fmt.Errorf("DNS server %s does not answer for %s: %w", s, name, cause(err))
		case resp.Rcode == dns.RcodeNameError:
			return nil, &permanent{550, fmt.Errorf("the domain %s does not exist", name)}
		case resp.Rcode != dns.RcodeSuccess:
			last = fmt.Errorf("DNS server %s answers %s for %s", s, dns.RcodeToString[resp.Rcode], name)
		default:
			return resp.Answer, nil
		}
	}
	return nil, last
}

func exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	cl := &dns.Client{Timeout: 5 * time.Second}
	resp, _, err := cl.ExchangeContext(ctx, m, server)
	if err == nil && resp.Truncated {
		cl.Net = "tcp"
		resp, _, err = cl.ExchangeContext(ctx, m, server)
	}
	return resp, err
}

func (c *Client) servers() []string {
	list := c.Resolvers()
	if len(list) == 0 {
		cfg, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil
		}
		list = cfg.Servers
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if _, err := netip.ParseAddrPort(s); err != nil {
			s = net.JoinHostPort(s, "53")
		}
		out = append(out, s)
	}
	return out
}
