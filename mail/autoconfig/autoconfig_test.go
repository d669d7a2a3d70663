package autoconfig

import (
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"mailplusd/mail/model"
)

func server(change func(*model.Settings)) *Server {
	set := model.DefaultSettings()
	set.System.Hostname, set.System.Domain = "mail.example.org", "example.org"
	set.Services.IMAP.Enabled, set.Services.IMAP.TLS = true, true
	set.Services.SMTPS.Enabled, set.Services.Submission.Enabled = true, true
	if change != nil {
		change(&set)
	}
	return &Server{
		Settings: func() *model.Settings { return &set }, Log: slog.New(slog.DiscardHandler),
		Hosts: func(d string) bool { return d == "example.org" || d == "example.net" },
	}
}

// call sends raw octets over a connection and gives the whole answer.
func (s *Server) call(t testing.TB, raw string, redirect bool) string {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); s.serve(there, redirect) }()
	go func() { io.WriteString(here, raw) }()
	b, err := io.ReadAll(here)
	here.Close()
	<-done
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return string(b)
}

func get(path, host string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
}

func post(body string) string {
	return fmt.Sprintf("POST /Autodiscover/Autodiscover.xml HTTP/1.1\r\nHost: autodiscover.example.org\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func body(answer string) string {
	_, b, _ := strings.Cut(answer, "\r\n\r\n")
	return b
}

// covers: R2.50 R2.51
func TestThunderbirdFindsWhatIsEnabled(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*model.Settings)
		want   string // type port socket of each server
	}{
		{"all", func(s *model.Settings) { s.Services.POP3.Enabled, s.Services.POP3.TLS = true, true },
			"imap 993 SSL, imap 143 STARTTLS, pop3 995 SSL, pop3 110 STARTTLS, smtp 465 SSL, smtp 587 STARTTLS"},
		{"usual", nil, "imap 993 SSL, imap 143 STARTTLS, smtp 465 SSL, smtp 587 STARTTLS"},
		{"other ports", func(s *model.Settings) { s.Services.IMAP.TLSPort, s.Services.SMTPS.Enabled = 2993, false }, "imap 2993 SSL, imap 143 STARTTLS, smtp 587 STARTTLS"},
		{"no TLS", func(s *model.Settings) { s.Services.IMAP.TLS = false }, "smtp 465 SSL, smtp 587 STARTTLS"},
		{"clear", func(s *model.Settings) { s.Services.IMAP.TLS, s.Services.PlainLogin = false, "always" }, "imap 143 plain, smtp 465 SSL, smtp 587 STARTTLS"},
	} {
		s := server(c.change)
		for _, req := range []string{
			get("/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=carol%40example.org", "example.org"),
			get("/mail/config-v1.1.xml", "autoconfig.example.org"),
			get("/mail/config-v1.1.xml?emailaddress=nobody@EXAMPLE.ORG", "mail.example.org:443"),
		} {
			a := s.call(t, req, false)
			var x clientConfig
			if err := xml.Unmarshal([]byte(body(a)), &x); err != nil || !strings.HasPrefix(a, "HTTP/1.1 200 ") || !strings.Contains(a, "Content-Type: text/xml") {
				t.Fatalf("%s: %v\n%s", c.name, err, a)
			}
			var got []string
			for _, srv := range append(x.Provider.Incoming, x.Provider.Outgoing...) {
				got = append(got, fmt.Sprint(srv.Type, " ", srv.Port, " ", srv.Socket))
				if srv.Hostname != "mail.example.org" || srv.Username != "%EMAILADDRESS%" {
					t.Errorf("%+v", srv)
				}
			}
			if strings.Join(got, ", ") != c.want || x.Provider.ID != "example.org" || x.Version != "1.1" {
				t.Errorf("%s: %s of %q, want %s", c.name, got, x.Provider.ID, c.want)
			}
		}
	}
}

