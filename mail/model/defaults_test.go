package model

import (
	"fmt"
	"strconv"
	"testing"
)

// TestDefaultsAndRanges: what a new system has, and which values a setting takes, as the rows say.
func TestDefaultsAndRanges(t *testing.T) {
	// covers: R6.13 R6.15 R6.17 R6.25 R6.26 R6.27 R6.28 R7.04 R7.05 R7.06 R7.27 R7.29 R7.30 R7.32
	for _, c := range []struct {
		key, def string
		low, up  int // 0, 0: no number
	}{
		{"service.smtp.port", "25", 1, 65535}, {"service.smtps.port", "465", 1, 65535}, {"service.submission.port", "587", 1, 65535},
		{"service.imap.port", "143", 1, 65535}, {"service.imap.tls-port", "993", 1, 65535}, {"service.pop3.port", "110", 1, 65535}, {"service.pop3.tls-port", "995", 1, 65535},
		{"service.imap.enable", "off", 0, 0}, {"service.imap.tls", "off", 0, 0}, {"service.pop3.enable", "off", 0, 0}, {"service.pop3.tls", "off", 0, 0},
		{"delivery.max-recipients", "1000", 1, 10000}, {"delivery.max-hops", "50", 1, 100}, {"delivery.max-size", "10", 1, 2047},
		{"delivery.banner", "$hostname ESMTP", 0, 0}, {"delivery.auth", "on", 0, 0}, {"delivery.lan-exempt", "off", 0, 0},
		{"delivery.sender-match", "off", 0, 0}, {"delivery.skip-match-trusted", "off", 0, 0},
	} {
		s := DefaultSettings()
		if got, err := s.Get(c.key); err != nil || got != c.def {
			t.Errorf("%s is %q (%v), want %q", c.key, got, err, c.def)
		}
		if c.up == 0 {
			continue
		}
		for n, good := range map[int]bool{c.low: true, c.up: true, c.low - 1: false, c.up + 1: false} {
			s := DefaultSettings()
			s.System.Domain, s.System.Hostname = "example.com", "mail.example.com"
			err := s.Set(c.key, strconv.Itoa(n))
			if err == nil {
				err = s.Validate()
			}
			if (err == nil) != good {
				t.Errorf("%s=%s: %v", c.key, fmt.Sprint(n), err)
			}
		}
	}
}
