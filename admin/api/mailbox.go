package api

import "mailplusd/admin/op"

// MailboxRow is a mailbox of a user, or one that was deleted and can be given back.
type MailboxRow struct {
	Name        string `json:"name" col:"MAILBOX"`
	Use         string `json:"use" col:"USE"` // Inbox, Sent, Drafts, Trash, Junk, Archive or empty
	Messages    int    `json:"messages" col:"MESSAGES"`
	Unseen      int    `json:"unseen" col:"UNSEEN"`
	Size        int64  `json:"size" col:"SIZE"` // octets; expunged mail is not in it
	Expunged    int    `json:"expunged" col:"EXPUNGED"`
	Deleted     string `json:"deleted" col:"DELETED"` // when; empty: it is there
	Kept        int64  `json:"expunged_size" col:"EXPUNGED SIZE,wide"`
	Subscribed  bool   `json:"subscribed" col:"SUBSCRIBED,wide"`
	UIDValidity uint32 `json:"uidvalidity" col:"UIDVALIDITY,wide"`
	UIDNext     uint32 `json:"uidnext" col:"UIDNEXT,wide"`
	Created     string `json:"created" col:"CREATED,wide"`
	ID          string `json:"id" col:"ID,wide"`
}

// MailboxUserIn names a user.
type MailboxUserIn struct {
	User string `json:"user" arg:"1" complete:"user" help:"name of the user, also of one that was deleted"`
}

// MailboxIn names a mailbox.
type MailboxIn struct {
	User    string `json:"user" arg:"1" complete:"user" help:"name of the user, also of one that was deleted"`
	Mailbox string `json:"mailbox" arg:"2" complete:"mailbox" help:"name of the mailbox; levels are separated by /"`
}

// ExpungedFilter chooses expunged messages; the same filters look and act.
type ExpungedFilter struct {
	ID             []string `json:"id" flag:"id" help:"only these, as mailbox expunged names them"`
	ExpungedAfter  string   `json:"expunged_after" flag:"expunged-after" help:"expunged later than this: date, time, or how long ago (2026-01-31, 2h, 3d)"`
	ExpungedBefore string   `json:"expunged_before" flag:"expunged-before" help:"expunged earlier than this"`
	ReceivedAfter  string   `json:"received_after" flag:"received-after" help:"arrived later than this"`
	ReceivedBefore string   `json:"received_before" flag:"received-before" help:"arrived earlier than this"`
	From           string   `json:"from" flag:"from" help:"text in the sender's name or address"`
	Subject        string   `json:"subject" flag:"subject" help:"text in the subject"`
}

// Empty tells whether the filter lets everything through.
func (f *ExpungedFilter) Empty() bool {
	return len(f.ID) == 0 && f.ExpungedAfter+f.ExpungedBefore+f.ReceivedAfter+f.ReceivedBefore+f.From+f.Subject == ""
}

// MailboxExpungedIn says which expunged messages.
type MailboxExpungedIn struct {
	User    string `json:"user" arg:"1" complete:"user" help:"name of the user, also of one that was deleted"`
	Mailbox string `json:"mailbox" arg:"2" optional:"true" complete:"mailbox" help:"only of this mailbox, which may be deleted"`
	ExpungedFilter
	Limit int `json:"limit" flag:"limit" default:"1000" min:"1" max:"100000" help:"messages to list at most"`
}

// ExpungedRow is an expunged message.
type ExpungedRow struct {
	ID       string   `json:"id" col:"ID"`
	Mailbox  string   `json:"mailbox" col:"MAILBOX"`
	Expunged string   `json:"expunged" col:"EXPUNGED"`
	Received string   `json:"received" col:"RECEIVED"`
	From     string   `json:"from" col:"FROM"`
	Subject  string   `json:"subject" col:"SUBJECT"`
	Size     int64    `json:"size" col:"SIZE"`
	Flags    []string `json:"flags" col:"FLAGS,wide"`
	Until    string   `json:"until" col:"KEPT UNTIL,wide"`
}

// MailboxRestoreIn says what to give back, and where to.
type MailboxRestoreIn struct {
	User    string `json:"user" arg:"1" complete:"user" help:"whose mail it was; also a user that was deleted"`
	Mailbox string `json:"mailbox" arg:"2" optional:"true" complete:"mailbox" help:"only of this mailbox, which may be deleted"`
	ExpungedFilter
	All      bool   `json:"all" flag:"all" help:"everything of the user that can be given back"`
	Into     string `json:"into" flag:"into" help:"into this mailbox, which is made if need be; else where each message was"`
	IntoUser string `json:"into_user" flag:"into-user" complete:"user" help:"into the mailboxes of this user"`
}

// Validate implements op.Validator.
func (in *MailboxRestoreIn) Validate() error {
	if !in.All && in.Mailbox == "" && in.Empty() {
		return op.Errorf(op.Usage, "say what to give back: a mailbox, a filter, or --all")
	}
	return nil
}

// MailboxRestored is what came back from one mailbox.
type MailboxRestored struct {
	Mailbox  string `json:"mailbox" col:"FROM"`
	Into     string `json:"into" col:"INTO"`
	Messages int    `json:"messages" col:"MESSAGES"`
	Size     int64  `json:"size" col:"SIZE"`
}

// MailboxExportIn says what to write into files of the machine on which mpctl runs.
type MailboxExportIn struct {
	User    string `json:"user" arg:"1" complete:"user" help:"name of the user"`
	Mailbox string `json:"mailbox" arg:"2" optional:"true" complete:"mailbox" help:"only this mailbox; else all of them"`
	To      string `json:"to" flag:"to" required:"true" help:"directory on this machine, made if need be"`
	Format  string `json:"format" flag:"format" enum:"mbox,maildir,eml" default:"mbox" help:"how files are written"`
}

