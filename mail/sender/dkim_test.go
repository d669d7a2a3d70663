package sender

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailplusd/mail/model"

	"github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"
)

// clear is a vault that seals nothing.
func clear(use, sealed string) (string, error) {
	text, ok := strings.CutPrefix(sealed, use+"|")
	if !ok {
		return "", errors.New("sealed for something else")
	}
	return text, nil
}

func seal(p *Pair) string { return Use(p.Public) + "|" + p.Private }

func record(p *Pair) string {
	k := model.DKIMKey{Algorithm: p.Algorithm, Public: p.Public}
	return k.Record()
}

func pair(t testing.TB, algorithm string, bits int) *Pair {
	t.Helper()
	p, err := Generate(algorithm, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verify gives the domains whose signatures hold.
func verify(text string, records map[string]string) (good []string, last error) {
	list, err := dkim.VerifyWithOptions(strings.NewReader(text), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if r, ok := records[name]; ok {
			return []string{r}, nil
		}
		return nil, fmt.Errorf("%s does not exist", name)
	}})
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if v.Err != nil {
			last = v.Err
			continue
		}
		good = append(good, v.Domain)
	}
	return good, last
}

const letter = "From: Ann <ann@example.com>\r\nTo: ben@peer.example\r\nSubject: hello\r\n there\r\nDate: Thu, 26 Nov 2026 01:00:00 +0000\r\n\r\nFirst line \t here  \r\n\r\n.dot\r\n\r\n\r\n"

