package pairtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// clients talk to the floating address only, and keep what they were told.
type clients struct {
	s    *site
	rec  *record
	stop chan struct{}
	wg   sync.WaitGroup
	gaps *prober

	large int // times that large messages were sent
}

func (s *site) clients(senders, readers int) *clients {
	c := &clients{s: s, rec: newRecord(), stop: make(chan struct{}), gaps: &prober{every: 10 * time.Millisecond}}
	for i := range senders {
		s.client.run(&c.wg, func() { c.sender(floating, fmt.Sprintf("s%d", i), 5*time.Millisecond) })
	}
	for i := range readers {
		s.client.run(&c.wg, func() { c.reader(fmt.Sprintf("r%d", i), rand.New(rand.NewPCG(s.opt.seed, uint64(i)))) })
	}
	s.client.run(&c.wg, func() { c.gaps.run(s, c.stop) })
	return c
}

// end stops the clients and waits for them.
func (c *clients) end() {
	close(c.stop)
	c.wg.Wait()
}

func (c *clients) done() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *clients) rest(d time.Duration) {
	select {
	case <-c.stop:
	case <-time.After(d):
	}
}

// flow waits until the clients have got n more acknowledgements.
func (c *clients) flow(n int, within time.Duration) {
	c.s.t.Helper()
	from := c.rec.count()
	c.s.poll(within, fmt.Sprintf("%d more acknowledgements", n), func() bool { return c.rec.count() >= from+n })
}

// floating is where the clients find the pair.
var floating = vip.String() + ":25"

// sender sends one message after the other to an SMTP server, each once, some on one connection, with
// a pause after each.
func (c *clients) sender(addr, name string, pause time.Duration) {
	for n := 0; !c.done(); {
		err := c.session(addr, name, pause, &n)
		if err != nil {
			c.rest(50 * time.Millisecond)
		}
	}
}

func (c *clients) session(addr, name string, pause time.Duration, n *int) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(text, want string) error {
		conn.SetDeadline(time.Now().Add(answerTime))
		if text != "" {
			if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
				return err
			}
		}
		for {
			l, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if len(l) > 3 && l[3] == '-' {
				continue
			}
			if !strings.HasPrefix(l, want) {
				return fmt.Errorf("%w: %s", errNo, l)
			}
			return nil
		}
	}
	if err := errors.Join(say("", "220"), say("EHLO client.test", "250")); err != nil {
		return err
	}
	for range 20 {
		if c.done() {
			return say("QUIT", "221")
		}
		*n++
		id := fmt.Sprintf("%s-%06d", name, *n)
		for _, step := range [][2]string{{"MAIL FROM:<sender@client.test>", "250"}, {"RCPT TO:<alice@example.test>", "250"}, {"DATA", "354"}} {
			if err := say(step[0], step[1]); err != nil {
				return err
			}
		}
		c.rec.sending(id, "INBOX")
		if addr != floating {
			c.rec.change(id, func(s *sent) { s.relayed = true })
		}
		if err := say(message(id)+".", "250"); err != nil {
			return err
		}
		c.rec.acked(id)
		c.rest(pause)
	}
	return say("QUIT", "221")
}

// reader works in a mailbox of its own, and looks into the inbox.
func (c *clients) reader(name string, random *rand.Rand) {
	box := "Work-" + name
	var live []string // acknowledged messages of the box
	n, seen := 0, uint32(1)
	for !c.done() {
		conn, err := dialIMAP(vip.String(), "alice")
		if err == nil {
			err = c.work(conn, name, box, random, &n, &live, &seen)
			conn.c.Close()
		}
		if err != nil {
			c.rest(50 * time.Millisecond)
		}
	}
}

