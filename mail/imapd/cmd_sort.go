package imapd

import (
	"errors"
	"slices"
	"strings"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/view/order"
)

var sortBy = map[string]order.By{
	"ARRIVAL": order.ByArrival, "CC": order.ByCc, "DATE": order.ByDate, "FROM": order.ByFrom, "SIZE": order.BySize,
	"SUBJECT": order.BySubject, "TO": order.ByTo, "DISPLAYFROM": order.ByDisplayFrom, "DISPLAYTO": order.ByDisplayTo,
}

// doSort is SORT (RFC 5256), with RETURN (RFC 5267 ESORT) and the display names of RFC 5957.
func (ss *session) doSort(p *imapparse.Parser, uid bool) error {
	ret, err := p.Return()
	var names []imapparse.SortKey
	if err == nil {
		names, err = p.Sort()
	}
	if err == nil {
		err = p.Space()
	}
	if err != nil {
		return usual(err)
	}
	found, modseq, err := ss.searchBehindCharset(p)
	if err != nil {
		if !errors.As(err, new(bad)) {
			ss.saveNothing(ret)
		}
		return err
	}
	var keys []order.Key
	var need fields
	for _, n := range names {
		k := order.Key{By: sortBy[n.Name], Reverse: n.Reverse}
		keys, need = append(keys, k), need|1<<k.By
	}
	items, err := ss.items(found, need)
	if err != nil {
		return err
	}
	order.Sort(items, keys)
	sorted := make([]int, len(items))
	for i := range items {
		sorted[i] = items[i].Index
	}
	if ret.Save {
		ss.save(sorted, ret)
		slices.Sort(ss.saved)
	}
	if ret.Extended {
		ss.putExtended(sorted, ret, uid, modseq)
		return ss.announce(uid)
	}
	ss.put("* SORT")
	ss.putNumbers(sorted, uid)
	if modseq > 0 && len(sorted) > 0 {
		ss.put(" (MODSEQ ")
		ss.putInt(int64(modseq))
		ss.put(")")
	}
	ss.put("\r\n")
	return ss.announce(uid)
}

// searchBehindCharset reads `charset keys` and searches.
func (ss *session) searchBehindCharset(p *imapparse.Parser) (found []int, modseq uint64, err error) {
	cs, err := p.AString()
	if err == nil {
		err = p.Space()
	}
	var key *imapparse.Key
	if err == nil {
		key, err = p.Keys()
	}
	if err == nil {
		err = p.End()
	}
	if err != nil {
		return nil, 0, usual(err)
	}
	if err := charsetOK(cs); err != nil {
		return nil, 0, err
	}
	return ss.searchAll(key)
}

// doThread is THREAD (RFC 5256).
func (ss *session) doThread(p *imapparse.Parser, uid bool) error {
	alg, err := p.Atom()
	if err == nil {
		err = p.Space()
	}
	if err != nil {
		return usual(err)
	}
	alg = strings.ToUpper(alg)
	need := fields(1<<order.ByDate | 1<<order.BySubject)
	switch alg {
	case "ORDEREDSUBJECT":
	case "REFERENCES":
		need |= needReferences
	default:
		return bad{"ORDEREDSUBJECT or REFERENCES expected"}
	}
	found, _, err := ss.searchBehindCharset(p)
	if err != nil {
		return err
	}
	items, err := ss.items(found, need)
	if err != nil {
		return err
	}
	threads := order.OrderedSubject
	if alg == "REFERENCES" {
		threads = order.References
	}
	ss.put("* THREAD")
	for i, t := range threads(items) {
		if i == 0 {
			ss.buf = append(ss.buf, ' ')
		}
		ss.putThread(t, uid)
	}
	ss.put("\r\n")
	return ss.announce(uid)
}

// putThread writes a thread: messages one after the other, and a list for each where it forks. A
// thread may be as deep as the mailbox is large, so it goes down without recursion.
func (ss *session) putThread(t *order.Thread, uid bool) {
	stack := []*order.Thread{t} // nil closes a list
	for len(stack) > 0 {
		t, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if t == nil {
			ss.buf = append(ss.buf, ')')
			continue
		}
		ss.buf = append(ss.buf, '(')
		for first := true; ; first = false {
			if t.Item != nil {
				if !first {
					ss.buf = append(ss.buf, ' ')
				}
				ss.putInt(int64(ss.number(t.Item.Index, uid)))
			}
			if len(t.Children) != 1 {
				break
			}
			t = t.Children[0]
		}
		if len(t.Children) > 0 && t.Item != nil {
			ss.buf = append(ss.buf, ' ')
		}
		stack = append(stack, nil)
		for i := len(t.Children) - 1; i >= 0; i-- {
			stack = append(stack, t.Children[i])
		}
	}
}

// fields are what an order needs of a message: a bit for each order.By.
type fields uint16

const needReferences fields = 1 << 15

const needMeta = ^fields(1<<order.ByArrival | 1<<order.BySize)

