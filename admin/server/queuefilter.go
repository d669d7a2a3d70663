package server

import (
	"math"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// queueFilter is api.QueueFilter with its texts read. Times are Unix nanoseconds, 0: no bound.
type queueFilter struct {
	in                    *api.QueueFilter
	before, after         int64 // queued
	nextBefore, nextAfter int64
	larger, smaller       int64 // octets; -1: no bound
}

func newQueueFilter(in *api.QueueFilter, now time.Time) (*queueFilter, error) {
	f := &queueFilter{in: in, larger: -1, smaller: -1}
	for _, t := range []struct {
		text string
		to   *int64
		sign time.Duration
	}{
		{in.OlderThan, &f.before, -1}, {in.NewerThan, &f.after, -1}, {in.NextBefore, &f.nextBefore, 1}, {in.NextAfter, &f.nextAfter, 1},
	} {
		if d, err := parseDuration(t.text); err == nil {
			*t.to = now.Add(t.sign * d).UnixNano()
			continue
		}
		at, err := parseTime(t.text, now)
		if err != nil {
			return nil, err
		}
		if !at.IsZero() {
			*t.to = at.UnixNano()
		}
	}
	for text, to := range map[*string]*int64{&in.LargerThan: &f.larger, &in.SmallThan: &f.smaller} {
		if *text == "" {
			continue
		}
		n, err := parseSize(*text)
		if err != nil {
			return nil, err
		}
		*to = n
	}
	return f, nil
}

// may tells whether a recipient can match at all, from what costs nothing to compare.
func (f *queueFilter) may(q *model.QueueMessage, r *model.QueueRcpt) bool {
	in := f.in
	switch {
	case f.before != 0 && q.Created >= f.before, f.after != 0 && q.Created <= f.after:
		return false
	case f.nextBefore != 0 && r.Next >= f.nextBefore, f.nextAfter != 0 && r.Next <= f.nextAfter:
		return false
	case f.larger >= 0 && q.Size <= f.larger, f.smaller >= 0 && q.Size >= f.smaller:
		return false
	}
	if _, domain, _ := model.SplitAddress(r.Address); in.Domain != "" && !strings.EqualFold(in.Domain, domain) {
		return false
	}
	return matches(in.Sender, q.From) && matches(in.Recipient, r.Address)
}

// match tells whether a recipient is chosen. Who is not waiting for a next attempt (held, being
// sent) is not chosen by its time.
func (f *queueFilter) match(q *model.QueueMessage, r *model.QueueRcpt, row *api.QueueRow) bool {
	_, domain, _ := model.SplitAddress(row.Rcpt)
	in := f.in
	switch {
	case f.before != 0 && q.Created >= f.before, f.after != 0 && q.Created <= f.after:
		return false
	case (f.nextBefore != 0 || f.nextAfter != 0) && row.Next == "":
		return false
	case f.nextBefore != 0 && r.Next >= f.nextBefore, f.nextAfter != 0 && r.Next <= f.nextAfter:
		return false
	case f.larger >= 0 && q.Size <= f.larger, f.smaller >= 0 && q.Size >= f.smaller:
		return false
	case in.Domain != "" && !strings.EqualFold(in.Domain, domain), in.State != "" && in.State != row.State:
		return false
	}
	return matches(in.Sender, row.Sender) && matches(in.Recipient, row.Rcpt) && matches(in.Reason, row.Reason) &&
		matches(in.Search, row.ID, row.Sender, row.Rcpt, row.Reason, row.Subject)
}

// parseDuration reads 90s, 10m, 2h and, beyond time.ParseDuration, whole days such as 3d.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// parseSize reads octets, or a number with K, M or G (powers of 1,024) behind it.
func parseSize(text string) (int64, error) {
	shift := 0
	digits := strings.TrimSuffix(strings.ToUpper(text), "B")
	for i, unit := range []string{"K", "M", "G"} {
		if d, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, op.Errorf(op.Usage, "%q is no size; write 4096, 100K, 5M or 1G", text)
	}
	return n << shift, nil
}

// parseTime reads a date, a time, or a duration before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := parseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, op.Errorf(op.Usage, "%q is no time; write 2026-01-31, 2026-01-31T15:04:05Z or 2h", text)
}
