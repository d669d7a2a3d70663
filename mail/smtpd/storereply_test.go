package smtpd

import (
	"fmt"
	"testing"

	"mailplusd/mail/store"
	"mailplusd/mail/store/segment"
)

func TestStoreReply(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{fmt.Errorf("%w: %w", store.ErrUnavailable, segment.ErrCopy), 451},
		{fmt.Errorf("%w: %w", store.ErrNoSpace, segment.ErrNoSpace), 452},
		{store.ErrLimit, 552},
	} {
		if got := storeReply(c.err).Code; got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
	}
}
