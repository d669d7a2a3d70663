package mail

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/state"
	"mailplusd/mail/state/statetest"

	"github.com/miekg/dns"
)

// tlsServer is as much of a Server as reports and policies take. Domains in asking want reports.
func tlsServer(t *testing.T, asking map[string]bool) *Server {
	st, _ := statetest.Open(t)
	s := &Server{State: st, leading: func() bool { return true }, log: slog.New(slog.DiscardHandler)}
	s.outgoing = &remote.Client{Resolvers: func() []string { return []string{"192.0.2.53"} }, Exchange: func(_ context.Context, m *dns.Msg, _ string) (*dns.Msg, error) {
		r := new(dns.Msg)
		r.SetReply(m)
		if name := m.Question[0].Name; asking[name] {
			rr, err := dns.NewRR(name + ` 60 IN TXT "v=TLSRPTv1; rua=https://x.test/"`)
			if err != nil {
				return nil, err
			}
			r.Answer = append(r.Answer, rr)
		}
		return r, nil
	}}
	if err := st.Update(context.Background(), func(tx *state.Tx) error {
		set, err := state.LoadSettings(tx)
		if err != nil {
			return err
		}
		set.Queue.TLSReports = true
		return state.StoreSettings(tx, set)
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTLSReports: counts are joined, bounded, kept for who asks for them, and gone when their day is
// over and nobody has taken them for days.
func TestTLSReports(t *testing.T) {
	s := tlsServer(t, map[string]bool{"_smtp._tls.one.test.": true})
	ctx := context.Background()
	number := uint16(1)
	s.node = func() (uint16, bool) { return number, true }
	good := remote.TLSAttempt{Domain: "one.test", Kind: remote.PolicySTS, Policy: []string{"mode: enforce"}, Host: "mx.one.test", Addr: netip.MustParseAddr("192.0.2.1")}
	bad := good
	bad.Failure = "certificate-expired"
	quiet := good
	quiet.Domain = "quiet.test"
	for range 3 {
		s.countTLS(good)
		s.countTLS(bad)
		s.countTLS(quiet)
		if err := s.KeepTLSReports(ctx); err != nil {
			t.Fatal(err)
		}
	}
	number = 2 // the other node
	for i := range 100 {
		bad.Host = fmt.Sprintf("mx%d.one.test", i)
		bad.Policy = []string{fmt.Sprint("mode: ", i%20)}
		s.countTLS(bad)
	}
	if err := s.KeepTLSReports(ctx); err != nil {
		t.Fatal(err)
	}
	rows, err := state.TLSReports.List(s.State, "")
	if err != nil || len(rows) != 2 || rows[0].Domain != "one.test" {
		t.Fatalf("%+v %v", rows, err)
	}
	if p := rows[0].Policies; len(p) != 1 || p[0].OK != 3 || len(p[0].Failures) != 1 || p[0].Failures[0].Count != 3 {
		t.Errorf("%+v", p)
	}
	if p := rows[1].Policies; len(p) != model.MaxReportPolicies {
		t.Errorf("%d policies are kept of 20", len(p))
	}
	day, err := time.Parse(time.DateOnly, rows[0].Day)
	if err != nil {
		t.Fatal(err)
	}
	left := func(now time.Time, want string) int {
		t.Helper()
		n, err := s.SendTLSReports(ctx, now, false)
		if n != 0 || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatal(n, err)
		}
		rows, err := state.TLSReports.List(s.State, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	due := day.AddDate(0, 0, 1).Add(reportTurn("one.test"))
	if n := left(due.Add(-time.Second), ""); n != 2 {
		t.Errorf("%d rows before their time", n)
	}
	if n := left(due, "x.test can't be reached"); n != 2 { // there is no such host
		t.Errorf("%d rows, and nobody has taken the report", n)
	}
	if n := left(due.Add(reportRetry-time.Second), ""); n != 2 { // not asked again so soon
		t.Errorf("%d rows between two attempts", n)
	}
	if n := left(due.Add(reportRetry), "x.test can't be reached"); n != 2 {
		t.Errorf("%d rows behind the second attempt", n)
	}
	if n := left(day.AddDate(0, 0, 1+reportsForgone).Add(time.Second), ""); n != 0 {
		t.Errorf("%d rows when it is given up", n)
	}
}
