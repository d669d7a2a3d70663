package limits

import (
	"fmt"
	"time"

	"mailplusd/mail/model"
)

// Full tells whether a message of so many octets would pass a daily limit after what was used. now is
// in the place whose midnight counts.
func (l *Limits) Full(u model.Usage, octets int64, now time.Time) bool {
	u = u.On(model.DayOf(now))
	return l.Messages.Passed(u.Messages+1) || l.Traffic.Passed(u.Octets+octets)
}

// Refusal tells the user why and until when (I.35): for today as 452, for a message that no day is
// long enough for as 552. It is for a reply of SMTP: printable ASCII on one line.
func (l *Limits) Refusal(u model.Usage, octets int64, now time.Time) (code int, text string) {
	today := model.DayOf(now)
	u = u.On(today)
	if l.Traffic.Passed(octets) {
		return 552, fmt.Sprintf("The message has %s, and you may send %s a day", mb(octets), mb(l.Traffic.N))
	}
	what := fmt.Sprintf("Daily limit of %s is reached", mb(l.Traffic.N))
	if l.Messages.Passed(u.Messages + 1) {
		what = fmt.Sprintf("Daily limit of %d messages is reached", l.Messages.N)
	} else if u.Octets < l.Traffic.N {
		what = fmt.Sprintf("Daily limit of %s has %s left, and the message has %s", mb(l.Traffic.N), mb(l.Traffic.N-u.Octets), mb(octets))
	}
	return 452, what + "; it starts anew at " + u.Day.End(now.Location()).Format("2006-01-02 15:04 -0700")
}

// mb writes octets for people.
func mb(n int64) string {
	if n%model.MB == 0 {
		return fmt.Sprintf("%d MB", n/model.MB)
	}
	return fmt.Sprintf("%.2f MB", float64(n)/model.MB)
}
