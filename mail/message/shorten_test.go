package message

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// flood is a message with n parts, each with a header of its own.
func flood(n int, header string) string {
	part := "\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + header + "\r\n\r\ntext\r\n"
	return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, n) + "--b--\r\n"
}

// TestStructureIsBounded: nobody can make the server keep a hundred times of what he sends.
func TestStructureIsBounded(t *testing.T) {
	many := strings.Repeat("a@b,", 5000)
	params := ""
	for i := range 64 {
		params += fmt.Sprintf("; x%d=%s", i, strings.Repeat(`\"`, 300))
	}
	for name, raw := range map[string]string{
		"addresses":        flood(60, "From: "+many+"\r\nTo: "+many+"\r\nCc: "+many),
		"bare addresses":   flood(60, "From: "+strings.Repeat("a,", 10_000)),
		"groups":           flood(60, "From: "+strings.Repeat("a:;", 10_000)),
		"a long subject":   flood(3, "Subject: "+strings.Repeat(`"`, 700_000)),
		"8 bits":           flood(60, "From: "+strings.Repeat("\xe4@\xe4,", 5000)),
		"parameters":       "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("\r\n--b\r\nContent-Type: text/plain"+params+"\r\nContent-Disposition: inline"+params+"\r\n\r\nx", 200) + "\r\n--b--\r\n",
		"one long type":    "Content-Type: " + strings.Repeat("a", 100_000) + "/" + strings.Repeat("b", 100_000) + "\r\n\r\nx",
		"a long parameter": "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b; name=\"" + strings.Repeat(`x`, 700_000) + "\"\r\n\r\nx\r\n--b--\r\n",
	} {
		m := Summarize(nil, []byte(raw), DefaultLimits())
		if len(m.BodyStructure) > maxStructure || len(m.Body) > maxStructure {
			t.Errorf("%s: a structure of %d octets out of %d", name, len(m.BodyStructure), len(raw))
		}
		if s := string(m.BodyStructure); strings.Count(s, "(") < 1 || !strings.HasSuffix(s, ")") {
			t.Errorf("%s: %.100s", name, s)
		}
	}
	// The parts of a message that is cut are still there, with their sizes.
	m := Summarize(nil, []byte(flood(100, "Subject: x\r\nFrom: "+many)), DefaultLimits())
	if n := strings.Count(string(m.BodyStructure), `"MESSAGE" "RFC822"`); n != 100 {
		t.Errorf("%d of 100 parts", n)
	}
	// What honest mail has is written in full.
	names := ""
	for i := range 500 {
		names += fmt.Sprintf("\r\n--b\r\nContent-Type: image/jpeg; name=\"IMG_%06d from the journey.jpeg\"\r\nContent-Disposition: attachment; filename=\"IMG_%06d from the journey.jpeg\"\r\n\r\nx", i, i)
	}
	m = Summarize(nil, []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n"+names+"\r\n--b--\r\n"), DefaultLimits())
	if n := strings.Count(string(m.BodyStructure), "from the journey"); n != 1000 {
		t.Errorf("%d of 1000 names", n)
	}
}

// TestStructureBound: the bound is never below what is written.
func TestStructureBound(t *testing.T) {
	piece := rapid.SampledFrom([]string{"a", `"`, `\`, "\xe4", ",", ";", ":", "<", ">", "@", " ", "(", ")", "=", "x=y", "a@b", "\x00"})
	rapid.Check(t, func(t *rapid.T) {
		text := func(label string) string { return strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, label), "") }
		head := ""
		for _, name := range []string{"From", "Sender", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To"} {
			if rapid.Bool().Draw(t, name) {
				head += name + ": " + text(name) + "\r\n"
			}
		}
		raw := "Content-Type: message/rfc822; " + text("params") + "\r\nContent-Disposition: a; " + text("disposition") + "\r\nContent-ID: " + text("id") + "\r\n\r\n" + head + "Content-Description: " + text("desc") + "\r\nContent-Language: " + text("language") + "\r\n\r\nbody\r\n"
		root := Walk([]byte(raw), DefaultLimits()).Root
		if got, bound := len(appendStructure(nil, root, true)), structureBound(root); got > bound {
			t.Fatalf("%d octets, the bound is %d: %s", got, bound, raw)
		}
	})
}
