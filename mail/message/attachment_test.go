package message

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// lines cuts base64 into lines as senders do.
func lines(data string) string {
	enc, out := base64.StdEncoding.EncodeToString([]byte(data)), ""
	for len(enc) > 76 {
		out, enc = out+enc[:76]+"\r\n", enc[76:]
	}
	return out + enc + "\r\n"
}

func multipart(kind string, parts ...string) string {
	out := "Content-Type: multipart/" + kind + "; boundary=" + kind + "\r\n\r\n"
	for _, p := range parts {
		out += "--" + kind + "\r\n" + p + "\r\n"
	}
	return out + "--" + kind + "--\r\n"
}

func TestLargestAttachment(t *testing.T) {
	// covers: I.37
	ten, big := strings.Repeat("0123456789", 10), strings.Repeat("x", 1000)
	text := "Content-Type: text/plain\r\n\r\n" + big
	file := func(head, data string) string {
		return head + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines(data)
	}
	pdf := "Content-Type: application/pdf; name=a.pdf"
	inner := "Subject: in it\r\n" + multipart("parallel", text, file(pdf+"\r\nContent-Disposition: attachment", ten))
	for _, c := range []struct {
		name, raw string
		size      int
		file      string
	}{
		{"text only", text, 0, ""},
		{"a file", multipart("mixed", text, file(pdf+"\r\nContent-Disposition: attachment; filename=b.pdf", ten)), 100, "b.pdf"},
		{"without a disposition", multipart("mixed", text, file(pdf, ten)), 100, "a.pdf"},
		{"shown with the text", multipart("mixed", text, file(pdf+"\r\nContent-Disposition: inline", ten)), 0, ""},
		{"a disposition that nobody knows", multipart("mixed", text, file(pdf+"\r\nContent-Disposition: enclosed", ten)), 100, "a.pdf"},
		{"text as a file", multipart("mixed", text, "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\n"+ten), 100, ""},
		{"text with a name", multipart("mixed", text, "Content-Type: text/csv; name=t.csv\r\n\r\n"+ten), 100, "t.csv"},
		{"a picture of the text", multipart("related", "Content-Type: text/html\r\n\r\n"+big, file("Content-Type: image/png\r\nContent-ID: <1@x>", ten)), 0, ""},
		{"a picture of no text", multipart("related", "Content-Type: text/html\r\n\r\n"+big, file("Content-Type: image/png", ten)), 100, ""},
		{"quoted-printable", multipart("mixed", text, pdf+"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=00=01=\r\n=02"), 3, "a.pdf"},
		{"as it is", multipart("mixed", text, pdf+"\r\nContent-Transfer-Encoding: binary\r\n\r\n"+ten), 100, "a.pdf"},
		{"the larger of two", multipart("mixed", file(pdf, ten), file("Content-Type: image/png; name=c.png", ten+"1"), file(pdf, ten)), 101, "c.png"},
		{"nested", multipart("mixed", text, multipart("signed", multipart("alternative", text, file(pdf, ten)))), 100, "a.pdf"},
		{"the message itself", file(pdf, ten), 100, "a.pdf"},
		{"a message in it", multipart("mixed", text, "Content-Type: message/rfc822\r\n\r\n"+inner), len(inner), ""},
		{"a message that is shown", multipart("mixed", text, "Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n"+inner), len(inner), ""},
		{"nothing in it", multipart("mixed", text, file(pdf, "")), 0, ""},
		{"no message at all", "", 0, ""},
	} {
		size, name := LargestAttachment([]byte(c.raw), DefaultLimits(), 0)
		if size != int64(c.size) || name != c.file {
			t.Errorf("%s: %d octets %q, want %d %q", c.name, size, name, c.size, c.file)
		}
		for floor, want := range map[int64]int64{int64(c.size): 0, int64(c.size) - 1: int64(c.size)} {
			if c.size == 0 {
				continue
			}
			if size, _ := LargestAttachment([]byte(c.raw), DefaultLimits(), floor); size != want {
				t.Errorf("%s, larger than %d: %d, want %d", c.name, floor, size, want)
			}
		}
	}
}

// TestLargestAttachmentIsDecoded: whatever is attached, in whatever encoding, its size is found.
func TestLargestAttachmentIsDecoded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want, parts := 0, []string{"Content-Type: text/plain\r\n\r\nhello"}
		for range rapid.IntRange(0, 4).Draw(r, "files") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(r, "data")
			enc := rapid.SampledFrom([]string{"base64", "quoted-printable"}).Draw(r, "encoding")
			body := lines(string(data))
			if enc == "quoted-printable" {
				var b bytes.Buffer
				w := quotedprintable.NewWriter(&b)
				w.Binary = true
				w.Write(data)
				w.Close()
				body = b.String()
			}
			parts = append(parts, "Content-Type: application/octet-stream\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: "+enc+"\r\n\r\n"+body)
			want = max(want, len(data))
		}
		if got, _ := LargestAttachment([]byte(multipart("mixed", parts...)), DefaultLimits(), 0); got != int64(want) {
			r.Fatalf("%d octets, want %d", got, want)
		}
	})
}

func FuzzLargestAttachment(f *testing.F) {
	f.Add([]byte(multipart("mixed", "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"+lines("abc"))))
	f.Add([]byte(multipart("mixed", "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		size, _ := LargestAttachment(raw, DefaultLimits(), 0)
		if size < 0 || size > int64(len(raw)) {
			t.Errorf("an attachment of %d octets in a message of %d", size, len(raw))
		}
		if more, _ := LargestAttachment(raw, DefaultLimits(), size); more != 0 {
			t.Errorf("the largest has %d octets, and there is one of %d", size, more)
		}
	})
}
