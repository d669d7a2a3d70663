package pairtest

import (
	"fmt"
	"io"
	"net"
	"net/smtp"
	"sync/atomic"
	"testing"
	"time"
)

// retrier sends one message a connection, and what fails once more at once, as a message of its own.
type retrier struct {
	*clients
	tried, failed, again atomic.Int64
}

func (r *retrier) run(name string) {
	for n := 1; !r.done(); n++ {
		r.tried.Add(1)
		id := fmt.Sprintf("%s-%06d", name, n)
		if r.transaction(id) == nil {
			continue
		}
		r.failed.Add(1)
		if err := r.transaction(id + "-again"); err != nil {
			r.again.Add(1)
			r.s.note("%s failed twice: %v", id, err)
		}
	}
}

func (r *retrier) transaction(id string) error {
	conn, err := (&net.Dialer{Timeout: answerTime}).Dial("tcp", floating)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerTime))
	c, err := smtp.NewClient(conn, "client.test")
	if err != nil {
		return err
	}
	if err := c.Mail("sender@client.test"); err != nil {
		return err
	}
	if err := c.Rcpt("alice@example.test"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	r.rec.sending(id, "INBOX")
	if _, err := io.WriteString(w, message(id)); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // the answer to the message
		return err
	}
	r.rec.acked(id)
	c.Quit()
	return nil
}

// TestRetryOnce: a planned switchover may end a transaction that is under way; a client that tries
// once more, at once, finds the other node. FIGURES says how often there is a switchover.
func TestRetryOnce(t *testing.T) {
	// covers: R11.47
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	needMachines(t)
	t.Parallel()
	s := newSite(t, siteOptions{lease: "default"})
	s.form()
	r := &retrier{clients: s.clients(0, 0)}
	for i := range 8 {
		s.client.run(&r.wg, func() { r.run(fmt.Sprintf("t%d", i)) })
	}
	n := max(2, setting(t, "FIGURES", 0))
	for range n {
		from := s.holder()
		r.flow(50, time.Minute)
		s.switchover()
		s.poll(30*time.Second, "the other node holds the address", func() bool { return s.watch.now() == s.other(from).name })
		r.flow(50, time.Minute)
		s.sync()
	}
	r.verify(false)
	t.Logf("%d switchovers, %d transactions, %d failed, %d failed again", n, r.tried.Load(), r.failed.Load(), r.again.Load())
	if r.again.Load() > 0 {
		t.Error("a client that tried once more was refused")
	}
}