// TestNobodyLearnsWhoIsThere: the answer for an address doesn't depend on its local part, and
// nothing is told about domains that are not ours.
func TestNobodyLearnsWhoIsThere(t *testing.T) {
	s := server(nil)
	ask := func(who string) string {
		return s.call(t, get("/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress="+who, "example.org"), false)
	}
	if a, b := ask("alice@example.org"), ask("no-such-user@example.org"); a != b {
		t.Errorf("%s\nis not\n%s", a, b)
	}
	for _, who := range []string{"a@elsewhere.example", "a", "a@", "%0d%0aX:y@example.org", strings.Repeat("a", 400) + "@example.org"} {
		if a := ask(who); !strings.HasPrefix(a, "HTTP/1.1 404 ") {
			t.Errorf("%.60q: %s", who, a)
		}
	}
}

const outlookAsks = `<?xml version="1.0" encoding="utf-8"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>%s</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>`

func TestOutlook(t *testing.T) {
	s := server(func(m *model.Settings) { m.Services.SMTPS.Enabled = false })
	a := s.call(t, post(fmt.Sprintf(outlookAsks, "car&amp;ol@example.net")), false)
	var x struct {
		Response struct {
			XMLName xml.Name
			Account struct {
				Protocol []outlookProtocol
			}
		}
	}
	if err := xml.Unmarshal([]byte(body(a)), &x); err != nil || !strings.HasPrefix(a, "HTTP/1.1 200 ") || x.Response.XMLName.Space != schemaOutlook {
		t.Fatalf("%v\n%s", err, a)
	}
	p := x.Response.Account.Protocol
	if len(p) != 2 || p[0].Type != "IMAP" || p[0].Port != 993 || p[0].Encryption != "SSL" || p[0].LoginName != "car&ol@example.net" ||
		p[1].Type != "SMTP" || p[1].Port != 587 || p[1].Encryption != "TLS" || p[1].AuthRequired != "on" {
		t.Errorf("%+v", p)
	}
	if a := s.call(t, post(fmt.Sprintf(outlookAsks, "x@elsewhere.example")), false); !strings.Contains(a, "<ErrorCode>500</ErrorCode>") || strings.Contains(a, "<Protocol>") {
		t.Errorf("%s", a)
	}
	for want, req := range map[string]string{
		"405": get("/autodiscover/autodiscover.xml", "autodiscover.example.org"),
		"400": post("<Autodiscover><"),
		"413": post("<Autodiscover>" + strings.Repeat(" ", maxBody)),
	} {
		if a := s.call(t, req, false); !strings.HasPrefix(a, "HTTP/1.1 "+want) {
			t.Errorf("want %s: %s", want, a)
		}
	}
}

func TestApple(t *testing.T) {
	s := server(nil)
	a := s.call(t, get("/email.mobileconfig?email=carol@example.org", "example.org"), false)
	var x struct {
		Keys []string `xml:"dict>array>dict>key"`
		Text []string `xml:"dict>array>dict>string"`
		Ints []int    `xml:"dict>array>dict>integer"`
	}
	if err := xml.Unmarshal([]byte(body(a)), &x); err != nil || !strings.HasPrefix(a, "HTTP/1.1 200 ") || !strings.Contains(a, "application/x-apple-aspen-config") {
		t.Fatalf("%v\n%s", err, a)
	}
	if len(x.Keys) != 19 || fmt.Sprint(x.Ints) != "[1 993 465]" || !strings.Contains(strings.Join(x.Text, " "), "EmailTypeIMAP carol@example.org") {
		t.Errorf("%+v\n%s", x, a)
	}
	if again := s.call(t, get("/email.mobileconfig?email=carol@example.org", "example.org"), false); again != a {
		t.Error("a profile that is fetched again is another one")
	}
	if a := s.call(t, get("/email.mobileconfig?email=carol@elsewhere.example", "example.org"), false); !strings.HasPrefix(a, "HTTP/1.1 404") {
		t.Error(a)
	}
}

