package exchange

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sample(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParse(t *testing.T) {
	for _, text := range []string{sample(t), "\ufeff" + sample(t)} {
		e, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if e.Server != "EX1" || len(e.All("acceptedDomain")) != 4 || len(e.All("nothing")) != 0 {
			t.Errorf("%+v", e)
		}
		o := e.All("ReceiveConnector")[0]
		if o.Name != "Default Frontend EX1" || !o.On("Enabled") || o.On("AnonymousRelay") || o.Value("banner") != "220 mx.example.com Mail & more" || len(o.Values("Bindings")) != 2 || o.Value("none") != "" {
			t.Errorf("%+v", o)
		}
	}
}

// covers: R3.68
func TestParseRefuses(t *testing.T) {
	open := `<ExchangeExport version="1">`
	for text, want := range map[string]string{
		"":                                      "is empty",
		" \r\n":                                 "is empty",
		"hello":                                 "is no XML",
		"<a":                                    "line 1",
		`<Objs Version="1.1.0.1"></Objs>`:       "root element is <Objs>, not <ExchangeExport>",
		"<ExchangeExport/>":                     `version ""`,
		`<ExchangeExport version="2"/>`:         `version "2"; this program reads version 1`,
		open + "\n<object name='x'/>":           "line 2: an object has no type",
		open + "<setting/>":                     "<setting> stands where <object>",
		open + "<object type='a'>text</object>": `text "text" stands where <property>`,
		open + "<object type='a'><property name='b'><value>x":                                                "line 1",
		open + "<object type='a'><property/></object>":                                                       "a property has no name",
		open + "<object type='a'><property name='b'><value><c/></value>":                                     "<c> stands inside of a value",
		open + "</ExchangeExport><more/>":                                                                    "something stands behind",
		`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>` + open + "</ExchangeExport>":              "DOCTYPE",
		open + "<object type='a'><property name='b'><value>&a;</value></property></object></ExchangeExport>": "invalid character entity",
		`<?xml version="1.0" encoding="utf-16"?>` + open + "</ExchangeExport>":                               "only UTF-8",
		"\xff\xfe<\x00E\x00":     "not UTF-8",
		"\ufffd\ufffd<\x00E\x00": "not UTF-8",
		open + "<object type='a'><property name='b'><value>" + strings.Repeat("x", MaxValue+1) + "</value></property></object></ExchangeExport>":  "a value has more than",
		open + "<object type='" + strings.Repeat("x", 300) + "'/></ExchangeExport>":                                                               "more than 256 octets",
		open + strings.Repeat("<object type='a'/>", MaxObjects+1) + "</ExchangeExport>":                                                           "more than 20000 objects",
		open + "<object type='a'><property name='b'>" + strings.Repeat("<value>x</value>", MaxValues+1) + "</property></object></ExchangeExport>": "more than 200000 values",
		open + strings.Repeat(" ", MaxSize):                 "more than 8 MB",
		open + strings.Repeat("<object type='a'>", 100_000): "<object> stands where <property>",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Add(`<ExchangeExport version="1"><object type="a" name=""><property name="b"><value/></property></object></ExchangeExport>`)
	f.Add(`<!DOCTYPE x><ExchangeExport version="1"/>`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		n := 0
		for _, o := range e.Objects {
			for _, p := range o.Properties {
				for _, v := range p.Values {
					n++
					if len(v) > MaxValue {
						t.Errorf("a value of %d octets", len(v))
					}
					Octets(v)
					Duration(v)
					Port(v)
					Networks(v)
					ParseSpace(v)
				}
			}
		}
		if n > MaxValues || len(e.Objects) > MaxObjects {
			t.Errorf("%d objects with %d values", len(e.Objects), n)
		}
	})
}

func TestOctets(t *testing.T) {
	for text, want := range map[string]int64{
		"36 MB (37,748,736 bytes)": 37748736, "36 MB (37.748.736 bytes)": 37748736, "36 MB (37\u202f748\u202f736 bytes)": 37748736,
		"36 MB (37\u00a0748\u00a0736 bytes)": 37748736, "1024": 1024, "0 B (0 bytes)": 0,
		"": -1, "unlimited": -1, "36 MB": -1, "-1": -1, "1,024": -1, "(bytes)": -1, "1 (2 octets)": -1, "99999999999999999999": -1,
	} {
		if got, err := Octets(text); err != nil && want >= 0 || err == nil && got != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2.00:00:00": 48 * time.Hour, "04:00:00": 4 * time.Hour, "00:10:05.5000000": 605 * time.Second,
		"": -1, "2": -1, "1:2": -1, "24:00:00": -1, "00:60:00": -1, "-00:01:00": -1, "99999.00:00:00": -1,
	} {
		if got, err := Duration(text); err != nil && want >= 0 || err == nil && got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
}

func TestPortAndSpace(t *testing.T) {
	for text, want := range map[string]int{"0.0.0.0:25": 25, "[::]:587": 587, "25": 0, "x:0": 0, "x:70000": 0, "": 0} {
		if got, ok := Port(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	for text, want := range map[string]Space{"SMTP:*;1": {"*", 1}, "smtp:A.Example;10": {"a.example", 10}, "a.example": {"a.example", 0}, "X400:c=us;1": {}, "": {}} {
		if got, ok := ParseSpace(text); ok != (want.Domain != "") || got.Domain != want.Domain && ok || ok && got.Cost != want.Cost {
			t.Errorf("%q: %+v %v", text, got, ok)
		}
	}
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3": "[10.1.2.3/32]", "10.1.2.3/24": "[10.1.2.0/24]", "10.2.0.0-10.2.0.2": "[10.2.0.0/31 10.2.0.2/32]", "0.0.0.0-255.255.255.255": "[0.0.0.0/0]",
		"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "[::/0]", "2001:db8::-2001:db8::1": "[2001:db8::/127]", "255.255.255.255": "[255.255.255.255/32]",
		"10.0.0.2-10.0.0.1": "", "10.0.0.1-::1": "", "x": "", "": "", "10.0.0.1-": "", "0.0.0.1-255.255.255.254": "", "fe80::1%eth0": "",
	} {
		got, err := Networks(text)
		if text == "0.0.0.1-255.255.255.254" {
			if err == nil || !strings.Contains(err.Error(), "more than 32") {
				t.Errorf("%q: %v %v", text, got, err)
			}
		} else if s := fmt.Sprint(got); err != nil && want != "" || err == nil && s != want {
			t.Errorf("%q: %s %v, want %s", text, s, err, want)
		}
	}
}

// Networks of a range are the range, no address more or less.
func TestNetworksAreTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
		a := rapid.IntRange(0, 2000).Draw(t, "first")
		b := rapid.IntRange(a, 2000).Draw(t, "last")
		list, err := Networks(at(a).String() + "-" + at(b).String())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2100 {
			in := 0
			for _, p := range list {
				if p.Contains(at(n)) {
					in++
				}
			}
			if want := n >= a && n <= b; want && in != 1 || !want && in != 0 {
				t.Fatalf("%s is in %d of %v", at(n), in, list)
			}
		}
	})
}

