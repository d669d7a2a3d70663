package wire

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// slowSteer wants every session elsewhere and gets none there before it is told to.
type slowSteer struct {
	opening chan struct{}
	answer  chan error
}

func (s *slowSteer) Choose(netip.Addr) bool { return true }

func (s *slowSteer) Open(Handover) (Relay, error) {
	s.opening <- struct{}{}
	if err := <-s.answer; err != nil {
		return nil, err
	}
	return func() {}, nil
}

// A client whose session is on its way to the other machine when the address goes is told so by the
// end of its connection: it would wait for a greeting that can't reach it any more. Whatever comes
// of the way, its place is free afterwards.
func TestCutOnTheWay(t *testing.T) {
	for _, answer := range []error{nil, errors.New("the other machine has gone")} {
		s := &slowSteer{make(chan struct{}), make(chan error)}
		l, err := Listen("tcp", "127.0.0.1:0", Config{Protocol: SMTP(&SMTPConfig{Hostname: "mx.test"}), Steer: s})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		<-s.opening
		l.Cut(netip.MustParseAddr("127.0.0.9"))
		l.Cut(netip.MustParseAddr("127.0.0.1"))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		var timeout net.Error
		if got, err := io.ReadAll(c); len(got) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("the client got %q, %v; it should have been cut off", got, err)
		}
		s.answer <- answer
		for deadline := time.Now().Add(10 * time.Second); l.Len()+l.Away() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are served here, %d elsewhere", l.Len(), l.Away())
			}
		}
		c.Close()
		l.Close()
		<-served
	}
}
