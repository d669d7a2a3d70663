package sevenbit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func open(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func convert(text string) (string, *Facts, error) {
	f, err := Scan(open(text))
	if err != nil {
		return "", f, err
	}
	r, err := Convert(open(text), f)
	if err != nil {
		return "", f, err
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	return string(out), f, err
}

func TestConvert(t *testing.T) {
	in := "From: a@b.test\r\nContent-Type: multipart/mixed;\r\n boundary=\"b1\"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
		"préamble\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngrüße = \r\n.\r\n" +
		"--b1\r\nContent-Type: text/plain\r\n\r\nleft alone = \r\n" +
		"--b1\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\xff\r\n\r\n" +
		"--b1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>ü</p>\r\n" +
		"--b1--\r\nepilogue\r\n"
	want := "From: a@b.test\r\nContent-Type: multipart/mixed;\r\n boundary=\"b1\"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" +
		"pr??amble\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe =3D=20\r\n.\r\n" +
		"--b1\r\nContent-Type: text/plain\r\n\r\nleft alone = \r\n" +
		"--b1\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("\x89PNG\r\n\xff\r\n")) + "\r\n" +
		"--b1\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=BC</p>\r\n" +
		"--b1--\r\nepilogue\r\n"
	got, f, err := convert(in)
	if err != nil || got != want || f.Header8Bit || !f.Body8Bit {
		t.Errorf("%v %+v\n%s\nwant\n%s", err, f, got, want)
	}
}

func TestRefusesToConvert(t *testing.T) {
	part := "Content-Type: text/plain\r\n\r\nü\r\n"
	for text, want := range map[string]error{
		"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n" + part + "--x--\r\n":                                                                      ErrSigned,
		"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n" + part + "--y--\r\n\r\n--x--\r\n": ErrSigned,
		"Content-Transfer-Encoding: base64\r\n\r\nü\r\n":                                                                                                      ErrEncoded,
		"Content-Type: multipart/mixed\r\n\r\nü\r\n":                                                                                                          ErrOdd,
		strings.Repeat("X: y\r\n", 100_000) + "\r\nü\r\n":                                                                                                     ErrOdd,
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\nü\r\n", 2*maxParts) + "--x--\r\n":                                    ErrOdd,
	} {
		if _, _, err := convert(text); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", text, err, want)
		}
	}
	if _, f, _ := convert("Subject: gr\xfc\xdfe\r\n\r\nx\r\n"); !f.Header8Bit || f.Body8Bit {
		t.Errorf("a header in 8 bits: %+v", f)
	}
}

// Whatever is in the parts, a reader decodes what was written, and lines are short and ASCII.
func TestDecodesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SliceOfN(rapid.ByteRange(1, 255).Filter(func(b byte) bool { return b != '\r' && b != '\n' }), 0, 200)
		lines := func(label string) string {
			var b strings.Builder
			for _, l := range rapid.SliceOfN(line, 1, 6).Draw(t, label) {
				if bytes.HasPrefix(l, []byte("--")) {
					l = append([]byte("x"), l...)
				}
				b.Write(l)
				b.WriteString("\r\n")
			}
			return b.String()
		}
		text, bin := lines("text"), lines("binary")
		in := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + text +
			"\r\n--bb\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bin + "\r\n--bb--\r\n"
		out, f, err := convert(in)
		if err != nil {
			t.Fatal(err)
		}
		if f.Body8Bit && eight([]byte(out)) {
			t.Fatalf("8 bits are left: %q", out)
		}
		m, err := mail.ReadMessage(strings.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		mr := multipart.NewReader(m.Body, "bb")
		for _, want := range []string{text, bin} {
			p, err := mr.NextRawPart()
			if err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			var r io.Reader = p
			switch p.Header.Get("Content-Transfer-Encoding") {
			case "quoted-printable":
				r = quotedprintable.NewReader(p)
			case "base64":
				r = base64.NewDecoder(base64.StdEncoding, p)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != want {
				t.Fatalf("%v: %q\nwant %q", err, got, want)
			}
		}
	})
}

func FuzzConvert(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nü\r\n--x--\r\n")
	f.Add("Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n\xff")
	f.Fuzz(func(t *testing.T, in string) {
		out, facts, err := convert(in)
		switch {
		case err != nil:
		case !facts.Body8Bit && !facts.Header8Bit && !strings.Contains(strings.ToLower(in), "content-transfer-encoding") && out != in:
			t.Errorf("nothing to convert, but %q became %q", in, out)
		case !facts.Header8Bit && eight([]byte(out)):
			t.Errorf("%q became %q", in, out)
		}
	})
}
