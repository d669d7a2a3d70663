package store

import (
	"context"
	"errors"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Subscribe sets a mailbox's subscription.
func (s *Store) Subscribe(ctx context.Context, id model.MailboxID, on bool) error {
	return s.do(ctx, state.MailboxSubscribe{Mailbox: id, Subscribed: on}, nil)
}

// Subscriptions gives the names of an account that are subscribed although there is no mailbox, in
// the order of their names.
func (s *Store) Subscriptions(account model.AccountID) (names []string, err error) {
	for row, err := range state.Subscriptions.All(s.state, model.SubscriptionsOf(account)) {
		if err != nil {
			return nil, err
		}
		names = append(names, row.Name)
	}
	return names, nil
}

// Unsubscribe takes a name without a mailbox off an account's subscriptions.
func (s *Store) Unsubscribe(ctx context.Context, account model.AccountID, name string) error {
	row := model.Subscription{Account: account, Name: name}
	if has, err := state.Subscriptions.Has(s.state, row.Key()); err != nil || !has {
		return err // what isn't there costs no entry
	}
	return mend(s.state.Update(ctx, func(tx *state.Tx) error {
		err := state.Subscriptions.Delete(tx, row.Key())
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		return err
	}))
}

// Delete removes a mailbox with its messages. Its name stays subscribed if it was (RFC 3501 §6.3.6).
func (s *Store) Delete(ctx context.Context, id model.MailboxID) error {
	m, err := s.state.Mailbox(id)
	if err != nil {
		return err
	}
	if !m.Subscribed || m.Use == model.UseInbox {
		return s.do(ctx, state.MailboxDelete{Mailbox: id}, nil)
	}
	return mend(s.state.Update(ctx, func(tx *state.Tx) error {
		n := 0
		for _, err := range state.Subscriptions.All(tx, model.SubscriptionsOf(m.Account)) {
			if err != nil {
				return err
			}
			n++
		}
		tx.Also(state.MailboxDelete{Mailbox: id})
		if n >= model.MaxSubscriptions {
			return nil
		}
		return state.Subscriptions.Put(tx, &model.Subscription{Account: m.Account, Name: m.Name})
	}))
}

// resubscribe gives a new mailbox the subscription that its name has.
func (s *Store) resubscribe(ctx context.Context, m *model.Mailbox) error {
	row := model.Subscription{Account: m.Account, Name: m.Name}
	if has, err := state.Subscriptions.Has(s.state, row.Key()); err != nil || !has {
		return err
	}
	m.Subscribed = true
	return mend(s.state.Update(ctx, func(tx *state.Tx) error {
		tx.Also(state.MailboxSubscribe{Mailbox: m.ID, Subscribed: true})
		err := state.Subscriptions.Delete(tx, row.Key())
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		return err
	}))
}
