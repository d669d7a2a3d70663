package mail

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
	"mailplusd/mail/remote/tlsrpt"
	"mailplusd/mail/smtpd"
	"mailplusd/mail/state"
)

// Bounds of reports on TLS.
const (
	keepReports    = 5 * time.Minute // counts are in memory for as long at most before they are stored
	maxReports     = 5000            // domains counted between
	reportSpread   = 4 * time.Hour   // behind midnight, so that not everybody reports at once (RFC 8460 §4.1)
	reportsForgone = 3               // days that a report is tried for
	sendTurn       = 2 * time.Minute // for a turn of sending: counts are stored after it
	domainTime     = time.Minute     // for all addresses of one domain that take reports by HTTPS
	reportRetry    = time.Hour       // between attempts by HTTPS (RFC 8460 §5.5)
)

// tlsReports counts what other domains are told about TLS towards them (RFC 8460).
type tlsReports struct {
	mu     sync.Mutex
	counts map[string]*model.TLSReport // by the row's key
	again  map[string]time.Time        // by domain: when a report that HTTPS has not taken is tried again
}

// countTLS takes in one connection.
func (s *Server) countTLS(a remote.TLSAttempt) {
	if !s.State.Current().Queue.TLSReports {
		return
	}
	row := &model.TLSReport{Day: time.Now().UTC().Format(time.DateOnly), Domain: a.Domain}
	if s.node != nil {
		row.Node, _ = s.node()
	}
	f := model.TLSReportFailure{Kind: a.Failure, Host: a.Host, Detail: a.Detail}
	if a.Addr.IsValid() {
		f.Address = a.Addr.String()
	}
	if a.Local.IsValid() {
		f.Sending = a.Local.String()
	}
	r := &s.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]*model.TLSReport{}
	}
	key := state.TLSReports.Key(row)
	if r.counts[key] == nil {
		if len(r.counts) == maxReports {
			return
		}
		r.counts[key] = row
	}
	r.counts[key].Add(model.TLSReportPolicy{Kind: a.Kind, Strings: a.Policy, MX: a.MX}, f, 1)
}

// reporting stores counts now and then and sends reports when they are due.
func (s *Server) reporting() {
	t := time.NewTicker(keepReports)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := s.KeepTLSReports(ctx); err != nil {
				s.log.Warn("what was counted of TLS towards other servers is lost", "err", err)
			}
			return
		case <-t.C:
			if err := s.KeepTLSReports(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Warn("what was counted of TLS towards other servers not stored yet", "err", err)
			}
			if _, err := s.SendTLSReports(s.ctx, time.Now(), false); err != nil && s.ctx.Err() == nil {
				s.log.Warn("TLS reports not sent; they are tried again", "err", err)
			}
		}
	}
}

