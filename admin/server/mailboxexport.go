package server

import (
	"context"
	"errors"
	"io"

	"mailplusd/admin/api"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// exportPiece is how many octets of a message one line of an export holds.
const exportPiece = 512 << 10

// mailboxExport sends messages in pieces, so that neither end holds a whole one.
func (s *Server) mailboxExport(ctx context.Context, c *Call, in *api.MailboxExportIn) (api.ExportPiece, error) {
	a := s.accountOf(in.User)
	if a == nil {
		return api.ExportPiece{}, notFound("user", in.User, "mpctl user list")
	}
	boxes, err := s.mail.State.Mailboxes(a.ID)
	if err != nil {
		return api.ExportPiece{}, err
	}
	if in.Mailbox != "" {
		box, err := s.mail.Store.Mailbox(a.ID, in.Mailbox)
		if err != nil {
			return api.ExportPiece{}, notFound("mailbox", in.Mailbox, "mpctl mailbox list "+in.User)
		}
		boxes = []model.Mailbox{box}
	}
	total := 0
	for _, b := range boxes {
		total += int(b.Messages)
	}
	if err := c.Emit(api.ExportPiece{Total: total}); err != nil {
		return api.ExportPiece{}, err
	}
	if c.DryRun {
		for _, b := range boxes {
			if err := c.Emit(api.ExportPiece{Mailbox: b.Name, Total: int(b.Messages), Size: b.Size}); err != nil {
				return api.ExportPiece{}, err
			}
		}
		return api.ExportPiece{}, nil
	}
	for _, b := range boxes {
		if err := s.exportMailbox(ctx, c, &b); err != nil {
			return api.ExportPiece{}, err
		}
	}
	return api.ExportPiece{}, nil
}

// exportStep is how many messages are looked up at once: the database isn't held still while
// they are sent.
const exportStep = 500

func (s *Server) exportMailbox(ctx context.Context, c *Call, b *model.Mailbox) error {
	for from := model.UID(1); ; {
		var list []model.MessageState
		box, err := s.mail.State.View(b.ID, from, 1<<32-1, func(st *model.MessageState) bool {
			cp := *st
			cp.Keywords = append([]uint16(nil), st.Keywords...)
			list = append(list, cp)
			return len(list) < exportStep
		})
		if errors.Is(err, state.ErrNotFound) { // deleted meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		for i := range list {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := s.exportMessage(c, &box, &list[i]); err != nil {
				return err
			}
		}
		if len(list) < exportStep {
			return nil
		}
		from = list[len(list)-1].UID + 1
	}
}

func (s *Server) exportMessage(c *Call, box *model.Mailbox, st *model.MessageState) error {
	var words []string
	for _, k := range st.Keywords {
		if int(k) < len(box.Keywords) {
			words = append(words, box.Keywords[k])
		}
	}
	p := api.ExportPiece{
		Mailbox: box.Name, UIDValidity: box.UIDValidity, UID: uint32(st.UID), Flags: flagNames(st.Flags, words),
		Date: st.Date, Size: st.Size, First: true,
	}
	body, err := s.mail.Store.Body(st.Body)
	if err != nil {
		p.Error, p.Last = err.Error(), true
		return c.Emit(p)
	}
	defer body.Close()
	buf := make([]byte, min(exportPiece, max(st.Size, 1)))
	for left := st.Size; ; {
		n, err := io.ReadFull(&body.SectionReader, buf)
		left -= int64(n)
		p.Data, p.Last = buf[:n], left <= 0
		if err != nil && !p.Last {
			p.Error, p.Last = err.Error(), true
		}
		if err := c.Emit(p); err != nil || p.Last {
			return err
		}
		p = api.ExportPiece{}
	}
}
