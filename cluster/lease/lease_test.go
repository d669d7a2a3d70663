package lease

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestSettings(t *testing.T) {
	for name, s := range map[string]Settings{"default": Default(), "short": Short()} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tc := range []struct {
		name   string
		change func(*Settings)
		word   string
	}{
		{"frame", func(s *Settings) { s.Frame = 10 * ms }, "below 50 ms"},
		{"term below a second", func(s *Settings) { s.Term = 900 * ms }, "whole seconds"},
		{"term below three frames", func(s *Settings) { s.Frame = 1100 * ms }, "three frames"},
		{"margin", func(s *Settings) { s.Margin = time.Second }, "kernel lateness"},
		{"kernel", func(s *Settings) { s.KernelLate = 0 }, "below 400 ms"},
		{"silence", func(s *Settings) { s.Silent = 1500 * ms }, "own freeze"},
		{"freeze", func(s *Settings) { s.Frozen = 100 * ms }, "shorter than a frame"},
		{"decision", func(s *Settings) { s.Decide = 1100 * ms }, "do not fit"},
		{"no decision", func(s *Settings) { s.Decide = 0 }, "arbiter"},
		{"long term", func(s *Settings) { s.Term = time.Hour }, "above one minute"},
		{"all zero", func(s *Settings) { *s = Settings{} }, "below 50 ms"},
	} {
		s := Default()
		tc.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.word)
		}
	}
}

// Lifetimes are rounded down, and less than one second is none.
func TestLifetime(t *testing.T) {
	for _, tc := range []struct {
		left time.Duration
		want int
		ok   bool
	}{{3000 * ms, 3, true}, {2999 * ms, 2, true}, {1000 * ms, 1, true}, {999 * ms, 0, false}, {0, 0, false}, {-5000 * ms, 0, false}} {
		if got, ok := Lifetime(100*time.Second+tc.left, 100*time.Second); got != tc.want || ok != tc.ok {
			t.Errorf("%v left: %d %v", tc.left, got, ok)
		}
	}
}

// Whatever the kernel is told, and however late, ends with the lease.
func TestCoverEndsWithTheLease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "ns"))
		})
		end, known, check := now.Draw(t, "end"), now.Draw(t, "known"), now.Draw(t, "now")
		seconds, act := Renew(end, known, check)
		if act == Drop != (check >= end) {
			t.Fatalf("act %d", act)
		}
		if act != Write {
			return
		}
		told := check + time.Duration(seconds)*time.Second
		if seconds < 1 || told > end || told <= known {
			t.Fatalf("%d seconds at %v for a lease until %v, told before until %v", seconds, check, end, known)
		}
		late := check + now.Draw(t, "late")
		again, act := Wrote(end, seconds, late)
		ends := late + time.Duration(seconds)*time.Second
		switch act {
		case Keep:
			if ends > end+WriteSlack {
				t.Fatalf("kept until %v after a lease until %v", ends, end)
			}
		case Write:
			if again < 1 || again >= seconds || late+time.Duration(again)*time.Second > end {
				t.Fatalf("%d seconds, again %d", seconds, again)
			}
		}
	})
}

func TestPrimary(t *testing.T) {
	s := Default()
	ack := func(f Frame) Frame { f.Kind = Ack; return f }
	p := NewPrimary(s)
	if p.MayHold(0) {
		t.Fatal("holds before anything was promised")
	}
	p.Pair(7)
	r1, r2 := p.Request(1000*ms), p.Request(1500*ms)
	if p.MayHold(1500 * ms) {
		t.Fatal("holds without an answer")
	}
	for name, f := range map[string]Frame{
		"of another epoch": {Ack, 8, r1.Session, r1.Seq}, "of another session": {Ack, 7, r1.Session + 1, r1.Seq},
		"nobody asked for": {Ack, 7, r1.Session, 99}, "that is a request": r1,
	} {
		if p.Ack(f) || p.MayHold(1500*ms) {
			t.Errorf("took an answer %s", name)
		}
	}
	if !p.Ack(ack(r2)) || p.LeaseEnd() != 4500*ms {
		t.Fatalf("lease until %v", p.LeaseEnd())
	}
	if p.Ack(ack(r1)) || p.Ack(ack(r2)) || p.LeaseEnd() != 4500*ms {
		t.Fatal("an older answer, or one twice, changed the lease")
	}
	if !p.MayHold(4499*ms) || p.MayHold(4500*ms) {
		t.Fatal("the lease is not what it should be at its end")
	}
	p.Solo(7)
	if end, ok := p.Until(9000 * ms); !ok || end != 12000*ms {
		t.Fatalf("solo until %v", end)
	}
	r3 := p.Request(9000 * ms)
	if f := p.StepDown(); f != (Frame{Released, 7, p.Session(), r3.Seq}) || p.MayHold(9000*ms) {
		t.Fatalf("released %+v", f)
	}
	p.Pair(7)
	if p.Ack(ack(r3)) || p.MayHold(9000*ms) {
		t.Fatal("an answer to a request from before the release gives a lease")
	}
	r4 := p.Request(9500 * ms)
	p.Pair(8)
	if p.Ack(ack(r4)) || p.MayHold(9500*ms) {
		t.Fatal("an answer of the last epoch gives a lease")
	}
	p.Single()
	if !p.MayHold(time.Hour) {
		t.Fatal("a single node may not hold")
	}
	for range 1000 {
		p.Request(time.Hour)
	}
	if len(p.sent) > maxOutstanding {
		t.Fatalf("%d requests remembered", len(p.sent))
	}
}

