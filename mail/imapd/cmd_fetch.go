package imapd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

// fetchChunk is how many messages' parsed headers are read at a time.
const fetchChunk = 500

// fetch is one FETCH under way.
type fetch struct {
	ss    *session
	items []imapparse.Item
	meta  bool // needs parsed headers
	body  bool // needs the message itself
	state bool // needs what the view doesn't keep of a message
	seen  bool // sets \Seen

	decoded    bool // needs parts without their transfer encoding
	unknownCTE bool // which a message had that isn't known

	metas map[model.UID][]byte
	arena []byte // what metas point into, and where, reused by the next chunk
	spans []span

	states []model.MessageState // of the chunk, by ascending UID, and how many of them are answered
	passed int

	hand message.Meta // parsed headers of the message being answered
}

// span is where a message's parsed headers lie in the arena.
type span struct {
	uid      model.UID
	from, to int
}

func (ss *session) doFetch(p *imapparse.Parser, uid bool) error {
	set, err := p.Set()
	if err == nil {
		err = p.Space()
	}
	if err != nil {
		return usual(err)
	}
	f := fetch{ss: ss}
	var mod imapparse.FetchModifiers
	if f.items, err = p.Fetch(); err == nil {
		mod, err = p.FetchModifiers()
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return usual(err)
	}
	if mod.Vanished && (!uid || !ss.has(featQresync)) {
		return bad{"VANISHED is for UID FETCH after ENABLE QRESYNC"}
	}
	list, err := ss.messages(set, uid)
	if err != nil {
		return err
	}
	f.prepare(uid, mod)
	if mod.ChangedSince {
		list = slices.DeleteFunc(list, func(i int) bool { return ss.view.Messages[i].ModSeq <= mod.Since })
	}
	if mod.Vanished {
		if err := ss.vanishedEarlier(mod.Since, ss.rangesOf(set, ss.view.Mailbox.UIDNext-1), 0); err != nil {
			return err
		}
	}
	missing := 0
	for len(list) > 0 {
		done, miss, err := f.chunk(list[:min(len(list), fetchChunk)])
		if err != nil {
			return err
		}
		missing += miss
		list = list[done:]
	}
	if err := ss.announce(uid); err != nil {
		return err
	}
	if f.unknownCTE {
		return no{"UNKNOWN-CTE", "a part has a transfer encoding that is not known here"}
	}
	if missing > 0 {
		return no{"EXPUNGEISSUED", fmt.Sprintf("%d of the messages are gone or can't be read", missing)}
	}
	return nil
}

// prepare sees what the items need.
func (f *fetch) prepare(uid bool, mod imapparse.FetchModifiers) {
	hasUID, hasModSeq := false, false
	for i := range f.items {
		it := &f.items[i]
		switch it.Name {
		case "UID":
			hasUID = true
		case "MODSEQ":
			hasModSeq = true
		case "ENVELOPE", "BODYSTRUCTURE", "BODY":
			f.meta = true
		case "BODY[", "BINARY[", "BINARY.SIZE[", "PREVIEW":
			f.body = true
			f.decoded = f.decoded || it.Name == "BINARY[" || it.Name == "BINARY.SIZE["
			f.seen = f.seen || !it.Peek && it.Name != "PREVIEW" && !f.ss.readOnly
		case "EMAILID":
			f.state = true
		}
	}
	if uid && !hasUID {
		f.items = append([]imapparse.Item{{Name: "UID", Label: "UID"}}, f.items...)
	}
	if mod.ChangedSince && !hasModSeq { // RFC 7162 §3.1.4.1
		f.items = append(f.items, imapparse.Item{Name: "MODSEQ", Label: "MODSEQ"})
	}
	if mod.ChangedSince || hasModSeq {
		f.ss.useCondstore()
	}
}

// chunk answers for the first of some messages: done of them; missing counts those that are gone.
func (f *fetch) chunk(list []int) (done, missing int, err error) {
	ss := f.ss
	if f.meta {
		if done, err = f.loadMetas(list); err != nil {
			return 0, 0, err
		}
		list = list[:done]
	}
	if f.seen {
		if err := f.markSeen(list); err != nil {
			return 0, 0, err
		}
	}
	if f.body || f.state {
		if err := f.loadStates(list); err != nil {
			return 0, 0, err
		}
	}
	for _, i := range list {
		mark := len(ss.buf)
		var err error
		if f.body {
			err = guard(func() error { return f.one(i) })
		} else {
			err = f.one(i)
		}
		var ce *segment.CorruptError
		switch {
		case errors.Is(err, errUnknownCTE):
			f.unknownCTE = true
			continue
		case errors.Is(err, store.ErrNotFound), errors.As(err, &ce), errors.Is(err, segment.ErrNotFound):
			ss.buf = ss.buf[:min(mark, len(ss.buf))]
			missing++
			if ce != nil {
				ss.log.Error("damaged message not served", "uid", ss.view.Messages[i].UID, "err", err)
			}
			continue
		case err != nil:
			return len(list), missing, err
		}
		if len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return len(list), missing, &connError{err}
			}
		}
	}
	return len(list), missing, nil
}

// maxMetas is when no more parsed headers are read into memory at a time, in octets. A message's own
// may have some millions of them.
const maxMetas = 4 << 20

