package state

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"
	"strings"

	"mailplusd/mail/model"

	"github.com/cockroachdb/pebble/v2"
)

// mailbox gives the entry's own copy of a mailbox row.
func (a *apply) mailbox(id model.MailboxID) (*model.Mailbox, error) {
	if m, ok := a.mailboxes[id]; ok {
		if m == nil {
			return nil, ErrNotFound
		}
		return m, nil
	}
	m, err := a.s.loadMailbox(a.b, id)
	if err != nil {
		return nil, err
	}
	a.mailboxes[id] = m
	return m, nil
}

// touch marks a mailbox as changed, so that it is stored at the end of the entry.
func (a *apply) touch(m *model.Mailbox) {
	for _, id := range a.dirty {
		if id == m.ID {
			return
		}
	}
	a.dirty = append(a.dirty, m.ID)
	a.change.mailboxes = append(a.change.mailboxes, m.ID)
	a.change.accounts = append(a.change.accounts, m.Account)
}

func (a *apply) storeMailbox(id model.MailboxID) error {
	m := a.mailboxes[id]
	if m == nil {
		return nil
	}
	v, err := encMode.Marshal(m)
	if err != nil {
		return err
	}
	return a.b.Set(mailboxKey(id), v, nil)
}

// bump gives the mailbox's next mod-sequence, skipping ahead at the first change in a forced epoch.
func (a *apply) bump(m *model.Mailbox) uint64 {
	a.skipAhead(m)
	m.HighestModSeq++
	a.touch(m)
	return m.HighestModSeq
}

// Skip-ahead of a forced epoch: two sides of a split never give one UID or MODSEQ to two messages.
const (
	skipUIDs   = 10_000
	skipModSeq = 1 << 20
)

func (a *apply) skipAhead(m *model.Mailbox) {
	g := a.rule()
	if m.Epoch >= g.Forced {
		return
	}
	m.Epoch = g.Forced
	times := 1 + g.Block&1 // two sides that are both forced must not skip to the same place
	m.HighestModSeq += times * skipModSeq
	if skip := model.UID(times * skipUIDs); m.UIDNext < 1<<32-1-skip {
		m.UIDNext += skip
	}
}

// guid makes a name that no other entry makes, the same on every node.
func (a *apply) guid(domain byte) (g [16]byte) {
	var in [21]byte
	copy(in[:], a.entry.ID[:])
	in[16] = domain
	binary.BigEndian.PutUint32(in[17:], a.guids)
	a.guids++
	sum := sha256.Sum256(in[:])
	copy(g[:], sum[:])
	return g
}

// mailboxGUID is guid for a mailbox. A merge that is begun again must give the same.
func (a *apply) mailboxGUID(account model.AccountID, name string) (g [16]byte) {
	if a.seed == nil {
		return a.guid('m')
	}
	sum := sha256.Sum256(append(be64(append([]byte(nil), a.seed...), uint64(account)), name...))
	copy(g[:], sum[:])
	return g
}

func (a *apply) byName(account model.AccountID, name string) (model.MailboxID, error) {
	v, err := a.get(nameKey(account, name))
	if err != nil || len(v) != 8 {
		return 0, err
	}
	return model.MailboxID(binary.BigEndian.Uint64(v)), nil
}

