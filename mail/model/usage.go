package model

import "time"

// Day is a calendar day, in days since 1970-01-01. Which day it is depends on the place: see DayOf.
type Day int32

// DayOf gives the day that a clock on the wall shows at a time, in the time's location.
func DayOf(t time.Time) Day {
	y, m, d := t.Date()
	return Day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// End gives the moment at which the day ends in a place: its next midnight.
func (d Day) End(loc *time.Location) time.Time {
	y, m, day := time.Unix(int64(d)*86400, 0).UTC().Date()
	return time.Date(y, m, day+1, 0, 0, 0, 0, loc)
}

// String writes it as 2026-01-31.
func (d Day) String() string { return time.Unix(int64(d)*86400, 0).UTC().Format(time.DateOnly) }

// Usage is what an account has sent on a day: in whatever domain, and what was forwarded for it (I.35).
type Usage struct {
	Day      Day   `json:"day"`
	Messages int64 `json:"messages"`
	Octets   int64 `json:"octets"` // of the messages as they came, each once however many got it
}

// On gives the usage as it stands on a day: on a later day it starts anew. When the usage is of the
// day after, it still counts: around midnight the clocks of two nodes may differ, and neither may give
// back what was used. A usage further ahead comes of a clock that was wrong.
func (u Usage) On(d Day) Usage {
	if u.Day == d || u.Day == d+1 {
		return u
	}
	return Usage{Day: d}
}
