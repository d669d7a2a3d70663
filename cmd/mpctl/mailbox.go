package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/client"
	"mailplusd/admin/feed"
	"mailplusd/admin/mailfile"
	"mailplusd/admin/op"

	"golang.org/x/term"
)

// progress shows how far an export or import is, as for a job.
func progress() (tell func(*api.JobRow), done func()) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return jobBar()
	}
	return jobLines()
}

// mailboxExport writes what the daemon sends into files.
func (g *globals) mailboxExport(ctx context.Context, c *client.Client, values map[string]any) error {
	dir, _ := values["to"].(string)
	format, _ := values["format"].(string)
	if format == "" {
		format = mailfile.Mbox
	}
	if full, err := filepath.Abs(dir); err == nil {
		values["to"] = full // as it is to be read in the admin log
	}
	e := &exporter{g: g}
	if !g.dryRun {
		t, err := mailfile.Create(dir, format)
		if err != nil {
			return fail("%v", err)
		}
		e.target = t
		defer t.Abort()
	}
	var done func()
	e.tell, done = progress()
	err := c.Stream(ctx, op.Path(api.MailboxExport), values, g.dryRun, e.piece)
	done()
	if err == nil && ctx.Err() != nil {
		err = op.Errorf(op.Failed, "interrupted; the same command goes on")
	}
	if err == nil && e.target != nil {
		err = e.target.Close()
	}
	if err != nil {
		return err
	}
	return e.report()
}

// exporter is an export that is under way.
type exporter struct {
	g       *globals
	target  *mailfile.Target
	tell    func(*api.JobRow)
	total   int
	rows    []*exportRow
	failed  int
	done    int
	open    *mailfile.Piece // the message that is being written; nil: it is passed over
	current *exportRow
}

// exportRow is what became of a mailbox.
type exportRow struct {
	Mailbox  string `json:"mailbox"`
	Messages int    `json:"messages"`
	Size     int64  `json:"size"`
	There    int    `json:"there_already"`
	Failed   int    `json:"failed"`
}

func (e *exporter) row(mailbox string) *exportRow {
	if n := len(e.rows); n > 0 && e.rows[n-1].Mailbox == mailbox {
		return e.rows[n-1]
	}
	e.rows = append(e.rows, &exportRow{Mailbox: mailbox})
	return e.rows[len(e.rows)-1]
}

// piece takes one line of the daemon.
func (e *exporter) piece(raw json.RawMessage) error {
	var p api.ExportPiece
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	if e.target == nil || p.Mailbox == "" && p.Total > 0 {
		if p.Mailbox == "" {
			e.total = p.Total
		} else {
			r := e.row(p.Mailbox)
			r.Messages, r.Size = p.Total, p.Size
		}
		return nil
	}
	if p.First {
		e.current = e.row(p.Mailbox)
		e.done++
		e.tell(&api.JobRow{Kind: "mailbox export", State: "running", Done: int64(e.done), Total: int64(e.total), Unit: "messages", Note: p.Mailbox})
		var err error
		e.open, err = e.target.Message(mailfile.Item{
			Mailbox: p.Mailbox, Flags: p.Flags, Date: time.Unix(p.Date, 0), UIDValidity: p.UIDValidity, UID: p.UID, Size: p.Size,
		})
		if err != nil {
			return err
		}
		if e.open != nil {
			e.current.Size += p.Size
		}
	}
	return e.write(&p)
}

func (e *exporter) write(p *api.ExportPiece) error {
	if e.current == nil {
		return nil
	}
	if p.Error != "" {
		e.failed++
		e.current.Failed++
		fmt.Fprintf(os.Stderr, "%s, UID %d: %s\n", e.current.Mailbox, p.UID, p.Error)
		if e.open == nil {
			return nil
		}
		return e.open.Abort()
	}
	if e.open == nil {
		if p.Last {
			e.current.There++
		}
		return nil
	}
	if _, err := e.open.Write(p.Data); err != nil {
		return errors.Join(err, e.open.Abort())
	}
	if !p.Last {
		return nil
	}
	e.current.Messages++
	return e.open.Commit()
}

