package wire

import (
	"context"
	"net"
	"testing"
)

// TestContext: a connection's contexts end with it, with their parent or by themselves, and one
// that has ended is not kept.
func TestContext(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := NewConn(a, &Config{})
	parent, stop := context.WithCancel(context.Background())
	byParent, cancel1 := c.Context(parent)
	bySelf, cancel2 := c.Context(context.Background())
	byConn, cancel3 := c.Context(context.Background())
	defer cancel3()
	stop()
	<-byParent.Done()
	cancel1()
	cancel1()
	cancel2()
	<-bySelf.Done()
	if byConn.Err() != nil {
		t.Error("ended with another one")
	}
	if n := len(c.cancels); n != 1 {
		t.Errorf("%d contexts kept", n)
	}
	c.Abort(ReasonServer)
	<-byConn.Done()
	late, cancel4 := c.Context(context.Background())
	defer cancel4()
	<-late.Done()
}
