package remote

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestReadReply(t *testing.T) {
	for in, want := range map[string]string{
		"250 ok\r\n":                          "250 ok",
		"250\r\n":                             "250",
		"250-a\r\n250-b\r\n250 c\r\n":         "250 a b c",
		"550 5.1.1 who\x00 is\x1b[2J\xff\n":   "550 5.1.1 who? is?[2J?",
		"250-a\r\n450 b\r\n":                  "",
		"hello\r\n":                           "",
		"250 ok":                              "",
		"999 x\r\n":                           "",
		"25 x\r\n":                            "",
		"250_x\r\n":                           "",
		strings.Repeat("250-x\r\n", 500):      "",
		"250 " + strings.Repeat("x", 100_000): "",
	} {
		rep, err := readReply(bufio.NewReaderSize(strings.NewReader(in), 4096))
		if got := strings.TrimSpace(rep.text()); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%.40q: %q %v", in, got, err)
		}
	}
	if _, err := readReply(bufio.NewReader(io.LimitReader(endless{}, 10<<20))); !errors.Is(err, errTooMuch) {
		t.Errorf("ten megabytes: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rep, err := readReply(bufio.NewReaderSize(bytes.NewReader(in), 16))
		if err == nil && (rep.code < 200 || rep.code > 599 || len(rep.lines) == 0) {
			t.Errorf("%q: %+v", in, rep)
		}
		if text := rep.text(); len(text) > maxReason+10 || strings.ContainsAny(text, "\r\n\x00") {
			t.Errorf("%q: %q", in, text)
		}
	})
}

// Whatever the message and however it is cut into pieces: a reader of the wire sees one message,
// with every lone CR or LF a line end.
func TestNormalizer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOfN(rapid.SampledFrom([]rune(".\r\nab")), 0, 60, -1).Draw(t, "text")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 5), 0, 60).Draw(t, "cuts")
		var wire, plain bytes.Buffer
		for _, n := range []*normalizer{{w: &wire, stuff: true}, {w: &plain}} {
			rest := in
			for _, c := range cuts {
				c = min(c, len(rest))
				n.Write([]byte(rest[:c]))
				rest = rest[c:]
			}
			n.Write([]byte(rest))
			n.end()
		}
		want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(in)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if plain.String() != want {
			t.Fatalf("%q became %q, want %q", in, plain.String(), want)
		}
		var got strings.Builder
		for _, line := range strings.SplitAfter(wire.String(), "\r\n") {
			if line == ".\r\n" {
				t.Fatalf("%q ends early: %q", in, wire.String())
			}
			got.WriteString(strings.TrimPrefix(line, "."))
		}
		if got.String() != want {
			t.Fatalf("%q is read as %q, want %q", in, got.String(), want)
		}
	})
}
