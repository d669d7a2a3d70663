package model

// DomainLimits are what users of a domain may send, as far as their policies leave it to the domain
// (R8.80–R8.87).
type DomainLimits struct {
	MessageMB          int   `cbor:"msg,omitempty" json:"message_mb"`             // size of a message; 0: as the system says
	AttachmentMB       Limit `cbor:"att,omitempty" json:"attachment_mb"`          // size of one attachment
	DisableAutoForward bool  `cbor:"nofwd,omitempty" json:"disable_auto_forward"` // nobody may have his mail forwarded
	DailyCount         Limit `cbor:"count,omitempty" json:"daily_count"`          // messages of each user a day
	DailyMB            Limit `cbor:"mb,omitempty" json:"daily_mb"`                // their size together
}

// ParseMessageMB reads the size of a message in MB; off, like 0, leaves it to the system.
func ParseMessageMB(text string) (int, error) {
	l := Limit(text)
	if text == "" {
		return 0, Invalid("message-mb", "say a number up to %d, or off", MaxMessageMB)
	}
	if err := l.validate("message-mb", MaxMessageMB, false); err != nil {
		return 0, err
	}
	n, _ := l.Value()
	return int(n), nil
}

// Validate checks the limits.
func (l *DomainLimits) Validate() error {
	if l.MessageMB < 0 || l.MessageMB > MaxMessageMB {
		return Invalid("message-mb", "%d is outside 0 to %d", l.MessageMB, MaxMessageMB)
	}
	if err := l.AttachmentMB.validate("attachment-mb", MaxMessageMB, false); err != nil {
		return err
	}
	if err := l.DailyCount.validate("daily-count", MaxDailyCount, false); err != nil {
		return err
	}
	return l.DailyMB.validate("daily-mb", MaxDailyMB, false)
}
