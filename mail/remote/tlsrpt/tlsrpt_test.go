package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRecord(t *testing.T) {
	for _, x := range []struct {
		txts      []string
		to, https string
		err       string
	}{
		{[]string{"v=TLSRPTv1; rua=mailto:reports@example.com"}, "reports@example.com", "", ""},
		{[]string{"v=spf1 -all", "v=TLSRPTv1;rua=mailto:a@x.test, https://x.test/v1 ,MAILTO:b%2Bc@x.test?subject=x;"}, "a@x.test b+c@x.test", "https://x.test/v1", ""},
		{[]string{"v=TLSRPTv1; rua=HTTPS://x.test/v1?id=1%2C2#top,https://y.test:443/"}, "", "https://x.test/v1?id=1%2C2 https://y.test:443/", ""},
		{[]string{"v=TLSRPTv1; rua=mailto:a%0d%0aBcc:@x.test"}, "", "", "no address"},
		{[]string{"v=TLSRPTv1; rua=mailto:<a@x.test>"}, "", "", "no address"},
		{[]string{"v=TLSRPTv1; rua=ftp://x.test/,mailto:a@x.test"}, "a@x.test", "", ""},
		{[]string{"v=TLSRPTv1; rua=https://127.0.0.1/,https://[::1]/,https://localhost/,https://x.test:8443/,https://u:p@x.test/,http://x.test/,https:x.test,https://a%0db.test/,https://" +
			strings.Repeat("x", maxURL) + ".test/"}, "", "", "no address"},
		{[]string{"v=TLSRPTv1"}, "", "", "no address"},
		{[]string{"v=TLSRPTv2; rua=mailto:a@x.test"}, "", "", "no TLSRPT record"},
		{nil, "", "", "no TLSRPT record"},
		{[]string{"v=TLSRPTv1; rua=mailto:a@x.test", "v=TLSRPTv1; rua=mailto:b@x.test"}, "", "", "two"},
		{[]string{"v=TLSRPTv1; rua=" + strings.Repeat("mailto:a@x.test,", 100)}, strings.TrimSpace(strings.Repeat("a@x.test ", maxRUA)), "", ""},
	} {
		to, https, err := ParseRecord(x.txts)
		if strings.Join(to, " ") != x.to || strings.Join(https, " ") != x.https || (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%q: %q %q %v", x.txts, to, https, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@b.test,https://c.test/")
	f.Fuzz(func(t *testing.T, s string) {
		to, https, _ := ParseRecord([]string{s})
		for _, a := range to {
			if strings.ContainsAny(a, "\r\n\x00<> ") || !strings.Contains(a, "@") {
				t.Errorf("%q", a)
			}
		}
		for _, a := range https {
			u, err := url.Parse(a)
			if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "443" || strings.ContainsAny(a, "\r\n\x00") {
				t.Errorf("%q %v", a, err)
			}
			if _, err := http.NewRequest(http.MethodPost, a, nil); err != nil {
				t.Errorf("%q %v", a, err)
			}
		}
	})
}

// TestReport compares the report with the keys and values of RFC 8460 §4.4, as a receiver reads it.
func TestReport(t *testing.T) {
	from := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	r := Report{
		Organization: "Example", Contact: "postmaster@us.test", Submitter: "us.test", ID: "2026-11-26.one.test@us.test", Domain: "one.test", From: from, To: from.Add(24*time.Hour - time.Second),
		Policies: []Policy{
			{Kind: "sts", Strings: []string{"version: STSv1", "mode: testing"}, MX: []string{"*.one.test"}, OK: 5326, Failures: []Failure{
				{Kind: "certificate-expired", Sending: "192.0.2.9", Host: "mx.one.test", Address: "192.0.2.1", Count: 100, Detail: "words"},
				{Kind: "starttls-not-supported", Host: "b.one.test", Count: 203},
			}},
			{Kind: "no-policy-found", OK: 1},
		},
	}
	raw, err := r.Message("reports@one.test", "id@mail.us.test", from)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" || m.Header.Get("TLS-Report-Domain") != "one.test" || m.Header.Get("TLS-Report-Submitter") != "us.test" {
		t.Errorf("%s %v %v %v", kind, params, m.Header, err)
	}
	mr := multipart.NewReader(m.Body, params["boundary"])
	if _, err := mr.NextPart(); err != nil {
		t.Fatal(err)
	}
	p, err := mr.NextPart()
	if err != nil || p.Header.Get("Content-Type") != "application/tlsrpt+gzip" || p.FileName() != "us.test!one.test!1795651200!1795737599.json.gz" {
		t.Fatalf("%v %q %v", p.Header, p.FileName(), err)
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, p))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	json.Unmarshal([]byte(`{"organization-name":"Example","date-range":{"start-datetime":"2026-11-26T00:00:00Z","end-datetime":"2026-11-26T23:59:59Z"},
"contact-info":"postmaster@us.test","report-id":"2026-11-26.one.test@us.test","policies":[
{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: testing"],"policy-domain":"one.test","mx-host":["*.one.test"]},
 "summary":{"total-successful-session-count":5326,"total-failure-session-count":303},
 "failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"192.0.2.9","receiving-mx-hostname":"mx.one.test","receiving-ip":"192.0.2.1","failed-session-count":100,"failure-reason-code":"words"},
  {"result-type":"starttls-not-supported","receiving-mx-hostname":"b.one.test","failed-session-count":203}]},
{"policy":{"policy-type":"no-policy-found","policy-domain":"one.test"},"summary":{"total-successful-session-count":1,"total-failure-session-count":0}}]}`), &want)
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !slices.Equal(a, b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}