func TestSecondary(t *testing.T) {
	s := Default()
	b := NewSecondary(s, 7, 1000*ms)
	if b.MayTakeOver(5500*ms) || !b.MayTakeOver(5501*ms) {
		t.Fatal("a new process must keep what an earlier one may have promised")
	}
	req := Frame{Request, 7, 11, 5}
	if _, ok := b.Request(Frame{Request, 6, 11, 5}, 2000*ms); ok {
		t.Fatal("answered a request of another epoch")
	}
	if a, ok := b.Request(req, 2000*ms); !ok || a != (Frame{Ack, 7, 11, 5}) || b.PromiseEnd() != 5000*ms {
		t.Fatalf("%+v %v", a, b.PromiseEnd())
	}
	for name, f := range map[string]Frame{
		"older than the promise": {Released, 7, 11, 4}, "of another session": {Released, 7, 12, 9},
		"of another epoch": {Released, 6, 11, 9}, "that is a request": {Request, 7, 11, 9},
	} {
		if b.Released(f) || b.MayTakeOver(5500*ms) {
			t.Errorf("took a release %s", name)
		}
	}
	b.Request(Frame{Request, 7, 12, 1}, 2100*ms) // the primary has restarted
	if !b.Released(Frame{Released, 7, 11, ^uint64(0)}) || b.MayTakeOver(6600*ms) {
		t.Fatal("the farewell of the old process releases the promise to the new one")
	}
	if !b.Released(Frame{Released, 7, 12, 1}) || !b.MayTakeOver(2200*ms) {
		t.Fatal("no takeover after a release")
	}
	b.Stop()
	if _, ok := b.Request(req, 2300*ms); ok || !b.MayTakeOver(2300*ms) {
		t.Fatal("promised after Stop")
	}
	b.Follow(9)
	for i := range uint64(100) {
		b.Request(Frame{Request, 9, i, 1}, 3000*ms)
	}
	if len(b.promises) > maxSessions {
		t.Fatalf("%d sessions", len(b.promises))
	}
	if _, ok := b.Request(Frame{Request, 9, 500, 1}, 7600*ms); !ok || len(b.promises) != 1 {
		t.Fatal("promises that ran out are in the way")
	}
}

func TestDetector(t *testing.T) {
	s := Default()
	for _, tc := range []struct {
		name string
		do   func(d *Detector)
		at   time.Duration
		want bool
	}{
		{"heard just now", func(d *Detector) {}, 1000 * ms, false},
		{"silent", func(d *Detector) { ticks(d, 0, 2000*ms) }, 2000 * ms, true},
		{"nearly silent", func(d *Detector) { ticks(d, 0, 1900*ms) }, 1999 * ms, false},
		{"heard in between", func(d *Detector) { ticks(d, 0, 1500*ms); d.Heard(1600 * ms); ticks(d, 1600*ms, 2500*ms) }, 2600 * ms, false},
		{"refused three times", func(d *Detector) { refuse(d, 100*ms, 400*ms, 700*ms) }, 700 * ms, true},
		{"refused twice", func(d *Detector) { refuse(d, 100*ms, 400*ms) }, 700 * ms, false},
		{"refused slowly", func(d *Detector) { refuse(d, 100*ms, 700*ms, 1200*ms) }, 1300 * ms, false},
		{"frozen", func(d *Detector) {}, 9000 * ms, false},
		{"frozen, two fresh failures", func(d *Detector) { d.Tick(9000 * ms); fail(d, 9100*ms, 9200*ms) }, 9300 * ms, false},
		{"frozen, three fresh failures", func(d *Detector) { d.Tick(9000 * ms); fail(d, 9100*ms, 9200*ms, 9300*ms) }, 9300 * ms, true},
		{"frozen, three stale failures", func(d *Detector) {
			for range 3 {
				d.Failed(500*ms, 9000*ms)
			}
		}, 9300 * ms, false},
		{"frozen after the refusals", func(d *Detector) { refuse(d, 100*ms, 400*ms, 700*ms) }, 9000 * ms, false},
		{"frozen twice", func(d *Detector) {
			d.Tick(9000 * ms)
			fail(d, 9100*ms, 9200*ms, 9300*ms)
		}, 20000 * ms, false},
	} {
		d := NewDetector(s, 0)
		tc.do(d)
		if got := d.Dead(tc.at); got != tc.want {
			t.Errorf("%s: dead %v", tc.name, got)
		}
	}
}

func ticks(d *Detector, from, to time.Duration) {
	for ; from <= to; from += 500 * ms {
		d.Tick(from)
	}
}

func fail(d *Detector, at ...time.Duration) {
	for _, t := range at {
		d.Failed(t, t)
	}
}

func refuse(d *Detector, at ...time.Duration) {
	for _, t := range at {
		d.Refused(t, t)
	}
}

func TestNow(t *testing.T) {
	a := Now()
	if b := Now(); a <= 0 || b < a {
		t.Errorf("%v then %v", a, b)
	}
}

func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Frame{Kind(rapid.IntRange(1, 3).Draw(t, "kind")), rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "session"), rapid.Uint64().Draw(t, "seq")}
		b, _ := f.AppendBinary(nil)
		if got, err := ParseFrame(b); err != nil || got != f || len(b) != FrameSize {
			t.Fatalf("%+v became %+v: %v", f, got, err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	good, _ := Frame{Request, 1, 2, 3}.AppendBinary(nil)
	f.Add(good)
	f.Add(good[:31])
	f.Add([]byte("ML\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ParseFrame(b)
		if err != nil {
			return
		}
		if again, _ := fr.AppendBinary(nil); string(again) != string(b) {
			t.Fatalf("%x is read as %+v", b, fr)
		}
	})
}
