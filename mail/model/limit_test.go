package model

import (
	"strings"
	"testing"
	"time"
)

func TestLimitValue(t *testing.T) {
	// covers: R5.66 R5.74
	for _, c := range []struct {
		l      Limit
		n      int64
		said   bool
		octets int64
	}{{"", 0, false, 0}, {"inherit", 0, false, 0}, {"off", 0, true, 0}, {"0", 0, true, 0}, {"7", 7, true, 7 << 20}, {"-7", 0, true, 0}, {"x", 0, true, 0}} {
		n, said := c.l.Value()
		octets, _ := c.l.Octets()
		if n != c.n || said != c.said || octets != c.octets {
			t.Errorf("%q: %d %v, %d octets", c.l, n, said, octets)
		}
	}
	if n, _ := Limit("9223372036854775807").Octets(); n <= 0 {
		t.Errorf("the octets of a very great limit overflow: %d", n)
	}
}

func TestLimitsValidate(t *testing.T) {
	for _, c := range []struct {
		l    DomainLimits
		want string // part of the error; empty: valid
	}{
		{DomainLimits{}, ""},
		{DomainLimits{MessageMB: 20, AttachmentMB: "10", DailyCount: "off", DailyMB: "0", DisableAutoForward: true}, ""},
		{DomainLimits{MessageMB: -1}, "message-mb"},
		{DomainLimits{MessageMB: 2048}, "2047"},
		{DomainLimits{AttachmentMB: "2048"}, "attachment-mb"},
		{DomainLimits{DailyCount: "-1"}, "daily-count"},
		{DomainLimits{DailyCount: "10000001"}, "daily-count"},
		{DomainLimits{DailyMB: "many"}, "neither off nor a number"},
		{DomainLimits{DailyMB: "inherit"}, "daily-mb"}, // nobody is behind the domain
		{DomainLimits{DailyCount: "99999999999999999999"}, "daily-count"},
	} {
		if err := c.l.Validate(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.l, err, c.want)
		}
	}
	for field, change := range map[string]func(*Policy, Limit){
		"daily-count":   func(p *Policy, l Limit) { p.DailyCount = l },
		"daily-mb":      func(p *Policy, l Limit) { p.DailyMB = l },
		"attachment-mb": func(p *Policy, l Limit) { p.AttachmentMB = l },
	} {
		for l, valid := range map[Limit]bool{"": true, "inherit": true, "off": true, "0": true, "5": true, "on": false, "-1": false, "1e3": false, " 1": false} {
			p := DefaultPolicy()
			p.Name = "p"
			change(p, l)
			if err := p.Validate(); (err == nil) != valid || err != nil && !strings.Contains(err.Error(), field) {
				t.Errorf("%s %q: %v", field, l, err)
			}
		}
	}
}

func TestDay(t *testing.T) {
	taipei, berlin := time.FixedZone("", 8*3600), berlinTime(t)
	for _, c := range []struct {
		at, day, end string
		loc          *time.Location
	}{
		{"2026-01-31T15:59:59Z", "2026-01-31", "2026-02-01T00:00:00+08:00", taipei},
		{"2026-01-31T16:00:00Z", "2026-02-01", "2026-02-02T00:00:00+08:00", taipei},
		{"2026-03-28T23:30:00Z", "2026-03-29", "2026-03-30T00:00:00+02:00", berlin}, // a day of 23 hours
		{"2026-10-25T22:59:59Z", "2026-10-25", "2026-10-26T00:00:00+01:00", berlin}, // one of 25
		{"1969-12-31T12:00:00Z", "1969-12-31", "1970-01-01T00:00:00Z", time.UTC},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		d := DayOf(at.In(c.loc))
		if got := d.End(c.loc).Format(time.RFC3339); d.String() != c.day || got != c.end {
			t.Errorf("%s: day %s until %s, want %s until %s", c.at, d, got, c.day, c.end)
		}
	}
}

func berlinTime(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	return loc
}

func TestUsageOn(t *testing.T) {
	u := Usage{Day: 100, Messages: 5, Octets: 50}
	for day, want := range map[Day]Usage{100: u, 99: u, 101: {Day: 101}, 200: {Day: 200}, 98: {Day: 98}} {
		if got := u.On(day); got != want {
			t.Errorf("day %d: %+v, want %+v", int(day), got, want)
		}
	}
}
