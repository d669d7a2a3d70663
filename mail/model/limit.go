package model

import (
	"math"
	"strconv"
)

// Limit is a limit as a policy or a domain says it: a number, "off" for none, or "inherit" to leave it to
// whoever decides next. Empty is "inherit" of a policy and "off" of a domain.
type Limit string

// LimitOff says that there is no limit.
const LimitOff Limit = "off"

// The greatest values of limits.
const (
	MaxMessageMB  = 2047              // as delivery.max-size
	MaxDailyCount = 10_000_000        // messages
	MaxDailyMB    = 100 * 1024 * 1024 // 100 TiB
)

// MB is the unit of sizes in settings, in octets.
const MB = 1 << 20

// Value gives the number; 0: there is no limit (R5.66, R5.74). said is false when it says nothing itself.
func (l Limit) Value() (n int64, said bool) {
	switch l {
	case "", PolicyInherit:
		return 0, false
	case LimitOff:
		return 0, true
	}
	n, err := strconv.ParseInt(string(l), 10, 64)
	if err != nil || n < 0 {
		return 0, true // Validate lets none in
	}
	return n, true
}

// Octets is Value of a limit in MB.
func (l Limit) Octets() (n int64, said bool) {
	n, said = l.Value()
	return min(n, math.MaxInt64/MB) * MB, said
}

// validate checks a limit; words are what may stand instead of a number.
func (l Limit) validate(field string, most int64, inherit bool) error {
	if l == "" || l == LimitOff || inherit && l == PolicyInherit {
		return nil
	}
	if n, err := strconv.ParseUint(string(l), 10, 63); err == nil && int64(n) <= most {
		return nil
	}
	if inherit {
		return Invalid(field, "%q is none of off, inherit and a number up to %d", string(l), most)
	}
	return Invalid(field, "%q is neither off nor a number up to %d", string(l), most)
}