// python has dkimpy say how many signatures of each message hold: a second opinion, from code that
// shares nothing with ours.
func python(t *testing.T, texts []string, records map[string]string) []string {
	t.Helper()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import dkim, nacl").CombinedOutput(); err != nil {
		t.Skipf("python3-dkim and python3-nacl are not installed: %v %s", err, out)
	}
	args := []string{"testdata/verify.py"}
	for name, r := range records {
		args = append(args, name+"="+r)
	}
	dir := t.TempDir()
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprintf("%03d", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.Command("/usr/bin/python3", args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestSignaturesVerify: with every kind of key, one signature or two, by two verifiers.
func TestSignaturesVerify(t *testing.T) {
	// covers: R8.26 R8.30 R8.32 R8.33
	weak, strong, ed := pair(t, model.DKIMRSA, 1024), pair(t, model.DKIMRSA, 0), pair(t, model.DKIMEd25519, 0)
	if strong.Bits != 2048 {
		t.Errorf("the default is %d bits", strong.Bits)
	}
	records := map[string]string{}
	var wholes, want []string
	for name, pairs := range map[string][]*Pair{"weak": {weak}, "strong": {strong}, "ed": {ed}, "both": {strong, ed}} {
		s := &Signer{Unseal: clear}
		var list []Signature
		for i, p := range pairs {
			sel := fmt.Sprint(name, i)
			records[sel+"._domainkey.example.com"] = record(p)
			list = append(list, Signature{"example.com", sel, p.Public, seal(p)})
		}
		for what, m := range map[string]struct{ head, text string }{
			"letter":    {"", letter},
			"added":     {"Message-ID: <1@example.com>\r\n", letter},
			"no body":   {"", "From: ann@example.com\r\n"},
			"no header": {"From: ann@example.com\r\n", "\r\nbody\r\n"},
			"blank":     {"", "From: ann@example.com\r\n\r\n\r\n\r\n"},
			"no end":    {"", "From: ann@example.com\r\n\r\nthe last line has no end"},
			"repeated":  {"", strings.Repeat("References: <1@example.com>\r\nSubject: again\r\n", 50) + letter},
		} {
			sig, err := s.Sign(list, []byte(m.head), []byte(m.text))
			if err != nil {
				t.Fatal(name, what, err)
			}
			whole := string(sig) + "Received: from x\r\n" + m.head + m.text
			if !strings.Contains(m.text, "\r\n\r\n") && !strings.HasPrefix(m.text, "\r\n") {
				whole += "\r\n"
			}
			if good, err := verify(whole, records); len(good) != len(pairs) || good[0] != "example.com" {
				t.Errorf("%s, %s: %v %v\n%s", name, what, good, err, whole)
			}
			for _, line := range strings.Split(string(sig), "\r\n") {
				if len(line) > 998 {
					t.Errorf("%s: a line of %d octets", what, len(line))
				}
			}
			wholes, want = append(wholes, whole), append(want, fmt.Sprintf("%d of %[1]d", len(pairs)))
		}
	}
	if got := python(t, wholes, records); !slices.Equal(got, want) {
		t.Errorf("dkimpy says %q, want %q", got, want)
	}
}

// TestWhatIsSigned: what a reader is shown can't be changed or added to, trace fields can.
func TestWhatIsSigned(t *testing.T) {
	p := pair(t, model.DKIMEd25519, 0)
	s := &Signer{Unseal: clear}
	records := map[string]string{"s._domainkey.example.com": record(p)}
	sig, err := s.Sign([]Signature{{"example.com", "s", p.Public, seal(p)}}, nil, []byte(letter))
	if err != nil {
		t.Fatal(err)
	}
	for change, holds := range map[string]bool{
		"": true, "Received: from y\r\n": true, "Authentication-Results: x; none\r\n": true, "X-Spam: no\r\n": true,
		"From: mallory@example.com\r\n": false, "Subject: other\r\n": false, "To: all@example.com\r\n": false, "Reply-To: mallory@evil.example\r\n": false,
		"Content-Type: text/html\r\n": false, "MIME-Version: 1.0\r\n": false, "Date: now\r\n": false, "Cc: x@y.example\r\n": false, "Sender: x@y.example\r\n": false,
	} {
		good, err := verify(string(sig)+change+letter, records)
		if (len(good) == 1) != holds {
			t.Errorf("with %q in front: %v %v", change, good, err)
		}
	}
	for old, new := range map[string]string{"First line": "Last line", "<ann@": "<bob@", "hello": "bye"} {
		if good, _ := verify(string(sig)+strings.Replace(letter, old, new, 1), records); len(good) > 0 {
			t.Errorf("%q for %q is not noticed", new, old)
		}
	}
}

// TestSealedForAnother: a key that this node can't read is told, and the other signs all the same.
func TestSealedForAnother(t *testing.T) {
	a, b := pair(t, model.DKIMEd25519, 0), pair(t, model.DKIMEd25519, 0)
	s := &Signer{Unseal: clear}
	sig, err := s.Sign([]Signature{{"example.com", "a", a.Public, seal(b)}, {"example.com", "b", b.Public, seal(b)}}, nil, []byte(letter))
	if err == nil || !strings.Contains(err.Error(), "a._domainkey.example.com") {
		t.Errorf("error %v", err)
	}
	if good, err := verify(string(sig)+letter, map[string]string{"b._domainkey.example.com": record(b)}); len(good) != 1 {
		t.Error(good, err)
	}
	if s.Ready(a.Public, seal(b)) == nil || s.Ready(b.Public, seal(b)) != nil {
		t.Error("Ready is wrong")
	}
}

// Whatever is in it, a message verifies.
func TestAnyTextVerifies(t *testing.T) {
	p := pair(t, model.DKIMEd25519, 0)
	s := &Signer{Unseal: clear}
	records := map[string]string{"s._domainkey.example.com": record(p)}
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SliceOfN(rapid.ByteRange(0, 255).Filter(func(b byte) bool { return b != '\r' && b != '\n' }), 0, 100)
		var b bytes.Buffer
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"From", "To", "Subject", "subject", "X-Y", "References", "List-Id", "Content-Type"}), 0, 12).Draw(t, "fields") {
			fmt.Fprintf(&b, "%s: %s\r\n", name, line.Draw(t, "value"))
		}
		b.WriteString("From: a@example.com\r\n\r\n")
		for _, l := range rapid.SliceOfN(line, 0, 8).Draw(t, "body") {
			b.Write(l)
			b.WriteString("\r\n")
		}
		sig, err := s.Sign([]Signature{{"example.com", "s", p.Public, seal(p)}}, nil, b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if good, err := verify(string(sig)+b.String(), records); len(good) != 1 {
			t.Fatalf("%v\n%q", err, b.String())
		}
	})
}

