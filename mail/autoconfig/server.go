package autoconfig

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/wire"
)

// Limits of a request. A connection carries one.
const (
	maxRequest  = 32 << 10 // octets with head and body
	maxBody     = 16 << 10
	requestTime = 20 * time.Second // from the first octet to the answer
)

// Timeouts of the listeners' connections.
var Timeouts = wire.Timeouts{
	Idle: requestTime, Command: requestTime, Data: 10 * time.Second, MinRate: 128, Write: 15 * time.Second, Handshake: 10 * time.Second,
}

// Limits of the listeners' connections.
var Limits = wire.Limits{MaxConns: 256, MaxPerIP: 32}

// Server answers clients that look for settings. It is no general web server: every connection
// gets one answer, and everything but a few paths is not found.
type Server struct {
	Settings func() *model.Settings
	Hosts    func(domain string) bool // whether mail for the domain is received here
	// Challenge gives the answer to an ACME server that asks by HTTP for a token; nil: there is none.
	Challenge func(token string) (string, bool)
	// STS gives the MTA-STS policy of a domain (RFC 8461 §3.2); nil, or a nil result: it has none.
	STS func(domain string) []byte
	Log *slog.Logger
}

// Serve answers on a listener until it is closed; with redirect, it only sends clients to HTTPS.
func (s *Server) Serve(l net.Listener, redirect bool) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() { s.serve(c, redirect) })
	}
}

func (s *Server) serve(c net.Conn, redirect bool) {
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(requestTime))
	req, err := http.ReadRequest(bufio.NewReaderSize(io.LimitReader(c, maxRequest), 4096))
	var a *answer
	switch {
	case err != nil:
		if _, ok := err.(net.Error); ok || err == io.EOF {
			return
		}
		a = plain(http.StatusBadRequest, "that is no request")
	case redirect && strings.HasPrefix(req.URL.Path, pathChallenge):
		a = s.challenge(req)
	case redirect:
		a = s.toHTTPS(req)
	default:
		a = s.answer(req)
	}
	if req != nil {
		s.Log.Debug("autoconfig", "from", c.RemoteAddr().String(), "path", req.URL.Path, "status", a.status)
		a.headOnly = req.Method == http.MethodHead
	}
	a.write(c)
}

// answer is what a client gets.
type answer struct {
	status   int
	kind     string // Content-Type
	body     []byte
	header   string // further header lines
	headOnly bool
}

func plain(status int, text string) *answer {
	return &answer{status: status, kind: "text/plain; charset=utf-8", body: []byte(text + "\n")}
}

func (a *answer) write(w io.Writer) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n%s\r\n",
		a.status, http.StatusText(a.status), a.kind, len(a.body), a.header)
	if !a.headOnly {
		b.Write(a.body)
	}
	w.Write(b.Bytes()) // who has left misses nothing
}

// hostOf is the name under which the client found this server.
func hostOf(req *http.Request) string {
	host := req.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host
}

// toHTTPS sends a client to the same path under HTTPS (302: Outlook follows nothing else). Only
// paths that are answered there, on names of ours: no redirect leads elsewhere.
func (s *Server) toHTTPS(req *http.Request) *answer {
	set, host := s.Settings(), hostOf(req)
	if s.domainOf("", host) == "" || !known(req.URL.Path) {
		return plain(http.StatusNotFound, "not found")
	}
	to := url.URL{Scheme: "https", Host: strings.ToLower(host), Path: req.URL.Path, RawQuery: req.URL.RawQuery}
	if port := set.Services.Autoconfig.Port; port != 443 {
		to.Host = net.JoinHostPort(to.Host, strconv.Itoa(port))
	}
	a := plain(http.StatusFound, "see "+to.String())
	a.header = "Location: " + to.String() + "\r\n"
	return a
}

// challenge answers an ACME server that validates a name (RFC 8555 §8.3).
func (s *Server) challenge(req *http.Request) *answer {
	if s.Challenge != nil && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		if text, ok := s.Challenge(strings.TrimPrefix(req.URL.Path, pathChallenge)); ok {
			return &answer{status: http.StatusOK, kind: "application/octet-stream", body: []byte(text)}
		}
	}
	return plain(http.StatusNotFound, "not found")
}

