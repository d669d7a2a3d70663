package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// commands measures single commands on the large mailbox, each in a session that has selected it.
func (b *bench) commands() error {
	all := fmt.Sprintf("1:%d", b.big)
	for _, c := range []struct{ name, before, cmd, after string }{
		{"FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)", "", "FETCH " + all + " (ENVELOPE INTERNALDATE RFC822.SIZE)", ""},
		{`STORE 1:* +FLAGS (\Flagged)`, "", "STORE " + all + ` +FLAGS (\Flagged)`, `STORE 1:* -FLAGS.SILENT (\Flagged)`},
		{"COPY 1:* to an empty mailbox", "CREATE benchcopy", "COPY " + all + " benchcopy", "DELETE benchcopy"},
		{"SORT (SUBJECT DATE)", "", "SORT (SUBJECT DATE) UTF-8 " + all, ""},
		{"THREAD REFERENCES", "", "THREAD REFERENCES UTF-8 " + all, ""},
	} {
		times := map[string][]float64{}
		for round := range b.rounds + 1 {
			for _, s := range b.list {
				took, err := b.command(s, c.before, c.cmd, c.after)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, c.name, err)
				}
				if round > 0 { // the first round warms the caches
					times[s.name] = append(times[s.name], took.Seconds()*1000)
				}
			}
		}
		b.row(c.name, "ms", times, true)
	}
	return nil
}

func (b *bench) command(s server, before, cmd, after string) (time.Duration, error) {
	m, err := dialIMAP(s.imap, b.names[0], b.password, false)
	if err != nil {
		return 0, err
	}
	defer m.c.Close()
	if _, err := m.do("SELECT INBOX"); err != nil {
		return 0, err
	}
	if before != "" {
		if _, err := m.do("%s", before); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if _, err := m.do("%s", cmd); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if after != "" {
		if _, err := m.do("%s", after); err != nil {
			return 0, err
		}
	}
	return took, nil
}

var uidValidity = regexp.MustCompile(`UIDVALIDITY (\d+)`)

// stream measures how fast whole bodies of 4 KB come, in clear and with TLS.
func (b *bench) stream() error {
	count := min(b.small, 5000)
	if count == 0 {
		return nil
	}
	for _, withTLS := range []bool{false, true} {
		if withTLS && !b.withTLS() {
			continue
		}
		rates := map[string][]float64{}
		for round := range b.rounds + 1 {
			for _, s := range b.list {
				m, err := b.dial(s, withTLS)
				if err != nil {
					return err
				}
				if _, err := m.do("EXAMINE INBOX"); err != nil {
					return err
				}
				start := time.Now()
				if _, err := m.do("FETCH 1:%d (BODY.PEEK[])", count); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				if round > 0 { // the first round warms the caches
					rates[s.name] = append(rates[s.name], float64(count)/time.Since(start).Seconds())
				}
				m.c.Close()
			}
		}
		name := fmt.Sprintf("FETCH 1:%d (BODY.PEEK[]), 4 KB each", count)
		if withTLS {
			name += ", TLS"
		}
		b.row(name, "messages/s", rates, false)
	}
	return nil
}

// search measures SEARCH TEXT: the first server with its index, the others as they are.
func (b *bench) search() error {
	if b.mpctl != "" {
		if err := b.index(); err != nil {
			return err
		}
	}
	for _, c := range []struct{ name, cmd string }{
		{"SEARCH TEXT, a word in 1 of 500 messages", "SEARCH TEXT keyword123"},
		{"SEARCH TEXT, a word in no message", "SEARCH TEXT keyword999"},
		{"SEARCH TEXT, a word in every message", "SEARCH TEXT consectetur"},
	} {
		times := map[string][]float64{}
		for range b.rounds {
			for _, s := range b.list {
				took, err := b.command(s, "", c.cmd, "")
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, c.name, err)
				}
				times[s.name] = append(times[s.name], took.Seconds()*1000)
			}
		}
		b.row(c.name, "ms", times, true)
	}
	return nil
}

// index switches full-text search of the first server on and waits until all mail is indexed.
func (b *bench) index() error {
	admin := func(args ...string) (string, error) {
		words := append(strings.Fields(b.mpctl), args...)
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, out)
		}
		return string(out), err
	}
	if _, err := admin("--yes", "service", "fts", "set", "--enable", "on", "--cpu", "100"); err != nil {
		return err
	}
	start := time.Now()
	for {
		out, err := admin("fts", "status", b.names[0], "-o", "json")
		if err != nil {
			return err
		}
		if strings.Contains(out, `"up to date"`) {
			fmt.Printf("| all mail of one user is indexed | %s %.1f s |\n", b.list[0].name, time.Since(start).Seconds())
			return nil
		}
		if time.Since(start) > 15*time.Minute {
			return fmt.Errorf("the mail is not indexed after 15 minutes: %s", out)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// reconnect lets many clients come back at once to the large mailbox and resynchronise by
// QRESYNC; the figure is what 99 of 100 waited for at most, from connect to the end of SELECT.
func (b *bench) reconnect(clients int) error {
	times := map[string][]float64{}
	for _, s := range b.list {
		m, err := dialIMAP(s.imap, b.names[0], b.password, false)
		if err != nil {
			return err
		}
		status, err := m.do("STATUS INBOX (UIDVALIDITY)")
		m.c.Close()
		v := uidValidity.FindStringSubmatch(status)
		if err != nil || v == nil {
			return fmt.Errorf("%s: odd STATUS %q %v", s.name, status, err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var failed error
		took := make([]float64, 0, clients)
		for range clients {
			wg.Add(1)
			go func() {
				defer wg.Done()
				start := time.Now()
				err := b.resync(s, v[1])
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = err
				}
				took = append(took, time.Since(start).Seconds()*1000)
			}()
		}
		wg.Wait()
		if failed != nil && s != b.list[0] { // a peer that gives up is no reason to stop
			fmt.Printf("| %s, %d clients at once: not every one is answered: %v |\n", s.name, clients, failed)
		} else if failed != nil {
			return fmt.Errorf("%s: %w", s.name, failed)
		}
		slices.Sort(took)
		times[s.name] = []float64{took[len(took)*99/100]}
	}
	b.row(fmt.Sprintf("%d clients come back at once with QRESYNC: 99 of 100 within", clients), "ms", times, true)
	return nil
}

func (b *bench) resync(s server, validity string) error {
	m, err := dialIMAP(s.imap, b.names[0], b.password, false)
	if err != nil {
		return err
	}
	defer m.c.Close()
	if _, err := m.do("ENABLE QRESYNC"); err != nil {
		return err
	}
	_, err = m.do("SELECT INBOX (QRESYNC (%s 1000000))", validity)
	return err
}