func (c *clients) work(i *imapConn, name, box string, random *rand.Rand, n *int, live *[]string, seen *uint32) error {
	if _, _, err := i.cmd("CREATE " + box); err != nil && !errors.Is(err, errNo) {
		return err
	}
	validity, err := i.selectBox(box)
	if err != nil {
		return err
	}
	c.rec.saw("client", box, validity)
	for range 30 {
		if c.done() {
			return nil
		}
		switch k := random.IntN(10); {
		case k < 5 || len(*live) == 0:
			*n++
			id := fmt.Sprintf("%s-%06d", name, *n)
			c.rec.sending(id, box)
			_, tagged, err := i.cmd("APPEND "+box, message(id))
			if err != nil {
				return err
			}
			c.rec.acked(id)
			if m := appendCode.FindStringSubmatch(tagged); m != nil {
				uid := number32(m[2])
				c.rec.saw("client", box, number32(m[1]), stored{uid: uid, id: id})
				c.rec.change(id, func(s *sent) { s.uid = uid })
				*live = append(*live, id)
			}
		case k < 8:
			id := (*live)[random.IntN(len(*live))]
			un, _, err := i.cmd(fmt.Sprintf(`UID STORE %d +FLAGS (\Flagged)`, c.uid(id)))
			if err != nil {
				return err
			}
			// A merge may have given the message another UID: then nothing was promised.
			if slices.ContainsFunc(un, func(l line) bool { return strings.Contains(l.text, " FETCH ") && strings.Contains(l.text, `\Flagged`) }) {
				c.rec.change(id, func(s *sent) { s.flagged = true })
			}
		case k < 9:
			at := random.IntN(len(*live))
			id := (*live)[at]
			*live = append((*live)[:at], (*live)[at+1:]...)
			c.rec.change(id, func(s *sent) { s.deleting = true })
			if _, _, err := i.cmd(fmt.Sprintf(`UID STORE %d +FLAGS.SILENT (\Deleted)`, c.uid(id))); err != nil {
				return err
			}
			un, _, err := i.cmd(fmt.Sprintf("UID EXPUNGE %d", c.uid(id)))
			if err != nil {
				return err
			}
			if slices.ContainsFunc(un, func(l line) bool { return strings.HasSuffix(l.text, " EXPUNGE") }) {
				c.rec.change(id, func(s *sent) { s.gone = true })
			}
		default:
			validity, err := i.selectBox("INBOX")
			if err != nil {
				return err
			}
			list, err := i.fetch(*seen, false)
			if err != nil {
				return err
			}
			c.rec.saw("client", "INBOX", validity, list...)
			for _, m := range list {
				*seen = max(*seen, m.uid)
			}
			if _, err := i.selectBox(box); err != nil {
				return err
			}
		}
		c.rest(10 * time.Millisecond)
	}
	return nil
}

func (c *clients) uid(id string) uint32 {
	c.rec.mu.Lock()
	defer c.rec.mu.Unlock()
	return c.rec.sent[id].uid
}

// prober opens new connections and looks for times without a greeting.
type prober struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time // of a greeting
	worst time.Duration
	ok    int
}

// probes is how many connections a prober may have open.
const probes = 24

// run begins a connection at each tick, whether the ones before have been greeted or not: one that
// was caught by the change of address waits, and the next may be served already.
func (p *prober) run(s *site, stop <-chan struct{}) {
	turn := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range probes { // a thread of its own each, in the client's namespace
		s.client.run(&wg, func() {
			for range turn {
				if greeted() {
					p.greeted(time.Now())
				}
			}
		})
	}
	defer close(turn)
	t := time.NewTicker(p.every)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		select {
		case turn <- struct{}{}:
		default: // all wait
		}
	}
}

func (p *prober) greeted(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() {
		p.worst = max(p.worst, at.Sub(p.last))
	}
	p.last = at
	p.ok++
}

func (p *prober) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ok
}

// reset begins a new measurement; the gap that it gives was the longest up to now.
func (p *prober) reset() (worst time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	worst, p.worst = p.worst, 0
	return worst
}

func greeted() bool {
	conn, err := (&net.Dialer{Timeout: 100 * time.Millisecond}).Dial("tcp", vip.String()+":25")
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
	var hi [3]byte
	_, err = io.ReadFull(conn, hi[:])
	return err == nil && string(hi[:]) == "220"
}