// accountMailboxes lists an account's mailboxes by name, INBOX first.
func (a *apply) accountMailboxes(account model.AccountID) ([]*model.Mailbox, error) {
	ids, err := listNames(a.b, account)
	if err != nil {
		return nil, err
	}
	out := make([]*model.Mailbox, 0, len(ids))
	for _, id := range ids {
		m, err := a.mailbox(id)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func listNames(r pebble.Reader, account model.AccountID) ([]model.MailboxID, error) {
	prefix := nameKey(account, "")
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var ids []model.MailboxID
	for it.First(); it.Valid(); it.Next() {
		if v := it.Value(); len(v) == 8 {
			ids = append(ids, model.MailboxID(binary.BigEndian.Uint64(v)))
		}
	}
	return ids, it.Error()
}

// newMailbox makes one mailbox row with its name.
func (a *apply) newMailbox(account model.AccountID, name string, use model.SpecialUse) (*model.Mailbox, error) {
	n, err := a.next(keyNextMailbox)
	if err != nil {
		return nil, err
	}
	validity, err := a.uidValidity(account)
	if err != nil {
		return nil, err
	}
	m := &model.Mailbox{
		ID: model.MailboxID(n), Account: account, Name: name, Use: use, GUID: a.mailboxGUID(account, name),
		UIDValidity: validity, UIDNext: 1, HighestModSeq: 1, RecentFloor: 1,
		Created: a.entry.Time / 1e9, Subscribed: use != "", Epoch: a.rule().Forced,
	}
	a.mailboxes[m.ID] = m
	a.touch(m)
	if err := a.noteMailbox(m, 'c'); err != nil {
		return nil, err
	}
	return m, a.b.Set(nameKey(account, name), be64(nil, n), nil)
}

// uidValidity never repeats for an account and follows the clock, so that a mailbox
// that is deleted and made again gets a greater one (RFC 9051 §2.3.1.1).
func (a *apply) uidValidity(account model.AccountID) (uint32, error) {
	key := be64([]byte("avalidity"), uint64(account))
	last, err := a.get(key)
	if err != nil {
		return 0, err
	}
	v := uint32(a.entry.Time / 1e9)
	if len(last) == 4 {
		if l := binary.BigEndian.Uint32(last); v <= l {
			v = l + 1
		}
	}
	return v, a.b.Set(key, be32(nil, v), nil)
}

func (a *apply) mailboxCreate(op *MailboxCreate) (any, error) {
	if op.Defaults {
		m, err := a.defaults(op.Account)
		if err != nil {
			return nil, err
		}
		return MailboxCreated{Mailbox: *m}, nil
	}
	name := model.CanonicalMailboxName(op.Name)
	if err := model.ValidateMailboxName(name); err != nil {
		return nil, refuse(ErrInvalid, "%v", err)
	}
	if id, err := a.byName(op.Account, name); err != nil {
		return nil, err
	} else if id != 0 {
		return nil, refuse(ErrExists, "mailbox %q exists already", name)
	}
	ids, err := listNames(a.b, op.Account)
	if err != nil {
		return nil, err
	}
	if err := a.room(op.Account, len(ids), name, 1); err != nil {
		return nil, err
	}
	if op.Use != "" {
		for _, id := range ids {
			if m, err := a.mailbox(id); err != nil {
				return nil, err
			} else if m.Use == op.Use {
				return nil, refuse(ErrExists, "mailbox %q has the use %s already", m.Name, op.Use)
			}
		}
	}
	if err := a.parents(op.Account, name); err != nil {
		return nil, err
	}
	m, err := a.newMailbox(op.Account, name, op.Use)
	if err != nil {
		return nil, err
	}
	return MailboxCreated{Mailbox: *m}, nil
}

// parents makes the mailboxes above name that are missing.
func (a *apply) parents(account model.AccountID, name string) error {
	for i := 0; i < len(name); i++ {
		if name[i] != model.Delimiter[0] {
			continue
		}
		id, err := a.byName(account, name[:i])
		if err != nil {
			return err
		}
		if id == 0 {
			if _, err := a.newMailbox(account, name[:i], ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// defaults makes what is missing of the default mailboxes and gives INBOX.
func (a *apply) defaults(account model.AccountID) (*model.Mailbox, error) {
	have := map[model.SpecialUse]*model.Mailbox{}
	all, err := a.accountMailboxes(account)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		have[m.Use] = m
	}
	for _, d := range model.DefaultMailboxes {
		if have[d.Use] != nil {
			continue
		}
		if id, err := a.byName(account, d.Name); err != nil {
			return nil, err
		} else if id != 0 {
			m, err := a.mailbox(id)
			if err != nil {
				return nil, err
			}
			m.Use = d.Use
			a.touch(m)
			have[d.Use] = m
			continue
		}
		m, err := a.newMailbox(account, d.Name, d.Use)
		if err != nil {
			return nil, err
		}
		have[d.Use] = m
	}
	return have[model.UseInbox], nil
}

// byUse finds an account's mailbox by role, making the default ones at first use.
func (a *apply) byUse(account model.AccountID, use model.SpecialUse) (*model.Mailbox, error) {
	if use == "" || use == model.UseInbox {
		if id := a.s.inboxes[account]; id != 0 {
			return a.mailbox(id)
		}
		if id, err := a.byName(account, "INBOX"); err != nil {
			return nil, err
		} else if id != 0 {
			if len(a.s.inboxes) >= maxCachedMailboxes {
				clear(a.s.inboxes)
			}
			a.s.inboxes[account] = id // it was there before this entry, so a refusal doesn't matter
			return a.mailbox(id)
		}
		return a.defaults(account)
	}
	inbox, err := a.defaults(account)
	if err != nil {
		return nil, err
	}
	all, err := a.accountMailboxes(account)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Use == use {
			return m, nil
		}
	}
	return inbox, nil
}

func (a *apply) mailboxRename(op *MailboxRename) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	name := model.CanonicalMailboxName(op.Name)
	if err := model.ValidateMailboxName(name); err != nil {
		return nil, refuse(ErrInvalid, "%v", err)
	}
	if id, err := a.byName(m.Account, name); err != nil {
		return nil, err
	} else if id != 0 {
		return nil, refuse(ErrExists, "mailbox %q exists already", name)
	}
	if m.Use == model.UseInbox {
		return a.renameInbox(m, name)
	}
	if strings.HasPrefix(name, m.Name+model.Delimiter) {
		return nil, refuse(ErrInvalid, "mailbox %q can't be moved below itself", m.Name)
	}
	all, err := a.accountMailboxes(m.Account)
	if err != nil {
		return nil, err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	if err := a.room(m.Account, len(all), name, 0); err != nil {
		return nil, err
	}
	if err := a.parents(m.Account, name); err != nil {
		return nil, err
	}
	old := m.Name
	for _, sub := range all {
		rest, below := strings.CutPrefix(sub.Name, old)
		if sub.ID != m.ID && (!below || !strings.HasPrefix(rest, model.Delimiter)) {
			continue
		}
		if err := a.rename(sub, name+rest); err != nil {
			return nil, err
		}
	}
	return MailboxCreated{Mailbox: *m}, nil
}

func (a *apply) rename(m *model.Mailbox, name string) error {
	if err := model.ValidateMailboxName(name); err != nil {
		return refuse(ErrInvalid, "%v", err)
	}
	if id, err := a.byName(m.Account, name); err != nil {
		return err
	} else if id != 0 {
		return refuse(ErrExists, "mailbox %q exists already", name)
	}
	if err := a.b.Delete(nameKey(m.Account, m.Name), nil); err != nil {
		return err
	}
	if err := a.noteMailbox(m, 'r'); err != nil {
		return err
	}
	m.Name = name
	a.touch(m)
	return a.b.Set(nameKey(m.Account, name), be64(nil, uint64(m.ID)), nil)
}

// renameInbox moves INBOX's messages to a new mailbox (RFC 9051 §6.3.6).
func (a *apply) renameInbox(inbox *model.Mailbox, name string) (any, error) {
	ids, err := listNames(a.b, inbox.Account)
	if err != nil {
		return nil, err
	}
	if err := a.room(inbox.Account, len(ids), name, 1); err != nil {
		return nil, err
	}
	if err := a.parents(inbox.Account, name); err != nil {
		return nil, err
	}
	to, err := a.newMailbox(inbox.Account, name, "")
	if err != nil {
		return nil, err
	}
	var uids []model.UID
	err = scanMessages(a.b, inbox.ID, 1, 1<<32-1, func(m *model.MessageState) bool {
		uids = append(uids, m.UID)
		return true
	})
	if err != nil {
		return nil, err
	}
	if _, err := a.copy(&Copy{From: inbox.ID, To: to.ID, UIDs: uids, Move: true}); err != nil {
		return nil, err
	}
	return MailboxCreated{Mailbox: *to}, nil
}

func (a *apply) mailboxDelete(op *MailboxDelete) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	if m.Use == model.UseInbox {
		return nil, refuse(ErrInvalid, "INBOX can't be deleted")
	}
	return nil, a.removeMailbox(m, "")
}

// removeMailbox takes a mailbox with its messages out of the state, or only out of sight when they
// can be given back. user names its owner when he is deleted, too.
func (a *apply) removeMailbox(m *model.Mailbox, user string) error {
	if a.keep && m.Messages+m.Kept > 0 {
		return a.hideMailbox(m, user)
	}
	var unref error
	err := scanMessages(a.b, m.ID, 0, 1<<32-1, func(s *model.MessageState) bool {
		unref = a.unref(s.Body)
		return unref == nil
	})
	if err == nil {
		err = unref
	}
	if err == nil {
		err = a.dropAllKept(m.ID)
	}
	if err != nil {
		return err
	}
	for _, space := range []byte{spaceMessage, spaceMeta2, spaceChange} {
		prefix := be64([]byte{space}, uint64(m.ID))
		if err := a.b.DeleteRange(prefix, after(prefix), nil); err != nil {
			return err
		}
	}
	if err := a.b.Delete(nameKey(m.Account, m.Name), nil); err != nil {
		return err
	}
	if err := a.noteMailbox(m, 'd'); err != nil {
		return err
	}
	a.touch(m)
	a.mailboxes[m.ID] = nil
	return a.b.Delete(mailboxKey(m.ID), nil)
}

func (a *apply) mailboxSubscribe(op *MailboxSubscribe) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	if m.Subscribed != op.Subscribed {
		m.Subscribed = op.Subscribed
		a.touch(m)
		return nil, a.noteMailbox(m, 's')
	}
	return nil, nil
}

func (a *apply) seen(op *Seen) (any, error) {
	m, err := a.mailbox(op.Mailbox)
	if err != nil {
		return nil, err
	}
	if below := min(op.Below, m.UIDNext); below > m.RecentFloor {
		m.RecentFloor = below
		a.touch(m)
	}
	return nil, nil
}

func (a *apply) accountDelete(op *AccountDelete) (any, error) {
	all, err := a.accountMailboxes(op.Account)
	if err != nil {
		return nil, err
	}
	delete(a.s.inboxes, op.Account)
	if err := a.forgetReplied(op.Account); err != nil {
		return nil, err
	}
	if err := a.b.Delete(usageKey(op.Account), nil); err != nil {
		return nil, err
	}
	for _, m := range all {
		if err := a.removeMailbox(m, op.User); err != nil {
			return nil, err
		}
	}
	return Changed{N: len(all)}, nil
}