func (f fields) has(by order.By) bool { return f&(1<<by) != 0 }

// items reads what an order needs from the parsed headers, never from bodies, apart from
// messages that were stored by a version that kept no References.
func (ss *session) items(list []int, need fields) ([]order.Item, error) {
	out := make([]order.Item, 0, len(list))
	f := fetch{ss: ss}
	used := 0 // octets of References
	for len(list) > 0 {
		n := min(len(list), fetchChunk)
		if need&needMeta != 0 {
			var err error
			if n, err = f.loadMetas(list[:n]); err != nil {
				return nil, err
			}
		}
		for _, i := range list[:n] {
			m := &ss.view.Messages[i]
			it := order.Item{Index: i, Arrival: m.Date, Sent: m.Date, Size: m.Size}
			if need&needMeta != 0 {
				raw, ok := f.metas[m.UID]
				if !ok {
					continue // gone meanwhile
				}
				if err := ss.describe(&it, raw, need); err != nil {
					return nil, err
				}
				used = boundReferences(&it, used)
			}
			out = append(out, it)
		}
		list = list[n:]
	}
	return out, nil
}

func (ss *session) describe(it *order.Item, raw []byte, need fields) error {
	meta, err := message.DecodeMeta(raw)
	if err != nil {
		return err
	}
	env, ok := message.SplitEnvelope(meta.Envelope)
	if !ok {
		return nil // sorted as a message without headers
	}
	if need.has(order.ByDate) {
		if at, ok := order.SentUnix(message.NString(env[message.EnvDate])); ok {
			it.Sent = at
		}
	}
	if need.has(order.BySubject) {
		base, reply := order.BaseSubject(message.Decode(sortText(message.NString(env[message.EnvSubject]))))
		it.Subject, it.Reply = order.Collate(base), reply
	}
	for _, a := range []struct {
		local, display order.By
		field          int
		to, toDisplay  *string
	}{
		{order.ByFrom, order.ByDisplayFrom, message.EnvFrom, &it.From, &it.DisplayFrom},
		{order.ByTo, order.ByDisplayTo, message.EnvTo, &it.To, &it.DisplayTo},
		{order.ByCc, order.ByCc, message.EnvCc, &it.Cc, &it.Cc},
	} {
		if !need.has(a.local) && !need.has(a.display) {
			continue
		}
		first := message.EnvelopeAddresses(env[a.field], 1)
		if len(first) == 0 {
			continue
		}
		*a.toDisplay = order.Collate(displayName(&first[0]))
		*a.to = order.Collate(message.Decode(sortText(first[0].Local)))
	}
	if need&needReferences != 0 {
		return ss.describeThread(it, &meta, &env)
	}
	return nil
}

// displayName is the display name, else the address (RFC 5957 §1).
func displayName(m *message.Mailbox) string {
	if name := strings.TrimSpace(message.Decode(sortText(m.Name))); name != "" {
		return name
	}
	if m.Host == "" {
		return sortText(m.Local)
	}
	return sortText(m.Local + "@" + m.Host)
}

// maxSortText is how much of a text counts for the order: of as many messages as there are it is held
// in memory at a time. A message ID that is longer is none.
const maxSortText = 1000

func sortText(s string) string {
	if len(s) <= maxSortText {
		return s
	}
	return strings.Clone(s[:maxSortText])
}

// firstID is the first message ID of a field.
func firstID(field []byte) string {
	ids := message.MessageIDs(message.NString(field))
	if len(ids) == 0 || len(ids[0]) > maxSortText {
		return ""
	}
	if len(field) > 2*len(ids[0])+64 {
		return strings.Clone(ids[0]) // the field goes
	}
	return ids[0]
}

func (ss *session) describeThread(it *order.Item, meta *message.Meta, env *message.EnvelopeFields) error {
	it.ID = firstID(env[message.EnvMessageID])
	it.References = strings.Fields(string(meta.References))
	if meta.NoReferences {
		s := search{ss: ss}
		s.load(it.Index, &ss.view.Messages[it.Index])
		defer s.done()
		err := guard(func() error {
			ok, err := s.open()
			if ok {
				it.References = message.MessageIDs(s.o.root.Header.Get("References"))
			}
			return err
		})
		if err != nil && !errors.Is(err, errFault) {
			return err
		}
	}
	if len(it.References) == 0 {
		if id := firstID(env[message.EnvInReplyTo]); id != "" {
			it.References = []string{id}
		}
	}
	return nil
}

// maxReferences bounds the message IDs, in octets, that a THREAD holds in memory at a time.
const maxReferences = 64 << 20

// boundReferences keeps of what a message refers to only the last, its parent, when the mailbox has
// had more References than are held in memory. used: octets of the messages before.
func boundReferences(it *order.Item, used int) int {
	for _, id := range it.References {
		used += len(id) + 16
	}
	if n := len(it.References); n > 1 && used > maxReferences {
		it.References = []string{strings.Clone(it.References[n-1])} // the others go
	}
	return used
}
