package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFeed(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, map[string]string{"user": "carol"})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789", 50_000)
	for _, m := range []struct {
		h Head
		r io.Reader
	}{
		{Head{Name: "one", Flags: []string{`\Seen`}, Date: 5}, strings.NewReader(long)},
		{Head{Name: "two", Error: "no such file"}, nil},
		{Head{Name: "three"}, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("torn")))},
		{Head{Name: "four"}, strings.NewReader("")},
		{Head{Name: "passed over"}, strings.NewReader(long)},
		{Head{Name: "five"}, strings.NewReader("x\n0\n!\n")},
	} {
		if err := w.Message(m.h, m.r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	r, in, err := NewReader(iotest.OneByteReader(&b))
	if err != nil || string(in) != `{"user":"carol"}` {
		t.Fatalf("%s %v", in, err)
	}
	var got []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "passed over" {
			continue
		}
		text, err := io.ReadAll(r)
		got = append(got, fmt.Sprintf("%s %v %d %q %d %v", h.Name, h.Flags, h.Date, h.Error, len(text), err))
	}
	want := []string{`one [\Seen] 5 "" 500000 <nil>`, `two [] 0 "no such file" 0 <nil>`, `three [] 0 "" 4 torn`, `four [] 0 "" 0 <nil>`, `five [] 0 "" 6 <nil>`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for cut := 20; cut < len(whole)-1; cut += 9973 { // wherever it ends, that is no message's end
		r, _, err := NewReader(strings.NewReader(whole[:cut]))
		for err == nil {
			if _, err = r.Next(); err == nil {
				var broken *MessageError
				if _, err = io.Copy(io.Discard, r); errors.As(err, &broken) {
					err = nil
				}
			}
		}
		if errors.Is(err, io.EOF) && !strings.HasSuffix(whole[:cut], "\n") {
			t.Fatalf("cut at %d: taken for the end", cut)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("{}\n{\"name\":\"x\"}\n3\nabc0\n"))
	f.Add([]byte("{}\n{}\nffffffff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := NewReader(bytes.NewReader(b))
		for err == nil {
			_, err = r.Next()
			io.Copy(io.Discard, r)
		}
	})
}