// The script has never run on Exchange here; what can be told of its text is held.
// covers: R3.65
func TestScript(t *testing.T) {
	for i, r := range Script {
		if r > 126 || r < ' ' && r != '\n' {
			t.Fatalf("octet %d is %q: Windows PowerShell reads files without a mark as ANSI", i, r)
		}
	}
	for _, want := range []string{ConfigFile, AliasFile, "WriteStartElement('" + Root + "')", "WriteAttributeString('version', '" + Version + "')", "'" + NotExported + "'", "UTF8Encoding $false"} {
		if !strings.Contains(Script, want) {
			t.Errorf("%s is missing", want)
		}
	}
	code := regexp.MustCompile(`(?s)<#.*?#>`).ReplaceAllString(Script, "")
	code = regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(code, "")
	code = strings.ReplaceAll(code, "'ms-Exch-SMTP-Accept-Any-Recipient'", "''") // a permission
	// It reads only: no cmdlet of Exchange that changes anything.
	for _, verb := range regexp.MustCompile(`\b([A-Z][a-z]+)-[A-Z][A-Za-z0-9]*`).FindAllStringSubmatch(code, -1) {
		switch verb[1] {
		case "Get", "Write", "New", "Add", "Join", "Where":
		default:
			t.Errorf("%s is not expected", verb[0])
		}
	}
	for _, name := range regexp.MustCompile(`\b(?:New|Add)-[A-Za-z]+`).FindAllString(code, -1) {
		if name != "New-Object" && name != "Add-Member" && name != "Add-PSSnapin" {
			t.Errorf("%s is not expected", name)
		}
	}
	balanced(t, code)
}

// balanced checks quotes and brackets, line by line and over all.
func balanced(t *testing.T, code string) {
	t.Helper()
	var open []rune
	for n, line := range strings.Split(code, "\n") {
		var quote rune
		for _, r := range line {
			switch {
			case quote != 0:
				if r == quote {
					quote = 0
				}
			case r == '\'' || r == '"':
				quote = r
			case strings.ContainsRune("([{", r):
				open = append(open, r)
			case strings.ContainsRune(")]}", r):
				if len(open) == 0 || strings.IndexRune("([{", open[len(open)-1]) != strings.IndexRune(")]}", r) {
					t.Fatalf("line %d: %c closes nothing", n+1, r)
				}
				open = open[:len(open)-1]
			}
		}
		if quote != 0 {
			t.Errorf("line %d: a quote stays open", n+1)
		}
	}
	if len(open) > 0 {
		t.Errorf("%c stays open", open)
	}
}
