// Package feed is the form in which messages go up to the daemon: a line of JSON with the call's
// input, then for each message a line of JSON and its octets in chunks. Neither end holds a message
// in memory.
package feed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of what is read.
const (
	maxLine  = 256 << 10 // octets of a line of JSON
	maxChunk = 1 << 20
)

// Head is what is known of a message besides its octets.
type Head struct {
	Mailbox string   `json:"mailbox"` // empty: that of the call
	Name    string   `json:"name"`    // where it came from, for reports
	Flags   []string `json:"flags,omitempty"`
	Date    int64    `json:"date,omitempty"`  // of arrival, Unix seconds; 0: not known
	Error   string   `json:"error,omitempty"` // it can't be read, and has no octets

	User string `json:"user,omitempty"` // whose it is, where the call does not say
	Part string `json:"part,omitempty"` // the octets are no message, but this part of the input
}

// Writer writes a feed.
type Writer struct {
	w *bufio.Writer
}

// NewWriter begins a feed with the call's input.
func NewWriter(w io.Writer, input any) (*Writer, error) {
	f := &Writer{bufio.NewWriterSize(w, 64<<10)}
	return f, f.line(input)
}

func (f *Writer) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= maxLine {
		return errors.New("a message's flags and names are too long")
	}
	if _, err := f.w.Write(b); err != nil {
		return err
	}
	return f.w.WriteByte('\n')
}

// Message writes one message. An error of r becomes the message's own: it is named to the daemon,
// which drops it, and the feed goes on.
func (f *Writer) Message(h Head, r io.Reader) error {
	if err := f.line(h); err != nil || h.Error != "" {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, err := fmt.Fprintf(f.w, "%x\n", n); err != nil {
				return err
			}
			if _, err := f.w.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF):
			_, err := f.w.WriteString("0\n")
			return err
		case rerr != nil:
			if _, err := f.w.WriteString("!\n"); err != nil {
				return err
			}
			return f.line(rerr.Error())
		}
	}
}

// Close writes out what is left.
func (f *Writer) Close() error { return f.w.Flush() }

// Reader reads a feed.
type Reader struct {
	br   *bufio.Reader
	left int  // of the chunk
	open bool // within a message
	err  error
}

// NewReader reads a feed's input, the JSON of its first line.
func NewReader(r io.Reader) (*Reader, []byte, error) {
	f := &Reader{br: bufio.NewReaderSize(r, maxLine)}
	line, err := f.line()
	return f, append([]byte(nil), line...), err
}

var errForm = errors.New("the feed is damaged")

func (f *Reader) line() ([]byte, error) {
	line, err := f.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errForm
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return line[:len(line)-1], nil
}

// Next goes to the next message; io.EOF behind the last one. The Reader itself then gives the
// message's octets.
func (f *Reader) Next() (h Head, err error) {
	if f.open {
		var broken *MessageError
		if _, err := io.Copy(io.Discard, f); err != nil && !errors.As(err, &broken) {
			return h, err
		}
	}
	line, err := f.line()
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, errForm
	}
	f.open, f.err = h.Error == "", nil
	return h, nil
}

// MessageError is why the sender could not read a message to its end.
type MessageError struct{ Text string }

func (e *MessageError) Error() string { return e.Text }

// Read gives the octets of the message; a *MessageError when it is not whole.
func (f *Reader) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if !f.open {
		return 0, io.EOF
	}
	if f.left == 0 {
		if f.err = f.chunk(); f.err != nil {
			return 0, f.err
		}
	}
	n, err := f.br.Read(p[:min(len(p), f.left)])
	f.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// chunk reads the length of the next chunk.
func (f *Reader) chunk() error {
	line, err := f.line()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if string(line) == "!" {
		var text string
		if line, err = f.line(); err != nil || json.Unmarshal(line, &text) != nil {
			return errForm
		}
		f.open = false
		return &MessageError{text}
	}
	n, err := strconv.ParseUint(string(line), 16, 32)
	if err != nil || n > maxChunk {
		return errForm
	}
	if n == 0 {
		f.open = false
		return io.EOF
	}
	f.left = int(n)
	return nil
}
