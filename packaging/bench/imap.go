package main

import (
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"
)

// commands measures single commands on the large mailbox, each in a session that has selected it.
func (b *bench) commands() error {
	for _, c := range []struct{ name, before, cmd, after string }{
		{"FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)", "", "FETCH 1:20000 (ENVELOPE INTERNALDATE RFC822.SIZE)", ""},
		{`STORE 1:* +FLAGS (\Flagged)`, "", `STORE 1:20000 +FLAGS (\Flagged)`, `STORE 1:* -FLAGS.SILENT (\Flagged)`},
		{"COPY 1:* to an empty mailbox", "CREATE benchcopy", "COPY 1:20000 benchcopy", "DELETE benchcopy"},
		{"SORT (SUBJECT DATE)", "", "SORT (SUBJECT DATE) UTF-8 1:20000", ""},
		{"THREAD REFERENCES", "", "THREAD REFERENCES UTF-8 1:20000", ""},
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
		if failed != nil {
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
