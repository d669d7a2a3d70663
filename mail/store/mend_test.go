package store

import (
	"errors"
	"fmt"
	"testing"

	"mailplusd/mail/store/segment"
)

// TestMissingCopyIsUnavailable: a body that is not on the second node in time is a passing
// fault, told apart from a full disk even if the peer's disk is full.
func TestMissingCopyIsUnavailable(t *testing.T) {
	peer := errors.New("body: no space left")
	err := mend(fmt.Errorf("%w: %w", segment.ErrCopy, peer))
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoSpace) || !errors.Is(err, segment.ErrCopy) {
		t.Errorf("%v", err)
	}
	if err := mend(segment.ErrNoSpace); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
