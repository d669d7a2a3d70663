package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/feed"
	"mailplusd/admin/job"
	"mailplusd/admin/op"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// Limits of an import.
const (
	maxImportMessage = 1 << 30
	importMessages   = 200     // of one entry
	importOctets     = 8 << 20 // of one entry: small ones are held in memory until it is stored
)

// importer brings messages into one user's mailboxes, a group of them an entry.
type importer struct {
	s       *Server
	c       *Call
	p       *job.Progress
	account model.AccountID
	into    string // mailbox of the call; empty: INBOX, and names as they come
	rows    map[string]*api.ImportRow
	order   []string
	tell    func(api.ImportRow) error // instead of the call; nil: the call

	box   *importBox
	boxes map[string]*importBox
	batch []store.NewMessage
	size  int64
}

// importBox is a mailbox that is imported into.
type importBox struct {
	name string
	id   model.MailboxID // 0: not made yet
	seen map[model.BodyID]bool
}

func (s *Server) mailboxImport(ctx context.Context, c *Call, in *api.MailboxImportIn, r *feed.Reader, p *job.Progress) (map[string]int, error) {
	a := s.accountOf(in.User)
	if a == nil {
		return nil, notFound("user", in.User, "mpctl user list")
	}
	if in.Mailbox != "" {
		if err := model.ValidateMailboxName(in.Mailbox); err != nil {
			return nil, err
		}
	}
	im := &importer{s: s, c: c, p: p, account: a.ID, into: in.Mailbox, rows: map[string]*api.ImportRow{}, boxes: map[string]*importBox{}}
	defer im.drop()
	if err := takeFeed(ctx, r, im.take); err != nil {
		return nil, err
	}
	if err := im.flush(ctx); err != nil {
		return nil, err
	}
	return im.finish()
}

// takeFeed hands each part of an upload to take, until its end.
func takeFeed(ctx context.Context, r *feed.Reader, take func(context.Context, *feed.Head, io.Reader) error) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(ctx, &h, r)
		}
		if err != nil {
			return feedError(err)
		}
	}
}

// feedError says what an end in the middle means.
func feedError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return op.Errorf(op.Failed, "the messages were cut off; what was stored stays, repeat the command for the rest")
	}
	return err
}

// finish tells what became of each mailbox.
func (im *importer) finish() (map[string]int, error) {
	sum := map[string]int{}
	for _, name := range im.order {
		row := im.rows[name]
		row.Result = "imported"
		sum["imported"] += row.Imported
		sum["duplicates"] += row.Duplicates
		sum["failed"] += row.Failed
		if err := im.emit(*row); err != nil {
			return sum, err
		}
	}
	if n := sum["failed"]; n > 0 {
		return sum, op.Errorf(op.Partial, "%d of %d messages could not be imported", n, n+sum["imported"]+sum["duplicates"])
	}
	return sum, nil
}

func (im *importer) emit(row api.ImportRow) error {
	if im.tell != nil {
		return im.tell(row)
	}
	return im.c.Emit(row)
}

// nameOf is the mailbox that a message goes to.
func (im *importer) nameOf(mailbox string) string {
	name := im.into
	switch {
	case mailbox == "" && name == "":
		name = "INBOX"
	case name == "":
		name = mailbox
	case mailbox != "":
		name += model.Delimiter + mailbox
	}
	return model.CanonicalMailboxName(name)
}

func (im *importer) row(name string) *api.ImportRow {
	if im.rows[name] == nil {
		im.rows[name] = &api.ImportRow{Mailbox: name}
		im.order = append(im.order, name)
	}
	return im.rows[name]
}

// fail names a message that is not imported.
func (im *importer) fail(name, from, why string) error {
	im.row(name).Failed++
	return im.emit(api.ImportRow{Mailbox: name, Result: "failed", Message: from, Error: why})
}

