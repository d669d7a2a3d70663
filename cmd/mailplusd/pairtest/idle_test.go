package pairtest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// idler is a client that waits in IDLE and reads what it is told of. It has no timer of its own:
// what it does not hear of it does not see.
type idler struct {
	mu        sync.Mutex
	told      map[string]bool // messages that it has seen
	woken     int             // times that the server said something while it was idle
	connected int
	meanwhile int // messages that had come while it was not connected
}

func (c *clients) idler(wg *sync.WaitGroup, stop <-chan struct{}) *idler {
	i := &idler{told: map[string]bool{}}
	c.s.client.run(wg, func() {
		seen := uint32(0)
		for {
			i.session(stop, &seen)
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return i
}

func (i *idler) session(stop <-chan struct{}, seen *uint32) {
	conn, err := dialIMAP(vip.String(), "alice")
	if err != nil {
		return
	}
	defer conn.c.Close()
	if _, err := conn.selectBox("INBOX"); err != nil {
		return
	}
	first := true
	for {
		list, err := conn.fetch(*seen+1, false)
		if err != nil {
			return
		}
		i.mu.Lock()
		for _, m := range list {
			i.told[m.id] = true
			*seen = max(*seen, m.uid)
		}
		if first && i.connected > 0 {
			i.meanwhile += len(list)
		}
		if first {
			i.connected++
		}
		i.mu.Unlock()
		first = false
		if err := conn.idle(stop); err != nil {
			return
		}
		i.mu.Lock()
		i.woken++
		i.mu.Unlock()
	}
}

// idle waits until the server tells of new mail.
func (i *imapConn) idle(stop <-chan struct{}) error {
	i.tag++
	tag := fmt.Sprintf("t%d", i.tag)
	i.c.SetDeadline(time.Now().Add(answerTime))
	if _, err := io.WriteString(i.c, tag+" IDLE\r\n"); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-stop:
			i.c.Close()
		case <-ended:
		}
	}()
	for news := false; ; {
		l, err := i.line()
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(l.text, "+"):
			i.c.SetDeadline(time.Now().Add(10 * time.Minute)) // as clients do: nothing but the server ends it
		case strings.HasPrefix(l.text, "* ") && strings.HasSuffix(l.text, " EXISTS") && !news:
			news = true
			i.c.SetDeadline(time.Now().Add(answerTime))
			if _, err := io.WriteString(i.c, "DONE\r\n"); err != nil {
				return err
			}
		case strings.HasPrefix(l.text, tag+" OK"):
			return nil
		case strings.HasPrefix(l.text, tag+" "):
			return fmt.Errorf("%w: %s", errNo, l.text)
		}
	}
}

// counts gives what there was to see up to now.
func (i *idler) counts() (told, woken, connected, meanwhile int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.told), i.woken, i.connected, i.meanwhile
}

// lacks gives the acknowledged messages of the inbox that it was not told of.
func (i *idler) lacks(rec *record) (ids []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, s := range rec.sent {
		if s.acked && s.box == "INBOX" && !i.told[id] {
			ids = append(ids, id)
		}
	}
	return ids
}
