package imapd

import (
	"bytes"
	"errors"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
)

// errUnknownCTE is a part whose transfer encoding isn't known (RFC 3516 §4.3).
var errUnknownCTE = errors.New("unknown transfer encoding")

// encoded gives the octets of a part and their transfer encoding; ok is false when there is no such part.
func (b *opened) encoded(path []int) (data []byte, encoding string, ok bool, err error) {
	raw, root, err := b.parsed()
	if err != nil {
		return nil, "", false, err
	}
	if len(path) == 0 {
		return raw, "BINARY", true, nil
	}
	p := message.Find(root, path)
	if p == nil {
		return nil, "", false, nil
	}
	return raw[p.BodyStart:p.End], p.Encoding, true, nil
}

// decodable makes sure that every part that is asked for without its encoding can be given, before
// anything of the answer is written.
func (f *fetch) decodable(b *opened) error {
	for i := range f.items {
		it := &f.items[i]
		if it.Name != "BINARY[" && it.Name != "BINARY.SIZE[" {
			continue
		}
		_, encoding, ok, err := b.encoded(it.Path)
		if err != nil {
			return err
		}
		if ok && !message.KnownTransfer(encoding) {
			return errUnknownCTE
		}
	}
	return nil
}

// decodedSize counts a part's octets without its encoding, and tells whether NUL is among them.
func decodedSize(data []byte, encoding string) (size int64, nul bool) {
	_ = message.DecodeTransfer(encoding, data, func(p []byte) error {
		size += int64(len(p))
		nul = nul || bytes.IndexByte(p, 0) >= 0
		return nil
	})
	return size, nul
}

// binary writes BINARY[part] (RFC 3516): the part is decoded twice, to count it and to send it, so that
// it is never held as a whole.
func (f *fetch) binary(it *imapparse.Item, b *opened) error {
	data, encoding, ok, err := b.encoded(it.Path)
	if err != nil {
		return err
	}
	if !ok {
		f.ss.put(it.Label, " NIL")
		return nil
	}
	size, nul := decodedSize(data, encoding)
	from, to := cut(it, size)
	f.label(it, to-from, nul)
	at := int64(0)
	err = message.DecodeTransfer(encoding, data, func(p []byte) error {
		start, end := max(from-at, 0), min(to-at, int64(len(p)))
		at += int64(len(p))
		if start >= end {
			if at >= to {
				return errDone
			}
			return nil
		}
		return f.write(p[start:end], nul)
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// errDone ends the decoding when the client has what it asked for.
var errDone = errors.New("done")

func (f *fetch) binarySize(it *imapparse.Item, b *opened) error {
	data, encoding, _, err := b.encoded(it.Path)
	if err != nil {
		return err
	}
	size, _ := decodedSize(data, encoding)
	f.ss.put(it.Label, " ")
	f.ss.putInt(size)
	return nil
}
