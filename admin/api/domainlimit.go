package api

import (
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

// DomainLimitRow is what the users of a domain may send, as far as their policies leave it to the domain.
type DomainLimitRow struct {
	Domain             string `json:"domain" col:"DOMAIN"`
	MessageMB          string `json:"message_mb" col:"MESSAGE MB"` // off: as the system says
	AttachmentMB       string `json:"attachment_mb" col:"ATTACHMENT MB"`
	DailyCount         string `json:"daily_count" col:"MESSAGES A DAY"`
	DailyMB            string `json:"daily_mb" col:"MB A DAY"`
	DisableAutoForward bool   `json:"disable_auto_forward" col:"NO AUTO-FORWARD"`
}

// DomainLimitSetIn changes what is given.
type DomainLimitSetIn struct {
	Name               string  `json:"name" arg:"1" complete:"domain" help:"domain name"`
	MessageMB          *string `json:"message_mb" flag:"message-mb" help:"size in MB of a message that users of the domain send, or off: as delivery.max-size says"`
	AttachmentMB       *string `json:"attachment_mb" flag:"attachment-mb" help:"size of one attachment in MB, or off; also of mail that comes from outside"`
	DailyCount         *string `json:"daily_count" flag:"daily-count" help:"messages that each user may send a day, or off; 0: no limit"`
	DailyMB            *string `json:"daily_mb" flag:"daily-mb" help:"MB that each user may send a day, or off; 0: no limit"`
	DisableAutoForward *bool   `json:"disable_auto_forward" flag:"disable-auto-forward" help:"let nobody have his mail forwarded automatically"`
}

// Validate checks what needs no state.
func (in *DomainLimitSetIn) Validate() error {
	var l model.DomainLimits
	for _, x := range []struct {
		to   *model.Limit
		text *string
	}{{&l.AttachmentMB, in.AttachmentMB}, {&l.DailyCount, in.DailyCount}, {&l.DailyMB, in.DailyMB}} {
		if x.text != nil {
			*x.to = model.Limit(*x.text)
		}
	}
	if in.MessageMB != nil {
		n, err := model.ParseMessageMB(*in.MessageMB)
		if err != nil {
			return err
		}
		l.MessageMB = n
	}
	return l.Validate()
}

// Limits of domains (R8.80–R8.87).
var (
	DomainLimitShow = op.New[DomainIn, DomainLimitRow]("domain limit show", op.Spec{Summary: "show what the users of a domain may send", Effect: op.Read})
	DomainLimitSet  = op.New[DomainLimitSetIn, DomainLimitRow]("domain limit set", op.Spec{Summary: "limit what the users of a domain may send", Effect: op.Update,
		Help:     "A limit holds for users whose policy leaves it to the domain (mpctl policy effective USER), when they send from an address of the domain. What is counted is counted for each user, in whatever domain he sends.",
		Examples: []string{"mpctl domain limit set example.com --daily-count 500 --daily-mb 1000", "mpctl domain limit set example.com --attachment-mb 10 --message-mb 20"}})
)
