package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"mailplusd/mail/remote/sevenbit"
)

// text is a message on its way out: read from its store piece by piece, never held whole.
type text struct {
	io.ReadCloser
	converted bool // to 7 bits
}

func (t *text) close() {
	if t != nil && t.ReadCloser != nil {
		t.Close()
	}
}

// openText opens a job's message for a server. One that takes no 8-bit text gets it as
// quoted-printable or base64; asciiHeader refuses a header that is not ASCII.
func openText(j *Job, eightBit, asciiHeader bool) (*text, error) {
	if eightBit && !asciiHeader {
		return plain(j)
	}
	facts, err := sevenbit.Scan(j.Open)
	if err != nil {
		return nil, unreadable(err)
	}
	if facts.Header8Bit && (asciiHeader || !eightBit) {
		return nil, &permanent{554, "5.6.7", fmt.Errorf("the message's header is not ASCII, and the other server takes only ASCII")}
	}
	if eightBit || !facts.Body8Bit {
		return plain(j)
	}
	r, err := sevenbit.Convert(j.Open, facts)
	if err != nil {
		return nil, &permanent{554, "5.6.3", fmt.Errorf("the message has 8-bit text, the other server takes only 7 bits, and %w", err)}
	}
	return &text{ReadCloser: r, converted: true}, nil
}

func plain(j *Job) (*text, error) {
	r, err := j.Open()
	if err != nil {
		return nil, unreadable(err)
	}
	return &text{ReadCloser: r}, nil
}

func unreadable(err error) error { return fmt.Errorf("the message can't be read: %w", err) }

// chunkSize is the most that is sent by one BDAT.
const chunkSize = 256 << 10

// send sends the text and gives the answer to it.
func (t *transaction) send() (reply, error) {
	if t.s.offers("CHUNKING") {
		return t.bdat()
	}
	if t.data == nil {
		rep, err := t.s.cmd(0, dataTime, "DATA")
		if err != nil {
			return rep, err
		}
		t.data = &rep
	}
	if t.data.code != 354 {
		return *t.data, nil
	}
	n := &normalizer{w: t.s.w, stuff: true}
	if rep, done, err := t.copy(n); done {
		return rep, err
	}
	n.end()
	t.s.w.WriteString(".\r\n")
	t.doubt = true
	if err := t.s.w.Flush(); err != nil {
		return reply{}, lost(err, "sending the end of the text; it may have arrived")
	}
	return t.last()
}

// last reads the answer to the whole text.
func (t *transaction) last() (reply, error) {
	t.doubt = true
	rep, err := t.s.read(finalTime, "the answer to the text; it may have arrived")
	if err == nil {
		t.doubt = false
	}
	return rep, err
}

// copy writes the text. A server that has had enough may say so in the middle and hang up; then
// its words count.
func (t *transaction) copy(w io.Writer) (rep reply, done bool, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		n, rerr := t.text.Read(buf[:])
		if _, werr := w.Write(buf[:n]); errors.Is(werr, errRefused) {
			return rep, false, nil
		} else if werr != nil {
			t.s.broken = true
			if rep, err := t.s.read(quitTime, "an answer in the middle of the text"); err == nil && rep.code >= 400 {
				return rep, true, nil
			}
			return rep, true, lost(werr, "sending the text")
		}
		switch {
		case rerr == io.EOF:
			return rep, false, nil
		case rerr != nil: // ours: the connection ends without the final dot
			return rep, true, unreadable(rerr)
		}
	}
}

// bdat sends the text in chunks (RFC 3030). One chunk may be unanswered while the next goes out.
func (t *transaction) bdat() (reply, error) {
	c := &chunker{t: t}
	n := &normalizer{w: c}
	if rep, done, err := t.copy(n); done {
		return rep, err
	}
	n.end()
	if c.refused == nil && c.err == nil {
		t.doubt = true
		c.flush(" LAST")
	}
	for ; c.pending > 1 && c.refused == nil && c.err == nil; c.pending-- {
		c.answer()
	}
	switch {
	case c.refused != nil:
		t.doubt, t.s.broken = false, true
		return *c.refused, nil
	case c.err != nil:
		return reply{}, c.err
	}
	return t.last()
}

// chunker gathers chunks and sends them.
type chunker struct {
	t       *transaction
	buf     bytes.Buffer
	pending int    // chunks without an answer
	refused *reply // of a chunk that was not the last
	err     error
}

func (c *chunker) Write(p []byte) (int, error) {
	if c.buf.Write(p); c.buf.Len() >= chunkSize && c.err == nil {
		c.flush("")
	}
	if c.refused != nil {
		return 0, errRefused
	}
	return len(p), c.err
}

// errRefused ends the sending of chunks early.
var errRefused = errors.New("a chunk was refused")

func (c *chunker) flush(last string) {
	w := c.t.s.w
	fmt.Fprintf(w, "BDAT %d%s\r\n", c.buf.Len(), last)
	w.Write(c.buf.Bytes())
	c.buf.Reset()
	if err := w.Flush(); err != nil {
		c.err = lost(err, "sending the text")
		return
	}
	if c.pending++; last == "" && c.pending > 1 {
		c.answer()
		c.pending--
	}
}

// answer reads that of the oldest chunk.
func (c *chunker) answer() {
	rep, err := c.t.s.read(commandTime, "the answer to BDAT")
	if err != nil {
		c.err = err
	} else if rep.code/100 != 2 {
		c.refused = &rep
	}
}
