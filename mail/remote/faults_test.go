package remote

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailplusd/mail/model"
)

const twoHosts = `
two.test. 60 IN MX 10 one.two.test.
two.test. 60 IN MX 20 other.two.test.
one.two.test. 60 IN A 192.0.2.1
other.two.test. 60 IN A 192.0.2.2
one.test. 60 IN A 192.0.2.1
`

// A server fails at each stage in each way, with pipelining, with CHUNKING and with neither. The
// message arrives once through the second server, or the one unavoidable case is named.
func TestFaultsAtEachStage(t *testing.T) {
	// covers: I.28 I.30
	stages := []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "text"}
	for _, ext := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		for _, stage := range stages {
			for _, fault := range []string{"hang", "close", "cut", "drip", "flood", "421 4.3.2 going down"} {
				if stage == "DATA" && slices.Contains(ext, "CHUNKING") {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					bad := &fake{ext: ext, script: map[string]string{stage: fault}}
					good := &fake{ext: ext, script: map[string]string{}}
					_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": bad, "192.0.2.2": good})
					begun := time.Now()
					res := c.Deliver(context.Background(), job("two.test", sample, "x@two.test"))[0]
					what := fmt.Sprintf("%v, %s at %s", ext, fault, stage)
					if took := time.Since(begun); took > 20*time.Minute {
						t.Errorf("%s: took %s", what, took)
					}
					doubt := stage == "text" && fault[0] > '9'
					if res.Doubt != doubt {
						t.Errorf("%s: doubt %v: %+v", what, res.Doubt, res)
					}
					if doubt {
						if res.Outcome != model.OutcomeDeferred || good.count() != 0 || !strings.Contains(res.Reason, "may have arrived") {
							t.Errorf("%s: %+v, the other server has %d", what, res, good.count())
						}
						c.Close()
						return
					}
					if res.Outcome != model.OutcomeDelivered || good.count() != 1 || bad.count() != 0 || good.got[0] != sample {
						t.Errorf("%s: %+v, the servers have %d and %d", what, res, bad.count(), good.count())
					}
					c.Close()
				})
			}
		}
	}
}

// What a server answers counts, at each stage: 4xx waits, 5xx is final, and its words are kept.
func TestRepliesAtEachStage(t *testing.T) {
	// covers: I.28 R2.62
	for _, ext := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		for _, stage := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "text"} {
			for code, want := range map[string]model.Outcome{"451": model.OutcomeDeferred, "554": model.OutcomeFailed} {
				if stage == "DATA" && slices.Contains(ext, "CHUNKING") || stage == "EHLO" && code == "554" {
					continue // then HELO is tried
				}
				synctest.Test(t, func(t *testing.T) {
					f := &fake{ext: ext, script: map[string]string{stage: code + "-x.1.2 first\r\n" + code + " x.1.2 at " + stage}}
					_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
					for _, res := range c.Deliver(context.Background(), job("one.test", sample, "x@one.test", "y@one.test")) {
						if res.Outcome != want || !strings.HasSuffix(res.Reason, "first x.1.2 at "+stage) || !strings.HasPrefix(res.Reason, code+" ") {
							t.Errorf("%v, %s at %s: %+v", ext, code, stage, res)
						}
						if res.Down != (want == model.OutcomeDeferred && (stage == "greeting" || stage == "EHLO")) {
							t.Errorf("%v, %s at %s: down %v", ext, code, stage, res.Down)
						}
					}
					if f.count() != 0 {
						t.Errorf("%v, %s at %s: taken all the same", ext, code, stage)
					}
					c.Close()
				})
			}
		}
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	// covers: I.30
	for _, ext := range [][]string{nil, {"PIPELINING"}, {"CHUNKING", "PIPELINING"}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: ext, script: map[string]string{}}
			w, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
			big := "Subject: big\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 50_000)
			for i := range 20 {
				text := sample
				if i == 7 {
					text = big
				}
				if i == 5 { // one that is refused leaves the connection usable
					f.script["RCPT"] = "550 5.1.1 no"
				}
				res := c.Deliver(context.Background(), job("one.test", text, "x@one.test"))[0]
				if want := i != 5; want != (res.Outcome == model.OutcomeDelivered) {
					t.Errorf("%v: message %d: %+v", ext, i, res)
				}
				delete(f.script, "RCPT")
			}
			if f.conns != 1 || f.count() != 19 || !slices.Contains(f.got, big) || w.asked > 3 {
				t.Errorf("%v: %d connections, %d messages, %d questions", ext, f.conns, f.count(), w.asked)
			}
			time.Sleep(idleTime + time.Second)
			synctest.Wait()
			if last := f.lines[len(f.lines)-1]; last != "QUIT" {
				t.Errorf("%v: the idle connection ends with %q", ext, last)
			}
			for range maxMessages + 1 {
				c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))
			}
			if f.conns != 3 {
				t.Errorf("%v: %d connections for %d messages", ext, f.conns, maxMessages+1)
			}
			c.Close()
		})
	}
}

// The other side has ended a connection that was kept: the message goes over a new one, once.
func TestStaleConnection(t *testing.T) {
	for _, fault := range []string{"close", "421 idle for too long", "cut"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: []string{"PIPELINING"}, script: map[string]string{}}
			_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
			c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))
			f.script["MAIL"] = fault
			res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]
			if f.conns != 2 || res.Outcome != model.OutcomeDeferred { // the new connection fails in the same way
				t.Errorf("%s: %d connections, %+v", fault, f.conns, res)
			}
			delete(f.script, "MAIL")
			if res := c.Deliver(context.Background(), job("one.test", sample, "x@one.test"))[0]; res.Outcome != model.OutcomeDelivered || f.count() != 2 {
				t.Errorf("%s: %+v, %d messages", fault, res, f.count())
			}
			c.Close()
		})
	}
}

func TestTooManyRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ext: []string{"PIPELINING"}, script: map[string]string{"limit": "10"}}
		_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
		var list []string
		for i := range 250 {
			list = append(list, fmt.Sprintf("user-with-a-long-name-%d@one.test", i))
		}
		for i, res := range c.Deliver(context.Background(), job("one.test", sample, list...)) {
			if res.Outcome != model.OutcomeDelivered || res.N != uint32(i) {
				t.Fatalf("%d: %+v", i, res)
			}
		}
		if f.count() != 25 || f.conns != 1 {
			t.Errorf("%d copies over %d connections", f.count(), f.conns)
		}
		c.Close()
	})
}

// A message whose store fails in the middle must not look complete to the other side.
func TestUnreadableText(t *testing.T) {
	for _, ext := range []string{"PIPELINING", "CHUNKING"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{ext: []string{ext}, script: map[string]string{}}
			_, c := newWorld(t, twoHosts, map[string]*fake{"192.0.2.1": f})
			j := job("one.test", sample, "x@one.test")
			j.Open = func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(sample), errReader{})), nil
			}
			res := c.Deliver(context.Background(), j)[0]
			if res.Outcome != model.OutcomeDeferred || !strings.Contains(res.Reason, "can't be read") || f.count() != 0 || res.Doubt {
				t.Errorf("%s: %+v, %d messages", ext, res, f.count())
			}
			c.Close()
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, fmt.Errorf("bad sector") }
