package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Report is what a domain is told about a time.
type Report struct {
	Organization string // who reports
	Contact      string // mail address
	Submitter    string // the reporting host's domain
	ID           string
	Domain       string // whom it is about
	From, To     time.Time
	Policies     []Policy
}

// Policy is what was counted under one policy.
type Policy struct {
	Kind     string // tlsa, sts or no-policy-found
	Strings  []string
	MX       []string
	OK       int64
	Failures []Failure
}

// Failure is one kind of failure towards one host.
type Failure struct {
	Kind    string // result type of RFC 8460 §4.3
	Sending string // our address
	Host    string // the receiving server
	Address string // its address
	Count   int64
	Detail  string
}

// The JSON of RFC 8460 §4.4.
type (
	jsonReport struct {
		Organization string       `json:"organization-name"`
		Range        jsonRange    `json:"date-range"`
		Contact      string       `json:"contact-info"`
		ID           string       `json:"report-id"`
		Policies     []jsonResult `json:"policies"`
	}
	jsonRange struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	}
	jsonResult struct {
		Policy   jsonPolicy    `json:"policy"`
		Summary  jsonSummary   `json:"summary"`
		Failures []jsonFailure `json:"failure-details,omitempty"`
	}
	jsonPolicy struct {
		Kind    string   `json:"policy-type"`
		Strings []string `json:"policy-string,omitempty"`
		Domain  string   `json:"policy-domain"`
		MX      []string `json:"mx-host,omitempty"`
	}
	jsonSummary struct {
		OK     int64 `json:"total-successful-session-count"`
		Failed int64 `json:"total-failure-session-count"`
	}
	jsonFailure struct {
		Kind    string `json:"result-type"`
		Sending string `json:"sending-mta-ip,omitempty"`
		Host    string `json:"receiving-mx-hostname,omitempty"`
		Address string `json:"receiving-ip,omitempty"`
		Count   int64  `json:"failed-session-count"`
		Detail  string `json:"failure-reason-code,omitempty"`
	}
)

// JSON writes the report.
func (r *Report) JSON() ([]byte, error) {
	out := jsonReport{
		Organization: r.Organization, Contact: r.Contact, ID: r.ID,
		Range: jsonRange{r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339)}, Policies: []jsonResult{},
	}
	for _, p := range r.Policies {
		res := jsonResult{Policy: jsonPolicy{p.Kind, p.Strings, r.Domain, p.MX}, Summary: jsonSummary{OK: p.OK}}
		for _, f := range p.Failures {
			res.Summary.Failed += f.Count
			res.Failures = append(res.Failures, jsonFailure(f))
		}
		out.Policies = append(out.Policies, res)
	}
	return json.Marshal(out)
}

// packed is the report as it is sent (RFC 8460 §5.2).
func (r *Report) packed() ([]byte, error) {
	text, err := r.JSON()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Message writes the mail that brings the report to an address (RFC 8460 §5.3).
func (r *Report) Message(to, messageID string, now time.Time) ([]byte, error) {
	packed, err := r.packed()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	boundary := "tlsrpt-" + strings.ReplaceAll(messageID, "@", "-")
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: Report Domain: %s Submitter: %s Report-ID: <%s>\r\n", r.Contact, to, r.Domain, r.Submitter, r.ID)
	fmt.Fprintf(&b, "Date: %s\r\nMessage-ID: <%s>\r\nTLS-Report-Domain: %s\r\nTLS-Report-Submitter: %s\r\n", now.Format(time.RFC1123Z), messageID, r.Domain, r.Submitter)
	fmt.Fprintf(&b, "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"%s\"\r\n\r\n", boundary)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	fmt.Fprintf(&b, "This is an aggregate report of TLS towards the mail servers of %s,\r\nfrom %s to %s, by %s.\r\n\r\n", r.Domain, r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339), r.Submitter)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n", boundary)
	fmt.Fprintf(&b, "Content-Disposition: attachment;\r\n\tfilename=\"%s!%s!%d!%d.json.gz\"\r\n\r\n", r.Submitter, r.Domain, r.From.Unix(), r.To.Unix())
	enc := base64.StdEncoding.EncodeToString(packed)
	for len(enc) > 0 {
		n := min(76, len(enc))
		b.WriteString(enc[:n] + "\r\n")
		enc = enc[n:]
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return []byte(b.String()), nil
}
