package order

import (
	"strconv"
	"strings"
	"time"
)

var months = map[string]time.Month{
	"jan": time.January, "feb": time.February, "mar": time.March, "apr": time.April, "may": time.May, "jun": time.June,
	"jul": time.July, "aug": time.August, "sep": time.September, "oct": time.October, "nov": time.November, "dec": time.December,
}

var zones = map[string]int{"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}

// SentDate reads a Date field (RFC 5322 §3.3) as leniently as mail is written; false when it
// can't. Without a time it is midnight, with an unknown zone UTC (RFC 5256 §2.2).
func SentDate(s string) (time.Time, bool) {
	if i := strings.IndexByte(s, '('); i >= 0 {
		s = s[:i]
	}
	if i := strings.IndexByte(s, ','); i >= 0 {
		s = s[i+1:]
	}
	f := strings.Fields(s)
	if len(f) > 0 && !isDigit(f[0][0]) { // a day of the week without its comma
		f = f[1:]
	}
	if len(f) > 0 && strings.Count(f[0], "-") == 2 {
		f = append(strings.Split(f[0], "-"), f[1:]...)
	}
	if len(f) < 3 || len(f[1]) < 3 {
		return time.Time{}, false
	}
	day, err := strconv.Atoi(f[0])
	month := months[strings.ToLower(f[1][:3])]
	year, yerr := strconv.Atoi(f[2])
	if err != nil || yerr != nil || month == 0 || day < 1 || day > 31 || year < 0 || year > 9999 {
		return time.Time{}, false
	}
	switch { // RFC 5322 §4.3
	case len(f[2]) == 2 && year < 50:
		year += 2000
	case len(f[2]) < 4:
		year += 1900
	}
	var clock [3]int
	if len(f) > 3 {
		for i, part := range strings.SplitN(f[3], ":", 3) {
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n > 60 {
				clock = [3]int{}
				break
			}
			clock[i] = n
		}
	}
	offset := 0
	if len(f) > 4 {
		offset = zoneOffset(f[4])
	}
	return time.Date(year, month, day, clock[0], clock[1], clock[2], 0, time.FixedZone("", offset)), true
}

// SentUnix is SentDate in Unix seconds. Nearly all mail is dated the way that plainDate knows, which
// takes a tenth of the time: an order of a mailbox reads as many dates as it has messages.
func SentUnix(s string) (int64, bool) {
	if sec, ok := plainDate(s); ok {
		return sec, true
	}
	at, ok := SentDate(s)
	return at.Unix(), ok
}

// plainDate reads `Mon, 2 Jan 2006 15:04:05 -0700`, with or without the day of the week and a comment
// behind it, and nothing else.
func plainDate(s string) (int64, bool) {
	if len(s) > 5 && isLetter(s[0]) && isLetter(s[1]) && isLetter(s[2]) && s[3:5] == ", " {
		s = s[5:]
	}
	if len(s) > 1 && s[1] == ' ' {
		s = "0" + s // no memory is taken: it doesn't leave this function
	}
	const form = "02 Jan 2006 15:04:05 -0700"
	if len(s) < len(form) || len(s) > len(form) && (len(s) < len(form)+2 || s[len(form):len(form)+2] != " (") {
		return 0, false
	}
	if s[2] != ' ' || s[6] != ' ' || s[11] != ' ' || s[14] != ':' || s[17] != ':' || s[20] != ' ' || s[21] != '+' && s[21] != '-' {
		return 0, false
	}
	good := true
	num := func(from, to int) (n int) {
		for _, c := range []byte(s[from:to]) {
			good = good && isDigit(c)
			n = 10*n + int(c-'0')
		}
		return n
	}
	day, year, hour, minute, second, zone := num(0, 2), num(7, 11), num(12, 14), num(15, 17), num(18, 20), num(22, 26)
	month := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", s[3:6])
	if !good || month < 0 || month%3 != 0 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 || zone > 2400 {
		return 0, false
	}
	offset := int64(zone/100*60+zone%100) * 60
	if s[21] == '-' {
		offset = -offset
	}
	return time.Date(year, time.Month(month/3+1), day, hour, minute, second, 0, time.UTC).Unix() - offset, true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// zoneOffset gives a zone's seconds east of UTC.
func zoneOffset(z string) int {
	if len(z) == 5 && (z[0] == '+' || z[0] == '-') {
		n, err := strconv.Atoi(z[1:])
		if err != nil || n < 0 || n > 2400 {
			return 0
		}
		s := (n/100*60 + n%100) * 60
		if z[0] == '-' {
			s = -s
		}
		return s
	}
	return zones[strings.ToUpper(z)] * 3600
}
