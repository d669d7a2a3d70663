package imapd

import (
	"bytes"
	"errors"
	"io"
	"runtime/debug"

	"mailplusd/mail/imapd/imapparse"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/store/segment"
)

// opened is a message that is being answered; it is mapped and parsed once, and only when parts of it
// are asked for.
type opened struct {
	state   model.MessageState
	body    *segment.Body // nil when only the state is needed
	raw     []byte
	release func()
	root    *message.Part
}

func (f *fetch) open(uid model.UID) (*opened, error) {
	st, err := f.stateOf(uid)
	if err != nil {
		return nil, err
	}
	b := &opened{state: st}
	if f.body {
		if b.body, err = f.ss.srv.Store.Body(st.Body); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (o *opened) close() {
	if o.release != nil {
		o.release()
	}
	if o.body != nil {
		o.body.Close()
	}
}

// parsed gives the message's octets and its parts.
func (o *opened) parsed() ([]byte, *message.Part, error) {
	if o.root == nil {
		raw, release, err := o.body.Bytes()
		if err != nil {
			return nil, nil, err
		}
		o.raw, o.release = raw, release
		o.root = message.Walk(raw, message.DefaultLimits()).Root
	}
	return o.raw, o.root, nil
}

// errFault is a mapped message that the disk doesn't give.
var errFault = errors.New("the message can't be read from the disk")

// guard makes an error of a fault in a mapped message.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if _, fault := p.(interface{ Addr() uintptr }); !fault {
				panic(p)
			}
			err = &connError{errFault} // its literal may be announced: only closing tells the client
		}
	}()
	return fn()
}

// section writes one section.
func (f *fetch) section(it *imapparse.Item, b *opened) error {
	if it.What == "" && len(it.Path) == 0 {
		from, to := cut(it, b.body.Size())
		f.label(it, to-from, false)
		return f.stream(b, from, to)
	}
	raw, root, err := b.parsed()
	if err != nil {
		return err
	}
	what := it.What
	fields := what == "HEADER.FIELDS" || what == "HEADER.FIELDS.NOT"
	if fields {
		what = "HEADER"
	}
	data, ok := message.Section(raw, root, it.Path, what)
	if !ok {
		f.ss.put(it.Label, " NIL")
		return nil
	}
	if fields {
		data = message.HeaderFields(data, it.Fields, it.What == "HEADER.FIELDS.NOT")
	}
	from, to := cut(it, int64(len(data)))
	f.label(it, to-from, false)
	return f.write(data[from:to], false)
}

// cut bounds a partial fetch.
func cut(it *imapparse.Item, size int64) (from, to int64) {
	if !it.Partial {
		return 0, size
	}
	from = min(int64(it.Offset), size)
	return from, from + min(int64(it.Length), size-from)
}

// label announces a literal of n octets, or a literal8.
func (f *fetch) label(it *imapparse.Item, n int64, binary bool) {
	ss := f.ss
	ss.put(it.Label)
	if it.Partial {
		ss.put("<")
		ss.putInt(int64(it.Offset))
		ss.put(">")
	}
	if binary {
		ss.put(" ~{")
	} else {
		ss.put(" {")
	}
	ss.putInt(n)
	ss.put("}\r\n")
}

// write sends octets of a literal in pieces, so that no more than a piece is held. Only a literal8
// may have NUL in it; elsewhere 0x80 stands for it.
func (f *fetch) write(data []byte, binary bool) error {
	ss := f.ss
	for len(data) > 0 {
		n := min(len(data), sendAt)
		at := len(ss.buf)
		ss.buf = append(ss.buf, data[:n]...)
		if !binary {
			hideNUL(ss.buf[at:])
		}
		data = data[n:]
		if len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return &connError{err}
			}
		}
	}
	return nil
}

func hideNUL(b []byte) {
	for i := bytes.IndexByte(b, 0); i >= 0; i = bytes.IndexByte(b, 0) {
		b[i] = 0x80
		b = b[i+1:]
	}
}

// stream sends a whole message as it is read.
func (f *fetch) stream(b *opened, from, to int64) error {
	ss := f.ss
	for from < to {
		n := min(to-from, sendAt)
		at := len(ss.buf)
		ss.buf = append(ss.buf, make([]byte, n)...)
		if _, err := b.body.ReadAt(ss.buf[at:], from); err != nil && !errors.Is(err, io.EOF) {
			return &connError{err} // the literal is announced: only closing tells the client
		}
		hideNUL(ss.buf[at:])
		from += n
		if from < to || len(ss.buf) > sendAt {
			if err := ss.send(); err != nil {
				return &connError{err}
			}
		}
	}
	return nil
}
