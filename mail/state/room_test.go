package state

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"mailplusd/mail/model"
)

// TestMailboxLimit: an account has so many mailboxes at most, whatever makes them: CREATE, the mailboxes
// above a name, RENAME below new ones, RENAME of INBOX, which makes one each time.
func TestMailboxLimit(t *testing.T) {
	defer func(n int) { maxMailboxes = n }(maxMailboxes)
	maxMailboxes = 20
	s, _ := open(t)
	ctx := context.Background()
	do := func(op Operation) error { return s.Do(ctx, []Operation{op}) }
	count := func() int {
		t.Helper()
		list, err := s.Mailboxes(1)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if err := do(MailboxCreate{Account: 1, Defaults: true}); err != nil {
		t.Fatal(err)
	}
	var inbox, moved model.MailboxID
	var err error
	if inbox, err = s.MailboxID(1, "INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := do(MailboxCreate{Account: 1, Name: "moved"}); err != nil {
		t.Fatal(err)
	}
	if moved, err = s.MailboxID(1, "moved"); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(i int) Operation{
		"RENAME INBOX": func(i int) Operation { return MailboxRename{Mailbox: inbox, Name: fmt.Sprint("in", i)} },
		"RENAME below": func(i int) Operation { return MailboxRename{Mailbox: moved, Name: fmt.Sprintf("r%d/x", i)} },
		"CREATE deep":  func(i int) Operation { return MailboxCreate{Account: 1, Name: fmt.Sprintf("c%d/d/e/f", i)} },
		"CREATE":       func(i int) Operation { return MailboxCreate{Account: 1, Name: fmt.Sprint("flat", i)} },
	} {
		var last error
		for i := range 50 {
			if last = do(make(i)); last != nil {
				break
			}
		}
		if !errors.Is(last, ErrLimit) || count() > maxMailboxes {
			t.Fatalf("%s: %d mailboxes of %d, %v", name, count(), maxMailboxes, last)
		}
		maxMailboxes += 7
	}
	maxMailboxes = count() // no more, but what is there can still be moved about
	if err := do(MailboxRename{Mailbox: moved, Name: "in0"}); err != nil && !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if err := do(MailboxRename{Mailbox: moved, Name: "plain"}); err != nil {
		t.Fatal(err)
	}
	if model.MaxMailboxes > 10_000 {
		t.Errorf("%d mailboxes for one account", model.MaxMailboxes)
	}
}