// KeepTLSReports stores what was counted for domains that want to hear of it.
func (s *Server) KeepTLSReports(ctx context.Context) error {
	r := &s.reports
	r.mu.Lock()
	taken := r.counts
	r.counts = nil
	r.mu.Unlock()
	var rows []*model.TLSReport
	for _, row := range taken {
		if _, _, err := s.reportsTo(ctx, row.Domain); err == nil {
			rows = append(rows, row)
		} else if ctx.Err() != nil {
			break
		}
	}
	const batch = 50
	for len(rows) > 0 {
		n := min(batch, len(rows))
		err := s.State.Update(ctx, func(tx *state.Tx) error {
			for _, row := range rows[:n] {
				sum := &model.TLSReport{Day: row.Day, Node: row.Node, Domain: row.Domain}
				old, err := state.TLSReports.Get(tx, state.TLSReports.Key(row))
				if err != nil && !errors.Is(err, state.ErrNotFound) {
					return err
				}
				if old != nil {
					sum = old
				}
				sum.Merge(row)
				if err := state.TLSReports.Put(tx, sum); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			s.putBack(rows)
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// putBack keeps counts that could not be stored for the next time.
func (s *Server) putBack(rows []*model.TLSReport) {
	r := &s.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[string]*model.TLSReport{}
	}
	for _, row := range rows {
		key := state.TLSReports.Key(row)
		if has := r.counts[key]; has != nil {
			has.Merge(row)
		} else if len(r.counts) < maxReports {
			r.counts[key] = row
		}
	}
}

// reportsTo asks DNS where a domain wants reports. An error: it wants none, or nowhere where they can
// be sent to.
func (s *Server) reportsTo(ctx context.Context, domain string) (mailto, https []string, err error) {
	txts, err := s.outgoing.TXT(ctx, "_smtp._tls."+domain)
	if err != nil {
		return nil, nil, err
	}
	return tlsrpt.ParseRecord(txts)
}

// reportTurn tells when the report on a domain goes out after a day's end.
func reportTurn(domain string) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(domain))
	return time.Duration(h.Sum32()%uint32(reportSpread/time.Second)) * time.Second
}

// SendTLSReports sends what is due: reports on days that have ended, or with all everything that
// has been counted. The node that leads does it, for both. It gives the number of reports sent.
func (s *Server) SendTLSReports(ctx context.Context, now time.Time, all bool) (sent int, err error) {
	if !s.leading() || !s.State.Current().Queue.TLSReports {
		return 0, nil
	}
	rows, err := state.TLSReports.List(s.State, "")
	if err != nil {
		return 0, err
	}
	due := map[string][]*model.TLSReport{} // by day and domain: both nodes may have counted
	for _, row := range rows {
		day, err := time.Parse(time.DateOnly, row.Day)
		if err == nil && (all || !now.Before(day.AddDate(0, 0, 1).Add(reportTurn(row.Domain)))) {
			due[row.Day+" "+row.Domain] = append(due[row.Day+" "+row.Domain], row)
		}
	}
	if !all { // servers that are slow to take reports leave the rest to the next turn
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, sendTurn)
		defer cancel()
	}
	var errs error
	for _, list := range due {
		if domain := list[0].Domain; !all && !s.reports.turn(domain, now) {
			continue
		}
		n, err := s.sendTLSReport(ctx, list, now)
		sent += n
		errs = errors.Join(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return sent, errs
}

// turn tells whether a domain's server may be asked again to take reports.
func (r *tlsReports) turn(domain string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.again[domain])
}

// put notes how a domain's server was last: one that has not taken a report is left alone for a while.
func (r *tlsReports) put(domain string, now time.Time, taken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if taken || len(r.again) >= maxReports {
		delete(r.again, domain)
		return
	}
	if r.again == nil {
		r.again = map[string]time.Time{}
	}
	r.again[domain] = now.Add(reportRetry)
}

// sendTLSReport sends one report and forgets what it was made of. If this node stops in between,
// it is sent twice, under the same ID. It is tried again while nobody has taken it.
func (s *Server) sendTLSReport(ctx context.Context, rows []*model.TLSReport, now time.Time) (sent int, err error) {
	first := rows[0]
	day, err := time.Parse(time.DateOnly, first.Day)
	if err != nil {
		return 0, err
	}
	mailto, https, err := s.reportsTo(ctx, first.Domain)
	switch {
	case errors.Is(err, tlsrpt.ErrNone) || now.After(day.AddDate(0, 0, 1+reportsForgone)):
		s.reports.put(first.Domain, now, true)
		return 0, s.dropTLSReports(ctx, rows) // it doesn't want them any more, or can't be asked
	case err != nil:
		return 0, fmt.Errorf("%s: %w", first.Domain, err)
	}
	sum := &model.TLSReport{}
	for _, row := range rows {
		sum.Merge(row)
	}
	rep := s.tlsReport(sum, first.Domain, day, now)
	poster := &tlsrpt.Poster{Roots: s.outgoing.Roots, Dial: s.outgoing.DialHost}
	var refused error
	pctx, cancel := context.WithTimeout(ctx, domainTime)
	defer cancel()
	for _, to := range https {
		if err := poster.Post(pctx, to, rep); err != nil {
			s.log.Warn("TLS report not sent", "domain", first.Domain, "to", to, "err", err)
			refused = errors.Join(refused, err)
			continue
		}
		sent++
	}
	for _, to := range mailto {
		raw, err := rep.Message(to, smtpd.NewID()+"@"+s.State.Current().System.Hostname, now)
		if err != nil {
			return sent, err
		}
		if err := s.Inject(ctx, rep.Contact, to, raw); err != nil {
			s.log.Warn("TLS report not sent", "domain", first.Domain, "to", to, "err", err)
			refused = errors.Join(refused, err)
			continue
		}
		sent++
	}
	if ctx.Err() == nil { // else it was hardly asked
		s.reports.put(first.Domain, now, refused == nil || sent > 0)
	}
	if refused != nil && sent == 0 {
		return 0, fmt.Errorf("%s: %w", first.Domain, refused)
	}
	s.log.Info("TLS report sent", "domain", first.Domain, "day", first.Day, "to", strings.Join(append(https, mailto...), " "))
	return sent, s.dropTLSReports(ctx, rows)
}

func (s *Server) tlsReport(sum *model.TLSReport, domain string, day, now time.Time) *tlsrpt.Report {
	set := s.State.Current().System
	end := day.AddDate(0, 0, 1).Add(-time.Second)
	if now.Before(end) {
		end = now
	}
	rep := &tlsrpt.Report{
		Organization: set.Domain, Contact: "postmaster@" + set.Domain, Submitter: set.Domain, Domain: domain, From: day, To: end,
		ID: fmt.Sprintf("%s.%d.%s@%s", day.Format(time.DateOnly), end.Unix(), domain, set.Hostname),
	}
	for _, p := range sum.Policies {
		out := tlsrpt.Policy{Kind: p.Kind, Strings: p.Strings, MX: p.MX, OK: p.OK}
		for _, f := range p.Failures {
			out.Failures = append(out.Failures, tlsrpt.Failure{Kind: f.Kind, Sending: f.Sending, Host: f.Host, Address: f.Address, Count: f.Count, Detail: f.Detail})
		}
		rep.Policies = append(rep.Policies, out)
	}
	return rep
}

func (s *Server) dropTLSReports(ctx context.Context, rows []*model.TLSReport) error {
	return s.State.Update(ctx, func(tx *state.Tx) error {
		for _, row := range rows {
			if err := state.TLSReports.Delete(tx, state.TLSReports.Key(row)); err != nil && !errors.Is(err, state.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}
