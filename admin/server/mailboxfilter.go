package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// expungedFilter is api.ExpungedFilter with its texts read. Times are Unix seconds, 0: no bound.
type expungedFilter struct {
	in                            *api.ExpungedFilter
	ids                           map[state.MessageRef]bool // nil: all
	expungedAfter, expungedBefore int64
	receivedAfter, receivedBefore int64
}

func newExpungedFilter(in *api.ExpungedFilter) (*expungedFilter, error) {
	f := &expungedFilter{in: in}
	now := time.Now()
	for _, t := range []struct {
		text string
		to   *int64
	}{
		{in.ExpungedAfter, &f.expungedAfter}, {in.ExpungedBefore, &f.expungedBefore},
		{in.ReceivedAfter, &f.receivedAfter}, {in.ReceivedBefore, &f.receivedBefore},
	} {
		at, err := parseTime(t.text, now)
		if err != nil {
			return nil, err
		}
		if !at.IsZero() {
			*t.to = at.Unix()
		}
	}
	for _, text := range in.ID {
		if f.ids == nil {
			f.ids = map[state.MessageRef]bool{}
		}
		for one := range strings.SplitSeq(text, ",") {
			ref, err := parseID(one)
			if err != nil {
				return nil, err
			}
			f.ids[ref] = true
		}
	}
	return f, nil
}

// idOf names an expunged message for a person: mailbox and UID.
func idOf(ref state.MessageRef) string { return fmt.Sprintf("%d-%d", ref.Mailbox, ref.UID) }

func parseID(text string) (ref state.MessageRef, err error) {
	box, uid, ok := strings.Cut(strings.TrimSpace(text), "-")
	b, berr := strconv.ParseUint(box, 10, 64)
	u, uerr := strconv.ParseUint(uid, 10, 32)
	if !ok || berr != nil || uerr != nil {
		return ref, op.Errorf(op.Usage, "%q names no expunged message; they are like 12-345", text).With("mpctl mailbox expunged USER")
	}
	return state.MessageRef{Mailbox: model.MailboxID(b), UID: model.UID(u)}, nil
}

// textOf is what a person sees of a message.
func textOf(k *state.KeptMessage) message.EnvelopeText {
	meta, err := message.DecodeMeta(k.Meta)
	if err != nil {
		return message.EnvelopeText{}
	}
	return message.ReadEnvelope(meta.Envelope)
}

func (f *expungedFilter) match(k *state.KeptMessage) bool {
	switch {
	case f.ids != nil && !f.ids[k.Ref()]:
		return false
	case f.expungedAfter != 0 && k.At <= f.expungedAfter, f.expungedBefore != 0 && k.At >= f.expungedBefore:
		return false
	case f.receivedAfter != 0 && k.State.Date <= f.receivedAfter, f.receivedBefore != 0 && k.State.Date >= f.receivedBefore:
		return false
	case f.in.From+f.in.Subject == "":
		return true
	}
	t := textOf(k)
	return matches(f.in.From, t.From) && matches(f.in.Subject, t.Subject)
}

// each calls fn for what matches in a mailbox. Mail that is too old and not purged yet is gone already.
func (f *expungedFilter) each(st *state.State, b *keptBox, fn func(*state.KeptMessage) bool) error {
	if n, _ := b.count(); n == 0 {
		return nil
	}
	oldest := time.Now().AddDate(0, 0, -st.Current().Storage.ExpungedDays).Unix()
	return st.Kept(b.ID, func(k *state.KeptMessage) bool {
		if k.At < oldest || !f.match(k) {
			return true
		}
		return fn(k)
	})
}
