package sevenbit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"

	"mailplusd/mail/message"
)

// part is a part whose body is under way.
type part struct {
	leaf     bool // neither a multipart nor a message
	text     bool
	declared bool // has a Content-Transfer-Encoding
	encoded  bool // quoted-printable or base64
	signed   bool // in a signed or encrypted part
	boundary string
	message  bool
	digest   bool
}

// visitor is told of a message's pieces in their order. Together they are the message.
type visitor interface {
	header(p *part, raw []byte) // with the empty line
	body(p *part, piece []byte) // a line, or a part of a long one
	delimiter(line []byte)
	end()
}

// walker reads a message line by line.
type walker struct {
	v       visitor
	stack   []*part // multiparts and messages around
	cur     *part   // nil: in a header
	head    []byte
	parts   int
	midline bool // the last piece had no line end
	odd     bool
}

func newWalker(v visitor) *walker { return &walker{v: v} }

// nested tells whether the part under way is in another.
func (w *walker) nested() bool { return len(w.stack) > 0 }

// step reads one piece, and tells whether there may be more.
func (w *walker) step(r *bufio.Reader) (bool, error) {
	piece, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if len(piece) > 0 {
		w.piece(piece)
	}
	if err != nil {
		if w.cur == nil && len(w.head) > 0 {
			w.headerDone()
		}
		w.v.end()
		return false, nil
	}
	return true, nil
}

func (w *walker) piece(p []byte) {
	start := !w.midline
	w.midline = p[len(p)-1] != '\n'
	if start && len(w.stack) > 0 && len(p) > 2 && p[0] == '-' && p[1] == '-' && w.boundary(p) {
		return
	}
	if w.cur != nil {
		w.v.body(w.cur, p)
		return
	}
	w.head = append(w.head, p...)
	if start && isBlank(p) {
		w.headerDone()
	} else if len(w.head) > maxHeader {
		w.odd = true
		w.headerDone()
	}
}

// boundary ends parts when a line is the boundary of a multipart around.
func (w *walker) boundary(line []byte) bool {
	text := strings.TrimRight(string(line[2:]), " \t\r\n")
	for i := len(w.stack) - 1; i >= 0; i-- {
		m := w.stack[i]
		if m.boundary == "" {
			continue
		}
		closing := text == m.boundary+"--"
		if !closing && text != m.boundary {
			continue
		}
		if w.cur == nil && len(w.head) > 0 { // a header without an end
			w.headerDone()
		}
		w.v.delimiter(line)
		w.stack = w.stack[:i+1]
		if closing {
			w.stack = w.stack[:i]
			w.cur = &part{signed: m.signed} // epilogue
			return true
		}
		w.cur = nil
		return true
	}
	return false
}

// headerDone reads the header that is complete and goes on with its body.
func (w *walker) headerDone() {
	raw := w.head
	w.head = nil
	p := w.describe(raw)
	if w.parts++; w.parts > maxParts || len(w.stack) > maxDepth {
		w.odd = true
		p.leaf, p.boundary, p.message = true, "", false
	}
	w.v.header(p, raw)
	switch {
	case p.message: // its own header follows
		w.stack = append(w.stack, p)
		w.cur = nil
	case p.boundary != "":
		w.stack = append(w.stack, p)
		w.cur = p
	default:
		w.cur = p
	}
}

func (w *walker) describe(raw []byte) *part {
	h := message.ParseHeader(raw)
	p := &part{declared: h.Has("Content-Transfer-Encoding")}
	digest := false
	if n := len(w.stack); n > 0 {
		p.signed, digest = w.stack[n-1].signed, w.stack[n-1].digest
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		w.odd = w.odd || strings.Contains(strings.ToLower(h.Get("Content-Type")), "multipart")
		if kind = "text/plain"; digest && !h.Has("Content-Type") {
			kind = "message/rfc822"
		}
	}
	enc := strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding")))
	p.encoded = enc == "quoted-printable" || enc == "base64"
	switch {
	case kind == "multipart/signed", kind == "multipart/encrypted":
		p.signed = true
	case kind == "multipart/digest":
		p.digest = true
	}
	switch {
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		p.boundary = strings.TrimRight(params["boundary"], " \t")
	case strings.HasPrefix(kind, "multipart/"):
		w.odd, p.leaf = true, true
	case kind == "message/rfc822" && !p.encoded:
		p.message = true
	default:
		p.leaf, p.text = true, strings.HasPrefix(kind, "text/")
		if strings.HasPrefix(kind, "message/") && !p.encoded {
			p.text = false // message/partial must be 7-bit, others may be encoded
		}
	}
	return p
}

func isBlank(line []byte) bool { return len(bytes.TrimRight(line, "\r\n")) == 0 }

// fieldEnd is behind a field with its folded lines.
func fieldEnd(b []byte) int {
	off := 0
	for {
		i := bytes.IndexByte(b[off:], '\n')
		if i < 0 {
			return len(b)
		}
		off += i + 1
		if off >= len(b) || b[off] != ' ' && b[off] != '\t' || off == i+1 && isBlank(b[:off]) {
			return off
		}
	}
}
