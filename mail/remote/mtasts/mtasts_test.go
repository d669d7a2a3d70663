package mtasts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

const plain = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"

func TestParsePolicy(t *testing.T) {
	var many strings.Builder
	many.WriteString("version: STSv1\nmode: enforce\nmax_age: 86400\n")
	for i := range 1000 {
		fmt.Fprintf(&many, "mx: mx%d.example.com\n", i)
	}
	for _, x := range []struct {
		name, text, err string
		mx              int
	}{
		{"of RFC 8461", plain, "", 2},
		{"other order, spaces, unknown keys, LF", "mode:testing\nmax_age : 0\n mx:a.test \nfuture: yes\nversion:STSv1", "", 1},
		{"the first of a key counts", plain + "mode: none\nversion: STSv2\n", "", 2},
		{"none needs no mx", "version: STSv1\nmode: none\nmax_age: 86400\n", "", 0},
		{"1,000 mx", many.String(), "", 1000},
		{"empty", "", "no version", 0},
		{"no mode", "version: STSv1\nmx: a.test\nmax_age: 1", "no mode", 0},
		{"no max_age", "version: STSv1\nmx: a.test\nmode: enforce", "no max_age", 0},
		{"no mx", "version: STSv1\nmax_age: 1\nmode: enforce", "names no mail server", 0},
		{"HTML", "<html>", "without a colon", 0},
		{"version", "version: STSv2", `version "STSv2"`, 0},
		{"mode", "mode: on", `mode "on"`, 0},
		{"negative", "max_age: -1", "no number", 0},
		{"too large a number", "max_age: 99999999999999999999", "no number", 0},
		{"star in the middle", "mx: a.*.test", "is no name", 0},
		{"too many", "version: STSv1\n" + strings.Repeat("mx: a.b\n", maxMX+1), "more than 5000", 0},
		{"too large", strings.Repeat("x", MaxPolicy+1), "larger than 64 KB", 0},
	} {
		p, err := ParsePolicy([]byte(x.text))
		if (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: %v", x.name, err)
		}
		if err == nil && (len(p.MX) != x.mx || p.MaxAge > MaxAge) {
			t.Errorf("%s: %+v", x.name, p)
		}
	}
	p, _ := ParsePolicy([]byte(plain))
	for host, want := range map[string]bool{"mail.example.com": true, "MAIL.example.com.": true, "x.example.net": true, "x.y.example.net": false, "example.net": false, "mail.example.com.evil.test": false, "": false} {
		if p.Allows(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	for _, x := range []struct {
		txts []string
		id   string
		err  string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z", ""},
		{[]string{"v=spf1 -all", "v=STSv1;id=1"}, "1", ""},
		{[]string{"v=STSv1; x=y; id=a; id=b"}, "a", ""},
		{[]string{"v=spf1 -all"}, "", "no MTA-STS record"},
		{[]string{"v=STSv11; id=1"}, "", "no MTA-STS record"},
		{nil, "", "no MTA-STS record"},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=2"}, "", "two"},
		{[]string{"v=STSv1;"}, "", "no valid id"},
		{[]string{"v=STSv1; id=" + strings.Repeat("1", 33)}, "", "no valid id"},
		{[]string{"v=STSv1; id=1\x00"}, "", "no valid id"},
	} {
		id, err := ParseRecord(x.txts)
		if (err == nil) != (x.err == "") || err == nil && id != x.id || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%q: %q %v", x.txts, id, err)
		}
	}
}

// world is DNS, HTTPS and the store of a test.
type world struct {
	txt     []string
	txtErr  error
	text    string
	err     error
	asked   int
	fetched int
	kept    map[string]Entry
	now     time.Time
}

func (w *world) Load(domain string) (*Entry, error) {
	if e, ok := w.kept[domain]; ok {
		return &e, nil
	}
	return nil, nil
}
func (w *world) Save(_ context.Context, e Entry) error { w.kept[e.Domain] = e; return nil }

func (w *world) cache() *Cache {
	return &Cache{
		TXT: func(context.Context, string) ([]string, error) { w.asked++; return w.txt, w.txtErr },
		Fetch: func(context.Context, string) ([]byte, error) {
			w.fetched++
			return []byte(w.text), w.err
		},
		Store: w, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
	}
}

// TestCache goes through the life of a policy (RFC 8461 §3.3, §5.1).
func TestCache(t *testing.T) {
	w := &world{kept: map[string]Entry{}, now: time.Unix(1e9, 0), txt: []string{"v=STSv1; id=1"}, text: plain}
	c := w.cache()
	want := func(what string, id string, asked, fetched int) {
		t.Helper()
		p, _ := c.Get(context.Background(), "example.com")
		got := ""
		if p != nil {
			got = p.ID
		}
		if got != id || w.asked != asked || w.fetched != fetched {
			t.Errorf("%s: policy %q, %d questions, %d fetches; want %q, %d, %d", what, got, w.asked, w.fetched, id, asked, fetched)
		}
	}
	later := func(d time.Duration) { w.now = w.now.Add(d) }
	want("first", "1", 1, 1)
	want("at once again", "1", 1, 1)
	later(recheck)
	want("same ID", "1", 2, 1)
	w.txt, w.err = []string{"v=STSv1; id=2"}, errors.New("down")
	later(recheck)
	want("new ID, fetch fails: the old one holds", "1", 3, 2)
	if _, err := c.Get(context.Background(), "example.com"); err == nil {
		t.Error("the failure is not told")
	}
	w.txtErr = errors.New("no answer")
	later(recheck)
	want("DNS is down, too", "1", 4, 2)
	c = w.cache() // a restart
	want("after a restart", "1", 5, 2)
	w.txtErr, w.txt = nil, nil
	later(recheck)
	want("record gone: the policy holds until its end", "1", 6, 2)
	w.txt, w.err, w.text = []string{"v=STSv1; id=2"}, nil, strings.Replace(plain, "604800", "100000", 1)
	later(recheck)
	want("fetched", "2", 7, 3)
	later(refresh + time.Second)
	want("refreshed daily", "2", 8, 4)
	w.err = errors.New("down")
	later(100001 * time.Second)
	want("at its end", "", 9, 5)
	w.err, w.text = nil, "version: STSv1\nmode: none\nmax_age: 86400\n"
	later(recheck)
	want("withdrawn", "", 10, 6)
	if w.kept["example.com"].Text != w.text {
		t.Error("the withdrawal is not kept")
	}
}

// TestMemoryIsBounded: the memory of many domains is given up, not grown.
func TestMemoryIsBounded(t *testing.T) {
	w := &world{kept: map[string]Entry{}, now: time.Unix(1e9, 0)}
	c := w.cache()
	for i := range maxKept + 10 {
		if p, err := c.Get(context.Background(), fmt.Sprintf("d%d.test", i)); p != nil || err != nil {
			t.Fatal(p, err)
		}
	}
	if len(c.seen) > maxKept {
		t.Errorf("%d domains are remembered", len(c.seen))
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(plain))
	f.Add([]byte("mode:testing\nmax_age:1\nmx:*.a.b\nversion:STSv1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePolicy(raw)
		if err != nil {
			return
		}
		again, err := ParsePolicy([]byte(strings.Join(p.Lines(), "\r\n")))
		if err != nil || again.Mode != p.Mode || again.MaxAge != p.MaxAge {
			t.Errorf("%+v is written as %q, which is read as %+v %v", p, p.Lines(), again, err)
		}
		for _, mx := range p.MX {
			if !strings.HasPrefix(mx, "*") && !p.Allows(mx) {
				t.Errorf("%q is not allowed", mx)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("v=STSv1; id=1;")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseRecord([]string{s}); err == nil && !ValidID(id) {
			t.Errorf("%q", id)
		}
	})
}