// take reads one message. What is wrong with it concerns it alone.
func (im *importer) take(ctx context.Context, h *feed.Head, r io.Reader) error {
	name := im.nameOf(h.Mailbox)
	if h.Error != "" {
		return im.fail(name, h.Name, h.Error)
	}
	if err := model.ValidateMailboxName(name); err != nil {
		return im.fail(name, h.Name, err.Error())
	}
	if err := im.open(ctx, name); err != nil {
		return err
	}
	sp := im.s.mail.Store.NewSpool(maxImportMessage)
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(sp, sum), r)
	var broken *feed.MessageError
	switch {
	case errors.As(err, &broken):
		sp.Abort()
		return im.fail(name, h.Name, broken.Text)
	case errors.Is(err, segment.ErrTooLarge):
		sp.Abort()
		return im.fail(name, h.Name, fmt.Sprintf("is larger than %d MB", maxImportMessage>>20))
	case err != nil:
		sp.Abort()
		return err
	}
	if why := unfit(sp); why != "" {
		sp.Abort()
		return im.fail(name, h.Name, why)
	}
	id := model.BodyID(sum.Sum(nil))
	if im.box.seen[id] {
		sp.Abort()
		im.row(name).Duplicates++
		return nil
	}
	im.box.seen[id] = true
	flags, keywords := flagBits(h.Flags)
	msg := store.NewMessage{Spool: sp, Flags: flags, Keywords: keywords}
	if h.Date > 0 {
		msg.Date = time.Unix(h.Date, 0)
	}
	im.batch, im.size = append(im.batch, msg), im.size+size
	if len(im.batch) >= importMessages || im.size >= importOctets {
		return im.flush(ctx)
	}
	return nil
}

// unfit says why octets are no message; empty: they are one.
func unfit(sp *segment.Spool) string {
	raw, release, err := sp.Bytes()
	if err != nil {
		return err.Error()
	}
	defer release()
	if len(raw) == 0 {
		return "is empty"
	}
	if h := message.ParseHeader(raw[:min(len(raw), 64<<10)]); len(h.Fields) == 0 {
		return "is no message: it has no header"
	}
	return ""
}

// open goes over to a mailbox: what is gathered for the one before is stored.
func (im *importer) open(ctx context.Context, name string) error {
	if im.box != nil && im.box.name == name {
		return nil
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.row(name)
	if im.box = im.boxes[name]; im.box != nil {
		return nil
	}
	im.box = &importBox{name: name, seen: map[model.BodyID]bool{}}
	im.boxes[name] = im.box
	box, err := im.s.mail.Store.Mailbox(im.account, name)
	if errors.Is(err, store.ErrNotFound) && !im.c.DryRun {
		box, err = im.s.ensureMailbox(ctx, im.account, name)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	im.box.id = box.ID
	return im.s.mail.Store.Messages(box.ID, 1, 1<<32-1, func(st *model.MessageState) bool {
		im.box.seen[st.Body] = true
		return true
	})
}

// flush stores what is gathered, all of it in one entry.
func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	row := im.row(im.box.name)
	if im.c.DryRun {
		row.Imported, row.Size = row.Imported+len(im.batch), row.Size+im.size
		im.drop()
		return nil
	}
	batch := im.batch
	im.batch = nil // Append uses the spools up
	if _, err := im.s.mail.Store.Append(ctx, im.box.id, batch); err != nil {
		return err
	}
	row.Imported, row.Size = row.Imported+len(batch), row.Size+im.size
	done := 0
	for _, r := range im.rows {
		done += r.Imported
	}
	im.p.Set(int64(done), 0, "messages", im.box.name)
	im.size = 0
	return im.emit(api.ImportRow{Mailbox: im.box.name, Result: "progress", Imported: done})
}

// drop forgets what is gathered.
func (im *importer) drop() {
	for _, m := range im.batch {
		m.Spool.Abort()
	}
	im.batch, im.size = nil, 0
}
