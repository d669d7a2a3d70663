package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/admin/client"
	"mailplusd/admin/feed"
	"mailplusd/admin/mailfile"
	"mailplusd/admin/op"
)

// setupFromMailServer reads a previous server's data here and sends it to the daemon.
func (g *globals) setupFromMailServer(ctx context.Context, c *client.Client, values map[string]any) error {
	dir, _ := values["source"].(string)
	domain, _ := values["domain"].(string)
	src, err := mailfile.OpenPrevious(dir, domain)
	if err != nil {
		return fail("%v", err)
	}
	if full, err := filepath.Abs(dir); err == nil {
		values["source"] = full
	}
	tell, done := progress()
	defer done()
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { pw.CloseWithError(sendPrevious(src, pw, values, tell)) }()
	err = c.Bulk(ctx, op.UploadPath(api.SetupFromMailServer), pr, g.dryRun, func(raw json.RawMessage) error {
		var r api.MoveRow
		if err := json.Unmarshal(raw, &r); err != nil {
			return err
		}
		return g.moveRow(&r, raw)
	})
	if err == nil && ctx.Err() != nil {
		return op.Errorf(op.Failed, "interrupted; what was stored stays, the same command goes on")
	}
	for _, path := range src.Orphans {
		row := api.MoveRow{Kind: "orphan", Name: path, Result: "left", Note: "it belongs to nobody in the password list; mpctl mailbox import USER --from " + path}
		raw, _ := json.Marshal(row)
		g.moveRow(&row, raw)
	}
	return err
}

// sendPrevious writes the feed: the lists, then each account's mail.
func sendPrevious(src *mailfile.Previous, w io.Writer, input any, tell func(*api.JobRow)) error {
	f, err := feed.NewWriter(w, input)
	if err != nil {
		return err
	}
	for part, text := range map[string]string{"passwd": src.Passwd, "shadow": src.Shadow, "aliases": src.Aliases} {
		if text == "" {
			continue
		}
		if err := f.Message(feed.Head{Part: part, Name: part}, strings.NewReader(text)); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(src.Maildirs))
	for name := range src.Maildirs {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		path := src.Maildirs[name]
		tell(&api.JobRow{Kind: "setup from-mailserver", State: "running", Done: int64(i), Total: int64(len(names)), Unit: "accounts", Note: name})
		box, err := mailfile.Open(path, mailfile.Maildir)
		if err != nil {
			if err := f.Message(feed.Head{User: name, Name: path, Error: rootCause(err).Error()}, nil); err != nil {
				return err
			}
			continue
		}
		if err := sendMaildir(f, name, box); err != nil {
			return err
		}
	}
	return f.Close()
}

func sendMaildir(f *feed.Writer, name string, box *mailfile.Source) error {
	return box.Read(func(it mailfile.Item, r io.Reader, err error) error {
		h := feed.Head{User: name, Mailbox: it.Mailbox, Name: it.Name, Flags: it.Flags}
		if !it.Date.IsZero() {
			h.Date = it.Date.Unix()
		}
		if err != nil {
			h.Error = rootCause(err).Error()
			return f.Message(h, nil)
		}
		return f.Message(h, r)
	})
}

// moveRow prints what became of something.
func (g *globals) moveRow(r *api.MoveRow, raw json.RawMessage) error {
	if r.Result == "progress" {
		return nil
	}
	if g.output != "table" && g.output != "wide" {
		_, err := fmt.Println(string(raw))
		return err
	}
	if r.Result == "failed" || r.Kind == "orphan" {
		fmt.Fprintf(os.Stderr, "%s %s: %s: %s\n", r.Kind, r.Name, r.Result, r.Note)
		return nil
	}
	result := r.Result
	if g.dryRun && result == "moved" {
		result = "would be moved"
	}
	line := fmt.Sprintf("%s %s: %s", r.Kind, r.Name, result)
	if r.Kind == "mailbox" {
		line = fmt.Sprintf("mailbox %s: %d %s, %s", r.Name, r.Messages, result, size(r.Size))
		if r.There > 0 {
			line += fmt.Sprintf(", %d were there already", r.There)
		}
		if r.Failed > 0 {
			line += fmt.Sprintf(", %d failed", r.Failed)
		}
	}
	if r.Note != "" {
		line += " (" + r.Note + ")"
	}
	fmt.Println(line)
	return nil
}