// loadMetas reads the parsed headers of the first of some messages and tells how many messages these are:
// one at least. Those of them without any are gone.
func (f *fetch) loadMetas(list []int) (n int, err error) {
	msgs := f.ss.view.Messages
	if f.metas == nil {
		f.metas = make(map[model.UID][]byte, len(list))
	}
	clear(f.metas)
	f.arena, f.spans = f.arena[:0], f.spans[:0]
	next := 0 // both are in the order of UIDs
	n = len(list)
	limit := cmp.Or(f.ss.srv.maxMetas, maxMetas)
	err = f.ss.srv.Store.Metas(f.ss.view.Mailbox.ID, msgs[list[0]].UID, msgs[list[len(list)-1]].UID, func(uid model.UID, meta []byte) bool {
		for next < len(list) && msgs[list[next]].UID < uid {
			next++
		}
		if next < len(list) && msgs[list[next]].UID == uid {
			f.spans = append(f.spans, span{uid, len(f.arena), len(f.arena) + len(meta)})
			if f.arena = append(f.arena, meta...); len(f.arena) > limit {
				n = next + 1
			}
		}
		return n == len(list)
	})
	for _, s := range f.spans { // now that the arena has its place
		f.metas[s.uid] = f.arena[s.from:s.to]
	}
	if cap(f.arena) > 2*maxMetas {
		f.arena = nil // the next ones need less
	}
	return n, err
}

// loadStates reads the states of a chunk in one pass, which costs a tenth of asking for each, unless
// they lie so far apart that it would read much else. open asks for those it doesn't find here.
func (f *fetch) loadStates(list []int) error {
	msgs := f.ss.view.Messages
	first, last := msgs[list[0]].UID, msgs[list[len(list)-1]].UID
	f.states, f.passed = f.states[:0], 0
	if len(list) == 1 || int(last-first) > 4*len(list) {
		return nil
	}
	_, err := f.ss.srv.Store.View(f.ss.view.Mailbox.ID, first, last, func(m *model.MessageState) bool {
		f.states = append(f.states, *m)
		return true
	})
	if errors.Is(err, store.ErrNotFound) { // the mailbox is gone: each of its messages is
		return nil
	}
	return err
}

// stateOf gives a message's state; the messages of a chunk are asked for by ascending UID.
func (f *fetch) stateOf(uid model.UID) (model.MessageState, error) {
	for f.passed < len(f.states) && f.states[f.passed].UID < uid {
		f.passed++
	}
	if f.passed < len(f.states) && f.states[f.passed].UID == uid {
		return f.states[f.passed], nil
	}
	return f.ss.srv.Store.Message(f.ss.view.Mailbox.ID, uid)
}

// markSeen sets \Seen before the bodies are sent, in one entry for all.
func (f *fetch) markSeen(list []int) error {
	ss := f.ss
	var uids []model.UID
	for _, i := range list {
		if m := &ss.view.Messages[i]; m.Flags&model.FlagSeen == 0 && !m.Gone {
			uids = append(uids, m.UID)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	_, err := ss.srv.Store.SetFlags(ss.ctx, state.SetFlags{Mailbox: ss.view.Mailbox.ID, UIDs: uids, Mode: state.FlagsAdd, Flags: model.FlagSeen})
	if err != nil {
		return err
	}
	return ss.announce(false) // before the answers that show FLAGS
}

// one writes the answer for a message.
func (f *fetch) one(i int) error {
	ss := f.ss
	m := &ss.view.Messages[i]
	meta := &f.hand
	if f.meta {
		raw, ok := f.metas[m.UID]
		if !ok {
			return store.ErrNotFound
		}
		var err error
		if *meta, err = message.DecodeMeta(raw); err != nil {
			return err
		}
	}
	var b *opened
	if f.body || f.state {
		var err error
		if b, err = f.open(m.UID); err != nil {
			return err
		}
		defer b.close()
	}
	if f.decoded {
		if err := f.decodable(b); err != nil {
			return err
		}
	}
	ss.put("* ")
	ss.putInt(int64(i + 1))
	ss.put(" FETCH (")
	for k := range f.items {
		if k > 0 {
			ss.buf = append(ss.buf, ' ')
		}
		if err := f.item(&f.items[k], i, meta, b); err != nil {
			return err
		}
	}
	ss.put(")\r\n")
	return nil
}

func (f *fetch) item(it *imapparse.Item, i int, meta *message.Meta, b *opened) error {
	ss := f.ss
	m := &ss.view.Messages[i]
	switch it.Name {
	case "FLAGS":
		ss.putFlags(m)
	case "UID":
		ss.put("UID ")
		ss.putInt(int64(m.UID))
	case "INTERNALDATE":
		ss.put(`INTERNALDATE "`)
		ss.buf = appendDate(ss.buf, m.Date)
		ss.put(`"`)
	case "RFC822.SIZE":
		ss.put("RFC822.SIZE ")
		ss.putInt(m.Size)
	case "ENVELOPE":
		ss.put("ENVELOPE ")
		ss.buf = append(ss.buf, meta.Envelope...)
	case "BODYSTRUCTURE":
		ss.put("BODYSTRUCTURE ")
		ss.buf = append(ss.buf, meta.BodyStructure...)
	case "BODY":
		ss.put("BODY ")
		ss.buf = append(ss.buf, meta.Body...)
	case "MODSEQ":
		ss.putModSeq(m)
	case "BODY[":
		return f.section(it, b)
	case "BINARY[":
		return f.binary(it, b)
	case "BINARY.SIZE[":
		return f.binarySize(it, b)
	case "EMAILID":
		ss.put("EMAILID (", objectID(b.state.GUID), ")")
	case "THREADID": // RFC 8474 §4: NIL where threads aren't kept
		ss.put("THREADID NIL")
	case "PREVIEW":
		return f.preview(b)
	default:
		return bad{"unknown item " + it.Name}
	}
	return nil
}