func (e *exporter) report() error {
	raw, err := json.Marshal(e.rows)
	if err != nil {
		return err
	}
	switch e.g.output {
	case "table", "wide":
		for _, r := range e.rows {
			line := fmt.Sprintf("%s: %d messages, %s", r.Mailbox, r.Messages, size(r.Size))
			if r.There > 0 {
				line += fmt.Sprintf(", %d were there already", r.There)
			}
			if r.Failed > 0 {
				line += fmt.Sprintf(", %d can't be read", r.Failed)
			}
			fmt.Println(line)
		}
	default:
		fmt.Println(string(raw))
	}
	if e.failed > 0 {
		return op.Errorf(op.Partial, "%d messages could not be written", e.failed)
	}
	return nil
}

// mailboxImport sends the messages of files to the daemon.
func (g *globals) mailboxImport(ctx context.Context, c *client.Client, values map[string]any) error {
	path, _ := values["from"].(string)
	format, _ := values["format"].(string)
	src, err := mailfile.Open(path, format)
	if err != nil {
		return fail("%v", rootCause(err))
	}
	if full, err := filepath.Abs(path); err == nil {
		values["from"] = full
	}
	src.Count()
	tell, done := progress()
	defer done()
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { pw.CloseWithError(sendAll(src, pw, values, tell)) }()
	err = c.Bulk(ctx, op.UploadPath(api.MailboxImport), pr, g.dryRun, func(raw json.RawMessage) error {
		var r api.ImportRow
		if err := json.Unmarshal(raw, &r); err != nil {
			return err
		}
		return g.importRow(&r, raw)
	})
	if err == nil && ctx.Err() != nil {
		err = op.Errorf(op.Failed, "interrupted; what was stored stays, the same command goes on")
	}
	return err
}

// sendAll writes the feed.
func sendAll(src *mailfile.Source, w io.Writer, input any, tell func(*api.JobRow)) error {
	f, err := feed.NewWriter(w, input)
	if err != nil {
		return err
	}
	var sent int64
	err = src.Read(func(it mailfile.Item, r io.Reader, err error) error {
		h := feed.Head{Mailbox: it.Mailbox, Name: it.Name, Flags: it.Flags}
		if !it.Date.IsZero() {
			h.Date = it.Date.Unix()
		}
		if err != nil {
			h.Error = rootCause(err).Error()
			return f.Message(h, nil)
		}
		return f.Message(h, countReader{r, func(n int) {
			sent += int64(n)
			tell(&api.JobRow{Kind: "mailbox import", State: "running", Done: min(sent, src.Size), Total: src.Size, Unit: "octets", Note: it.Mailbox})
		}})
	})
	if err != nil {
		return err
	}
	return f.Close()
}

type countReader struct {
	io.Reader
	tell func(int)
}

func (c countReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.tell(n)
	return n, err
}

// importRow prints what became of a message or a mailbox.
func (g *globals) importRow(r *api.ImportRow, raw json.RawMessage) error {
	if r.Result == "progress" {
		return nil
	}
	if g.output != "table" && g.output != "wide" {
		_, err := fmt.Println(string(raw))
		return err
	}
	if r.Result == "failed" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", r.Message, r.Error)
		return nil
	}
	verb := "imported"
	if g.dryRun {
		verb = "would be imported"
	}
	parts := []string{fmt.Sprintf("%s: %d %s, %s", r.Mailbox, r.Imported, verb, size(r.Size))}
	if r.Duplicates > 0 {
		parts = append(parts, fmt.Sprintf("%d were there already", r.Duplicates))
	}
	if r.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", r.Failed))
	}
	fmt.Println(strings.Join(parts, ", "))
	return nil
}