// Validate implements op.Validator.
func (in *MailboxExportIn) Validate() error {
	if in.To == "" {
		return op.Errorf(op.Usage, "--to is missing: where to write")
	}
	return nil
}

// ExportPiece is a message on its way into a file, or a part of one.
type ExportPiece struct {
	Mailbox     string   `json:"mailbox" col:"MAILBOX"`
	UIDValidity uint32   `json:"uidvalidity,omitempty"`
	UID         uint32   `json:"uid,omitempty" col:"UID"`
	Flags       []string `json:"flags,omitempty" col:"FLAGS"`
	Date        int64    `json:"date,omitempty" col:"DATE"` // of arrival, Unix seconds
	Size        int64    `json:"size,omitempty" col:"SIZE"`
	Total       int      `json:"total,omitempty"` // in the first piece of all: messages to come
	Data        []byte   `json:"data,omitempty"`
	First       bool     `json:"first,omitempty"`
	Last        bool     `json:"last,omitempty"`
	Error       string   `json:"error,omitempty" col:"WHY"` // the message can't be read
}

// MailboxImportIn says what to read from files of the machine on which mpctl runs.
type MailboxImportIn struct {
	User    string `json:"user" arg:"1" complete:"user" help:"name of the user"`
	From    string `json:"from" flag:"from" required:"true" help:"file or directory on this machine: mbox, Maildir, or .eml files"`
	Format  string `json:"format" flag:"format" enum:"mbox,maildir,eml" help:"how files are read; else it is found out"`
	Mailbox string `json:"mailbox" flag:"mailbox" complete:"mailbox" help:"into this mailbox and, for mailboxes below the path, below it; else INBOX and the names that they have"`
}

// Validate implements op.Validator.
func (in *MailboxImportIn) Validate() error {
	if in.From == "" {
		return op.Errorf(op.Usage, "--from is missing: what to read")
	}
	return nil
}

// ImportRow is what became of a mailbox, or of a message that could not be imported.
type ImportRow struct {
	Mailbox    string `json:"mailbox" col:"MAILBOX"`
	Result     string `json:"result" col:"RESULT"` // imported, failed; or progress
	Imported   int    `json:"imported" col:"IMPORTED"`
	Duplicates int    `json:"duplicates" col:"THERE ALREADY"`
	Failed     int    `json:"failed" col:"FAILED"`
	Size       int64  `json:"size" col:"SIZE"`
	Message    string `json:"message,omitempty" col:"MESSAGE"`
	Error      string `json:"error,omitempty" col:"WHY"`
}

// Mailboxes and their mail.
var (
	MailboxList     = op.New[MailboxUserIn, []MailboxRow]("mailbox list", op.Spec{Summary: "list a user's mailboxes, and deleted ones that can be given back", Effect: op.Read})
	MailboxShow     = op.New[MailboxIn, []MailboxRow]("mailbox show", op.Spec{Summary: "show one mailbox", Effect: op.Read})
	MailboxExpunged = op.New[MailboxExpungedIn, []ExpungedRow]("mailbox expunged", op.Spec{
		Summary: "list expunged mail that can be given back", Effect: op.Read,
		Help:     "Mail that a user has expunged is kept for storage.keep-expunged days, and so is the mail of deleted mailboxes and users. It counts in no size. mpctl mailbox restore takes the same filters.",
		Examples: []string{"mpctl mailbox expunged carol --expunged-after 2d --subject invoice"},
	})
	MailboxRestore = op.New[MailboxRestoreIn, []MailboxRestored]("mailbox restore", op.Spec{
		Summary: "give expunged mail back", Effect: op.Update, Alone: true,
		Help:     "Messages come back with their flags and dates, as new messages to every client. A mailbox that was deleted is made again. --dry-run counts. Repeated, it finds nothing more to do.",
		Examples: []string{"mpctl mailbox restore carol Work --dry-run", "mpctl mailbox restore carol --expunged-after 2h --into Recovered", "mpctl mailbox restore carol --all --into-user dave --into 'Mail of Carol'"},
	})
	MailboxExport = op.New[MailboxExportIn, ExportPiece]("mailbox export", op.Spec{
		Summary: "write a user's mail into files", Effect: op.Run, Alone: true, Stream: true,
		Help:     "mbox: one file a mailbox (mboxrd, flags in Status, X-Status and X-Keywords). maildir: one Maildir a mailbox, flags and keywords in its names. eml: one file a message, without flags. Files get mode 0600 and names that follow from the message; nothing is written over, so that an export that was interrupted is begun again with the same command and goes on.",
		Examples: []string{"mpctl mailbox export carol --to /backup/carol --format maildir"},
	})
	MailboxImport = op.New[MailboxImportIn, ImportRow]("mailbox import", op.Spec{
		Summary: "read mail from files into a user's mailboxes", Effect: op.Update, Alone: true, Stream: true, Upload: true,
		Help:     "Flags come from what the format has for them, the time of arrival from the From line or the file's time. A message that the mailbox has already, octet for octet, is passed over, so that the same command can be repeated. Messages are stored in groups; when it is interrupted, what was stored is whole, and repeating it completes it. A message that can't be read is named, and the rest goes on. Up to 1 GB a message.",
		Examples: []string{"mpctl mailbox import carol --from ~/Maildir", "mpctl mailbox import carol --from old.mbox --mailbox Archive/2019"},
	})
)