func TestParsePEM(t *testing.T) {
	for _, text := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := ParsePEM(text); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	for _, c := range []struct {
		args []string
		alg  string
		bits int
		bad  bool
	}{
		{args: []string{"genrsa", "-traditional", "2048"}, alg: model.DKIMRSA, bits: 2048},
		{args: []string{"genrsa", "1024"}, alg: model.DKIMRSA, bits: 1024},
		{args: []string{"genpkey", "-algorithm", "ed25519"}, alg: model.DKIMEd25519},
		{args: []string{"genrsa", "768"}, bad: true},
		{args: []string{"ecparam", "-name", "prime256v1", "-genkey", "-noout"}, bad: true},
	} {
		out, err := exec.Command("openssl", c.args...).Output()
		if err != nil {
			t.Fatal(c.args, err)
		}
		p, err := ParsePEM(string(out))
		if c.bad {
			if err == nil {
				t.Errorf("%v is taken", c.args)
			}
			continue
		}
		if err != nil || p.Algorithm != c.alg || p.Bits != c.bits {
			t.Errorf("%v: %+v %v", c.args, p, err)
			continue
		}
		s := &Signer{Unseal: clear}
		sig, err := s.Sign([]Signature{{"example.com", "s", p.Public, seal(p)}}, nil, []byte(letter))
		if err != nil {
			t.Fatal(err)
		}
		if good, err := verify(string(sig)+letter, map[string]string{"s._domainkey.example.com": record(p)}); len(good) != 1 {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}

func TestParseRecord(t *testing.T) {
	p := pair(t, model.DKIMEd25519, 0)
	b64 := base64.StdEncoding.EncodeToString(p.Public)
	for text, want := range map[string]string{
		"v=DKIM1; k=ed25519; p=" + b64:                           "",
		"v=DKIM1;k=ed25519;t=s; p=" + b64[:9] + " " + b64[9:]:    "",
		"k=ed25519; p=" + b64 + ";":                              "",
		"v=DKIM1; k=ed25519; s=*:email; h=sha1:sha256; p=" + b64: "",
		"v=spf1 -all":                    "no DKIM key record",
		"hello":                          "no DKIM key record",
		"v=DKIM1,k=rsa,p=MIGM":           "commas",
		"v=DKIM1; k=rsa":                 "no p=",
		"v=DKIM2; p=" + b64:              "version",
		"k=rsa; v=DKIM1; p=" + b64:       "not the first",
		"v=DKIM1; p=" + b64[:9]:          "base64",
		"v=DKIM1; p=\"" + b64 + "\"":     "base64",
		"v=DKIM1; h=sha1; p=" + b64:      "sha256",
		"v=DKIM1; s=other; p=" + b64:     "not for mail",
		"v=DKIM1; p=" + b64 + "; p=x":    "twice",
		"v=DKIM1; nonsense; p=" + b64:    "tag=value",
		strings.Repeat("x", maxRecord+1): "more than",
	} {
		rec, err := ParseRecord(text)
		switch {
		case want == "" && (err != nil || !bytes.Equal(rec.Public, p.Public) || rec.Algorithm != "ed25519" || rec.Testing):
			t.Errorf("%q: %+v %v", text, rec, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
	if rec, err := ParseRecord("v=DKIM1; t=y:s; p="); err != nil || !rec.Testing || len(rec.Public) != 0 || rec.Algorithm != "rsa" {
		t.Errorf("%+v %v", rec, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=DKIM1; k=rsa; p=MIGM")
	f.Add(";;=;p=")
	f.Fuzz(func(t *testing.T, text string) {
		if rec, err := ParseRecord(text); err == nil {
			k := model.DKIMKey{Algorithm: rec.Algorithm, Public: rec.Public}
			if again, err := ParseRecord(k.Record()); !strings.ContainsAny(rec.Algorithm, ";=,") && (err != nil || !bytes.Equal(again.Public, rec.Public)) {
				t.Errorf("%q is published as %q: %v", text, k.Record(), err)
			}
		}
	})
}

func FuzzSign(f *testing.F) {
	p := pair(f, model.DKIMEd25519, 0)
	f.Add("From: a@b\r\n\r\nx")
	f.Add("\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := &Signer{Unseal: clear}
		s.Sign([]Signature{{"example.com", "s", p.Public, seal(p)}}, nil, []byte(text))
	})
}
