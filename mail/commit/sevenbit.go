package commit

import (
	"io"

	"mailplusd/mail/flow"
	"mailplusd/mail/message"
	"mailplusd/mail/remote/sevenbit"
	"mailplusd/mail/store/segment"
)

// sevenBit converts a message that is going to be signed to 7-bit text: a server on the way that
// does not take 8 bits would convert it then, and break the signature (RFC 6376 §5.3). What can't be
// converted, or was signed by somebody else, stays. sp is used up; the result takes its place.
func (c *Committer) sevenBit(e *flow.Envelope, sp *segment.Spool) (*segment.Spool, error) {
	needed, err := convertible(sp)
	if err != nil || !needed {
		return sp, err
	}
	open := func() (io.ReadCloser, error) {
		r, err := sp.Reader()
		return io.NopCloser(io.NewSectionReader(r, 0, sp.Size())), err
	}
	facts, err := sevenbit.Scan(open)
	if err != nil || facts.Header8Bit { // such a message needs a server that takes 8 bits in any case
		return sp, err
	}
	r, err := sevenbit.Convert(open, facts)
	if err != nil { // then no server on the way converts it either
		return sp, nil
	}
	out := c.Store.NewSpool(0)
	if _, err := io.Copy(out, r); err != nil {
		out.Abort()
		return sp, err
	}
	sp.Abort()
	e.EightBit = false
	return out, nil
}

// convertible tells whether there is 8-bit text that nobody has signed yet.
func convertible(sp *segment.Spool) (bool, error) {
	raw, release, err := sp.Bytes()
	if err != nil {
		return false, err
	}
	defer release()
	for _, b := range raw {
		if b >= 0x80 {
			h := message.ParseHeader(raw)
			return !h.Has("DKIM-Signature"), nil
		}
	}
	return false, nil
}
