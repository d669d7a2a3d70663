package server

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"mailplusd/mail/model"
	"mailplusd/mail/sender"

	"github.com/miekg/dns"
)

// texts gives the TXT records of a name, each put together from its strings.
func (r resolver) texts(ctx context.Context, name string) (out []string, err error) {
	rrs, err := r.ask(ctx, name, dns.TypeTXT)
	for _, rr := range rrs {
		if t, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(t.Txt, ""))
		}
	}
	if errors.Is(err, errNXDomain) {
		err = nil
	}
	return out, err
}

// dkimRecords compares the published keys of a domain, or of an additional name, with those that sign (R8.32, R8.33).
func (s *Server) dkimRecords(ctx context.Context, f *findings, domain string) {
	d, err := getDomain(s.mail.State, domain)
	if err != nil { // not hosted here
		return
	}
	row, err := getDKIM(s.mail.State, d.Name)
	if err != nil {
		f.add("error", "dkim", domain, "", "%v", err)
		return
	}
	if len(row.Signing()) == 0 {
		f.add("info", "dkim", domain, "mpctl domain dkim enable "+d.Name, "outgoing mail is not signed (DKIM); large providers expect it")
	}
	for i := range row.Keys {
		k := &row.Keys[i]
		is, until := s.dkimState(row, k)
		if is == "done" {
			continue
		}
		name := model.DKIMRecordName(k.Selector, domain)
		if err := s.mail.Signer.Ready(k.Public, k.Private); err != nil && is == "signs" {
			f.add("error", "dkim", name, "mpctl domain dkim generate "+d.Name+" --selector "+k.Selector, "this node can't sign with the key: %v", err)
		}
		why, level := s.published(ctx, name, k)
		remedy := "publish TXT " + name + " with " + k.Record()
		switch {
		case level == "":
			f.add("ok", "dkim", name, "", "publishes the key that %s", map[string]string{"signs": "signs", "waits": "waits to sign", "old": "has signed, until " + until}[is])
		case level == "unknown":
			f.add("warning", "dkim", name, "mpctl config set network.resolvers=ADDRESS", "can't be looked up: %s", why)
		case is == "signs":
			f.add(level, "dkim", name, remedy, "mail is signed with %s, but %s", k.Selector, why)
		case is == "old":
			f.add("warning", "dkim", name, remedy, "mail that is still on its way was signed with %s, but %s; leave it in DNS until %s", k.Selector, why, until)
		default:
			f.add("info", "dkim", name, remedy, "%s; publish it before mpctl domain dkim set %s --selector %s", why, d.Name, k.Selector)
		}
	}
}

// published says what is wrong with the record of a key, and how bad it is; empty: nothing.
func (s *Server) published(ctx context.Context, name string, k *model.DKIMKey) (why, level string) {
	texts, err := s.resolver().texts(ctx, name)
	if err != nil {
		return err.Error(), "unknown"
	}
	var found []*sender.Record
	for _, t := range texts {
		rec, err := sender.ParseRecord(t)
		if errors.Is(err, sender.ErrOtherRecord) {
			continue
		}
		if err != nil {
			return "the TXT record is malformed: " + err.Error(), "error"
		}
		found = append(found, rec)
	}
	switch {
	case len(texts) == 0:
		return "there is no TXT record", "error"
	case len(found) == 0:
		return "the TXT record is no DKIM key", "error"
	case len(found) > 1:
		return "there is more than one key record, and receivers may take either", "error"
	case len(found[0].Public) == 0:
		return "the published key is revoked (empty p=)", "error"
	case found[0].Algorithm != k.Algorithm || !bytes.Equal(found[0].Public, k.Public):
		return "another key is published", "error"
	case found[0].Testing:
		return "the record says t=y, so receivers treat the mail as if it were not signed", "warning"
	}
	return "", ""
}
