package queue_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"mailplusd/mail/model"
	"mailplusd/mail/remote"
)

// size is how many messages the figures below are of: MAILPLUSD_QUEUE_SIZE, or few.
func size(few int) int {
	if n, err := strconv.Atoi(os.Getenv("MAILPLUSD_QUEUE_SIZE")); err == nil && n > 0 {
		return n
	}
	return few
}

// TestMemory measures what a queued message takes in memory: next to nothing while its turn is
// to come, and a bounded entry while it waits for its destination.
func TestMemory(t *testing.T) {
	n := size(5000)
	net := newNet()
	b := newBench(t, net, nil)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var list []model.QueueRcpt
	for i := range n {
		list = append(list, model.QueueRcpt{Address: fmt.Sprintf("user%d@slow.test", i)})
	}
	b.add("a@b.test", list...)
	list = nil
	before := heap()
	b.run()
	until(t, "all are read", func() bool { return b.q.Waiting() >= n })
	each := (int64(heap()) - int64(before)) / int64(n)
	t.Logf("%d recipients that wait for their destination: %d octets each", n, each)
	if each > 400 {
		t.Errorf("%d octets of memory for each recipient that waits", each)
	}
	close(net.gate)
}

// BenchmarkDeliver is what the queue itself costs for a message, to 50 destinations that take
// no time: reading, scheduling and recording.
func BenchmarkDeliver(b *testing.B) {
	n := newNet()
	q := newBench(b, n, nil)
	var list []model.QueueRcpt
	for i := range b.N {
		list = append(list, model.QueueRcpt{Address: fmt.Sprintf("user%d@d%d.test", i, i%50)})
	}
	q.add("a@b.test", list...)
	n.answer = func(remote.Job) remote.Result {
		return remote.Result{Outcome: model.OutcomeDelivered, Code: 250, Reason: "250 ok"}
	}
	b.ResetTimer()
	q.run()
	for {
		left, err := q.st.QueueLength()
		if err != nil {
			b.Fatal(err)
		}
		if left == 0 {
			return
		}
		runtime.Gosched()
	}
}