func TestHTTPLeadsToHTTPSOnly(t *testing.T) {
	s := server(nil)
	a := s.call(t, get("/mail/config-v1.1.xml?emailaddress=a@example.org", "autoconfig.example.org"), true)
	if !strings.HasPrefix(a, "HTTP/1.1 302 ") || !strings.Contains(a, "\r\nLocation: https://autoconfig.example.org/mail/config-v1.1.xml?emailaddress=a@example.org\r\n") {
		t.Errorf("%s", a)
	}
	s = server(func(m *model.Settings) { m.Services.Autoconfig.Port = 8443 })
	if a := s.call(t, get("/autodiscover/autodiscover.xml", "example.org"), true); !strings.Contains(a, "Location: https://example.org:8443/autodiscover/autodiscover.xml\r\n") {
		t.Errorf("%s", a)
	}
	for _, req := range []string{get("/mail/config-v1.1.xml", "evil.example"), get("/other", "example.org"), get("//evil.example/mail/config-v1.1.xml", "example.org")} {
		if a := s.call(t, req, true); !strings.HasPrefix(a, "HTTP/1.1 404 ") {
			t.Errorf("%q: %s", req, a)
		}
	}
}

func TestHeadAndOtherMethods(t *testing.T) {
	s := server(nil)
	a := s.call(t, strings.Replace(get("/mail/config-v1.1.xml", "example.org"), "GET", "HEAD", 1), false)
	if !strings.HasPrefix(a, "HTTP/1.1 200 ") || body(a) != "" {
		t.Errorf("%s", a)
	}
	if a := s.call(t, strings.Replace(get("/mail/config-v1.1.xml", "example.org"), "GET", "PUT", 1), false); !strings.HasPrefix(a, "HTTP/1.1 405 ") {
		t.Errorf("%s", a)
	}
	if a := s.call(t, "GET /"+strings.Repeat("x", maxRequest), false); a != "" && !strings.HasPrefix(a, "HTTP/1.1 400 ") {
		t.Errorf("%.100s", a)
	}
}

// FuzzAnswer: whatever is asked, the answer is a whole HTTP response, and XML where it says so.
func FuzzAnswer(f *testing.F) {
	f.Add("GET", "/mail/config-v1.1.xml?emailaddress=a@example.org", "example.org", "")
	f.Add("POST", "/autodiscover/autodiscover.xml", "x", fmt.Sprintf(outlookAsks, "a@example.org"))
	f.Add("GET", "/email.mobileconfig?email=\"<&>\"@example.org", "example.org", "")
	s := server(nil)
	f.Fuzz(func(t *testing.T, method, path, host, text string) {
		req, err := http.NewRequest(method, "http://h"+path, strings.NewReader(text))
		if err != nil {
			return
		}
		req.Host = host
		for _, a := range []*answer{s.answer(req), s.toHTTPS(req)} {
			if strings.Contains(strings.TrimSuffix(a.header, "\r\n"), "\n") && strings.Count(a.header, "\n") > 1 {
				t.Errorf("header %q", a.header)
			}
			if strings.Contains(a.kind, "xml") && xml.Unmarshal(a.body, new(struct{})) != nil {
				t.Errorf("%s", a.body)
			}
		}
	})
}

// TestChallenge: an ACME server gets the answer to its token over HTTP, from no other path and by no other method.
func TestChallenge(t *testing.T) {
	s := server(nil)
	s.Challenge = func(token string) (string, bool) { return token + ".thumb", token == "tok_-1" }
	if a := s.call(t, get("/.well-known/acme-challenge/tok_-1", "anything.example"), true); !strings.HasPrefix(a, "HTTP/1.1 200 ") || body(a) != "tok_-1.thumb" {
		t.Errorf("%q", a)
	}
	for _, raw := range []string{
		get("/.well-known/acme-challenge/", "x"), get("/.well-known/acme-challenge/other", "x"), get("/.well-known/acme-challenge/../tok_-1", "x"),
		get("/.well-known/acme-challenge/a/tok_-1", "x"), "POST /.well-known/acme-challenge/tok_-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	} {
		if a := s.call(t, raw, true); !strings.HasPrefix(a, "HTTP/1.1 404 ") {
			t.Errorf("%q: %q", raw, a)
		}
	}
	if a := s.call(t, get("/.well-known/acme-challenge/tok_-1", "x"), false); !strings.HasPrefix(a, "HTTP/1.1 404 ") {
		t.Errorf("over HTTPS: %q", a)
	}
}
