package srs_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/srs"

	"pgregory.net/rapid"
)

var (
	now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	rw  = &srs.Rewriter{Secret: []byte("tops3cr3t")}
)

func forward(t testing.TB, r *srs.Rewriter, local, domain, via string) string {
	t.Helper()
	out, err := r.Forward(local, domain, via, now)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForwardAndBack walks a bounce back over three forwarders, as the paper does.
func TestForwardAndBack(t *testing.T) {
	second, third := &srs.Rewriter{Secret: []byte("other")}, &srs.Rewriter{Secret: []byte("third")}
	one := forward(t, rw, "anna", "source.example", "one.example")
	two := forward(t, second, one, "one.example", "two.example")
	three := forward(t, third, two, "two.example", "three.example")
	if !strings.HasPrefix(one, "SRS0=") || !strings.HasSuffix(one, "=source.example=anna") || !strings.HasPrefix(two, "SRS1=") || !strings.HasPrefix(three, "SRS1=") {
		t.Fatalf("%s %s %s", one, two, three)
	}
	if rest := strings.SplitN(three, "=", 3)[2]; rest != "one.example="+one[4:] {
		t.Errorf("the third address is not about the first forwarder: %s", three)
	}
	// A bounce passes over the forwarders between the last and the first.
	local, domain, err := third.Reverse(three, now)
	if err != nil || local != one || domain != "one.example" {
		t.Fatalf("%s@%s %v", local, domain, err)
	}
	if local, domain, err = rw.Reverse(local, now); err != nil || local != "anna" || domain != "source.example" {
		t.Errorf("%s@%s %v", local, domain, err)
	}
	for _, s := range []string{one, two, three} {
		if l, d, ok := srs.Base(s); !ok || l != "anna" || d != "source.example" {
			t.Errorf("the base of %s is %s@%s", s, l, d)
		}
	}
}

func TestReverseRefuses(t *testing.T) {
	good := forward(t, rw, "anna", "source.example", "one.example")
	guarded := forward(t, rw, "SRS0=abcd=2W=far.example=x", "other.example", "one.example")
	for _, c := range []struct {
		local string
		want  error
	}{
		{good, nil}, {strings.ToLower(good), nil}, {strings.ToUpper(good), nil}, {guarded, nil},
		{strings.Replace(good, "=anna", "=anne", 1), srs.ErrForged},
		{strings.Replace(good, "source", "sauce", 1), srs.ErrForged},
		{good[:5] + "AAAAAAAA" + good[13:], srs.ErrForged},
		{good[:5] + good[9:], srs.ErrForged}, // a shorter hash
		{strings.Replace(guarded, "other", "another", 1), srs.ErrForged},
		{strings.Replace(guarded, "=abcd", "=abce", 1), srs.ErrForged},
		{"anna", srs.ErrNotSRS}, {"SRS0", srs.ErrNotSRS}, {"SRS0=", srs.ErrNotSRS}, {"SRS0=a=b", srs.ErrNotSRS}, {"SRS0=a=b==", srs.ErrNotSRS},
		{"SRS1=a=b", srs.ErrNotSRS}, {"SRS1=a==x=", srs.ErrNotSRS}, {"SRS1=a=b=xyz", srs.ErrNotSRS}, {"SRS2=a=b=c=d", srs.ErrNotSRS}, {"srs0_x", srs.ErrNotSRS},
		{"SRS0=" + strings.Repeat("a", 300), srs.ErrNotSRS},
	} {
		if _, _, err := rw.Reverse(c.local, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.local, err, c.want)
		}
	}
	if _, err := rw.Forward(strings.Repeat("a", 60), strings.Repeat("d", 60)+".example", strings.Repeat("v.", 80)+"example", now); !errors.Is(err, srs.ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

func TestAge(t *testing.T) {
	s := forward(t, rw, "anna", "source.example", "one.example")
	for days, want := range map[int]error{-2: srs.ErrExpired, -1: nil, 0: nil, 21: nil, 22: srs.ErrExpired, 1000: srs.ErrExpired} {
		if _, _, err := rw.Reverse(s, now.AddDate(0, 0, days)); !errors.Is(err, want) {
			t.Errorf("%d days later: %v, want %v", days, err, want)
		}
	}
}

// TestReference compares with Mail::SRS, the reference that the other programs follow.
func TestReference(t *testing.T) {
	if exec.Command("perl", "-MMail::SRS", "-e", "1").Run() != nil {
		t.Skip("Mail::SRS is not installed (libmail-srs-perl)")
	}
	perl := func(what, arg, via string) string {
		t.Helper()
		script := `my $s = Mail::SRS->new(Secret => "tops3cr3t", HashLength => 8, HashMin => 8, MaxAge => 21); print $s->` + what
		out, err := exec.Command("perl", "-MMail::SRS", "-e", script, arg, via).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}
	today := time.Now()
	for _, from := range []string{"anna@source.example", "A.Mixed+Tag@Source.Example", "SRS0=abcd=2W=far.example=x@other.example", "SRS1=abcdefgh=first.example==abcd=2W=far.example=x@other.example"} {
		local, domain, _ := strings.Cut(from, "@")
		ours, err := rw.Forward(local, domain, "via.example", today)
		if err != nil {
			t.Fatal(err)
		}
		theirs := perl("forward($ARGV[0], $ARGV[1])", from, "via.example")
		if ours+"@via.example" != theirs {
			t.Errorf("%s: %s here, %s there", from, ours, theirs)
		}
		l, d, err := rw.Reverse(ours, today)
		if back := perl("reverse($ARGV[0])", ours+"@via.example", ""); err != nil || back != l+"@"+d {
			t.Errorf("%s: back to %s there, to %s@%s here (%v)", ours, back, l, d, err)
		}
	}
}

// TestVectors are addresses that Mail::SRS 0.31 made, with a hash of 8 characters.
func TestVectors(t *testing.T) {
	for _, c := range vectors {
		at := time.Unix(c.day*86400, 0)
		local, domain, _ := strings.Cut(c.from, "@")
		if got, err := rw.Forward(local, domain, "via.example", at); err != nil || got != c.srs {
			t.Errorf("%s: %s %v, want %s", c.from, got, err, c.srs)
		}
	}
}

func TestEveryAddressComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[a-zA-Z0-9.=+_" é-]{1,40}`).Draw(t, "local")
		domain := rapid.StringMatching(`[a-z0-9-]{1,20}\.[a-z]{2,6}`).Draw(t, "domain")
		s, err := rw.Forward(local, domain, "via.example", now)
		if err != nil {
			t.Fatal(err)
		}
		if l, d, err := rw.Reverse(s, now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "days"))*24*time.Hour)); !srs.Is(local) && (err != nil || l != local || d != domain) {
			t.Fatalf("%s came back as %s@%s: %v", s, l, d, err)
		}
		other := &srs.Rewriter{Secret: []byte("another")}
		if _, _, err := other.Reverse(s, now); err == nil {
			t.Fatalf("%s is accepted under another secret", s)
		}
	})
}

func FuzzReverse(f *testing.F) {
	for _, s := range []string{forward(f, rw, "a", "b.example", "c.example"), "SRS0=a=bb=c=d", "SRS1=x=y==z", "SRS1=a=b=-c", "SRS0+a-b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		local, domain, err := rw.Reverse(s, now)
		srs.Base(s)
		if err == nil && (local == "" || domain == "" || len(local) >= len(s)) {
			t.Errorf("%q leads to %q@%q", s, local, domain)
		}
		if out, err := rw.Forward(s, "x.example", "y.example", now); err == nil && s != "" && !srs.Is(s) {
			if l, _, err := rw.Reverse(out, now); err != nil || l != s {
				t.Errorf("%q: %q comes back as %q (%v)", s, out, l, err)
			}
		}
	})
}
