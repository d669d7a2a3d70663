package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/smtpd"
)

func (s *Server) mailSend(ctx context.Context, c *Call, in *api.MailSendIn) (op.None, error) {
	for _, v := range []string{in.To, in.From, in.Subject} {
		if strings.ContainsAny(v, "\r\n") {
			return op.None{}, op.Errorf(op.Usage, "a line break in an address or subject")
		}
	}
	host := s.mail.State.Current().System.Hostname
	raw := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n",
		in.From, in.To, in.Subject, time.Now().Format(time.RFC1123Z), smtpd.NewID(), host, strings.ReplaceAll(strings.ReplaceAll(in.Text, "\r\n", "\n"), "\n", "\r\n"))
	if c.DryRun {
		return op.None{}, nil
	}
	return op.None{}, s.mail.Inject(ctx, in.From, in.To, []byte(raw))
}