// Paths that are answered.
const (
	pathChallenge = "/.well-known/acme-challenge/"

	pathMozilla   = "/.well-known/autoconfig/mail/config-v1.1.xml"
	pathMozillaAt = "/mail/config-v1.1.xml" // on autoconfig.DOMAIN
	pathOutlook   = "/autodiscover/autodiscover.xml"
	pathApple     = "/email.mobileconfig"
	pathSTS       = "/.well-known/mta-sts.txt" // on mta-sts.DOMAIN, for mail servers
)

func known(path string) bool {
	switch strings.ToLower(path) {
	case pathMozilla, pathMozillaAt, pathOutlook, pathApple:
		return true
	}
	return false
}

// answer looks at the path only: who asks doesn't matter.
func (s *Server) answer(req *http.Request) *answer {
	if req.URL.Path == pathSTS {
		return s.sts(req)
	}
	path := strings.ToLower(req.URL.Path) // Outlook asks for /Autodiscover/Autodiscover.xml, too
	if !known(path) {
		return plain(http.StatusNotFound, "not found")
	}
	if path == pathOutlook {
		return s.outlook(req)
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		a := plain(http.StatusMethodNotAllowed, "GET only")
		a.header = "Allow: GET, HEAD\r\n"
		return a
	}
	q := req.URL.Query()
	list := Services(s.Settings())
	if path == pathApple {
		address := q.Get("email")
		domain := s.domainOf(address, "")
		if address == "" || domain == "" {
			return plain(http.StatusNotFound, "write ?email=ADDRESS with an address of this server")
		}
		body, err := apple(address, domain, list)
		return made(body, err, "application/x-apple-aspen-config; charset=utf-8", "Content-Disposition: attachment; filename=\"mail.mobileconfig\"\r\n")
	}
	domain := s.domainOf(q.Get("emailaddress"), hostOf(req))
	if domain == "" {
		return plain(http.StatusNotFound, "no settings are known for this domain")
	}
	body, err := mozilla(domain, list)
	return made(body, err, "text/xml; charset=utf-8", "")
}

// sts gives a domain's MTA-STS policy. It is found under the domain's own name for it only.
func (s *Server) sts(req *http.Request) *answer {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		a := plain(http.StatusMethodNotAllowed, "GET only")
		a.header = "Allow: GET, HEAD\r\n"
		return a
	}
	var text []byte
	if domain, ok := strings.CutPrefix(strings.ToLower(strings.TrimSuffix(hostOf(req), ".")), "mta-sts."); ok && s.STS != nil {
		text = s.STS(domain)
	}
	if text == nil {
		return plain(http.StatusNotFound, "no MTA-STS policy")
	}
	return &answer{status: http.StatusOK, kind: "text/plain; charset=us-ascii", body: text}
}

func (s *Server) outlook(req *http.Request) *answer {
	if req.Method != http.MethodPost {
		a := plain(http.StatusMethodNotAllowed, "POST only")
		a.header = "Allow: POST\r\n"
		return a
	}
	if req.ContentLength > maxBody {
		return plain(http.StatusRequestEntityTooLarge, "the request is too large")
	}
	raw, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil || len(raw) > maxBody {
		return plain(http.StatusRequestEntityTooLarge, "the request is too large or was cut")
	}
	address, err := readOutlook(raw)
	if err != nil {
		return plain(http.StatusBadRequest, "that is no Autodiscover request")
	}
	if address == "" || s.domainOf(address, "") == "" {
		body, err := outlookRefusal()
		return made(body, err, "text/xml; charset=utf-8", "")
	}
	body, err := outlook(address, Services(s.Settings()))
	return made(body, err, "text/xml; charset=utf-8", "")
}

// made is a document; without one there is nothing that could be set up.
func made(body []byte, err error, kind, header string) *answer {
	switch {
	case err != nil:
		return plain(http.StatusInternalServerError, "the settings can't be written")
	case body == nil:
		return plain(http.StatusNotFound, "no service is offered to clients")
	}
	return &answer{status: http.StatusOK, kind: kind, body: body, header: header}
}
