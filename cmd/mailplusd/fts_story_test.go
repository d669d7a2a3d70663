package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

type ftsRow struct {
	User, State       string
	Messages, Indexed int64
}

// indexed waits until a user's index is in a state; with messages: until so many are in it.
func (d *process) indexed(user, state string, messages int64) {
	d.t.Helper()
	var rows []ftsRow
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-time.After(30 * time.Millisecond) {
		if err := json.Unmarshal([]byte(d.ok("fts", "status", user, "-o", "json")), &rows); err != nil {
			d.t.Fatal(err)
		}
		if len(rows) == 1 && rows[0].State == state && rows[0].Indexed == messages && rows[0].Messages == messages {
			return
		}
	}
	d.t.Fatalf("index of %s: %+v, want %s with %d messages", user, rows, state, messages)
}

// underWay waits until more than so many messages are indexed, and gives how many.
func (d *process) underWay(user string, more int64) int64 {
	d.t.Helper()
	var rows []ftsRow
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if err := json.Unmarshal([]byte(d.ok("fts", "status", user, "-o", "json")), &rows); err != nil {
			d.t.Fatal(err)
		}
		if len(rows) == 1 && rows[0].Indexed > more {
			return rows[0].Indexed
		}
	}
	d.t.Fatalf("index of %s: %+v, want more than %d messages", user, rows, more)
	return 0
}

// indexFiles counts the databases of full-text search.
func (d *process) indexFiles() (n int) {
	list, err := os.ReadDir(filepath.Join(d.dir, "search"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name(), ".db") {
			n++
		}
	}
	return n
}

func appendMail(t testing.TB, c *imapclient.Client, box, subject, body string) {
	t.Helper()
	text := fmt.Sprintf("From: Jürgen <j@example.com>\r\nSubject: %s\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<style>x{}</style><p>%s</p>\r\n", subject, body)
	a := c.Append(box, int64(len(text)), nil)
	if _, err := a.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Wait(); err != nil {
		t.Fatal(err)
	}
}

// search gives the UIDs of what a client finds.
func searchFor(t testing.TB, c *imapclient.Client, crit *imap.SearchCriteria) []imap.UID {
	t.Helper()
	data, err := c.UIDSearch(crit, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return data.AllUIDs()
}

func TestStoryFullText(t *testing.T) {
	// covers: R7.10 R7.15 R7.16 R7.18 I.21
	d := newDaemon(t)
	d.start()
	c := d.imap("alice")
	appendMail(t, c, "INBOX", "Résumé of the year", "Quarterly <b>fi</b>gures, café")
	appendMail(t, c, "INBOX", "會議通知", "明天下午三點開會")
	appendMail(t, c, "INBOX", "other", "nothing of it")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	header := func(key, value string) *imap.SearchCriteria {
		return &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: key, Value: value}}}
	}
	check := func(when string) {
		t.Helper()
		for _, s := range []struct {
			name string
			crit *imap.SearchCriteria
			want []imap.UID
		}{
			{"TEXT resume", &imap.SearchCriteria{Text: []string{"resume"}}, []imap.UID{1}},
			{"BODY figures", &imap.SearchCriteria{Body: []string{"FIGURES"}}, []imap.UID{1}},
			{"BODY figures, cafe", &imap.SearchCriteria{Body: []string{"figures, cafe"}}, []imap.UID{1}},
			{"BODY 開會", &imap.SearchCriteria{Body: []string{"開會"}}, []imap.UID{2}},
			{"BODY 會議", &imap.SearchCriteria{Body: []string{"會議"}}, nil},
			{"SUBJECT 會", header("Subject", "會"), []imap.UID{2}},
			{"FROM jurgen", header("From", "jurgen"), []imap.UID{1, 2, 3}},
			{"TEXT style", &imap.SearchCriteria{Text: []string{"x{}"}}, nil},
			{"NOT TEXT of", &imap.SearchCriteria{Not: []imap.SearchCriteria{{Text: []string{"nothing"}}}}, []imap.UID{1, 2}},
		} {
			if got := searchFor(t, c, s.crit); !slices.Equal(got, s.want) {
				t.Errorf("%s: %s finds %v, want %v", when, s.name, got, s.want)
			}
		}
	}
	check("without an index")
	d.has("off", "fts", "status", "alice")
	d.fails(3, "--enable on", "fts", "reindex", "--all", "--yes")
	d.fails(3, "--enable on", "service", "fts", "set", "--cjk", "on", "--yes")
	if _, errs, code := d.mpctl("service", "fts", "set", "--enable", "on", "--yes"); code != 0 || !strings.Contains(errs, "load of the servers") {
		t.Errorf("exit %d, and no word about the load: %s", code, errs)
	}
	d.indexed("alice", "up to date", 3)
	check("indexed without characters")
	d.ok("service", "fts", "set", "--cjk", "on", "--yes")
	d.has("true", "service", "fts", "show", "-o", "json")
	d.indexed("alice", "up to date", 3)
	check("indexed")
	d.until(`"fts": "running"`, "server", "list", "-o", "json")
	d.has(`"indexed": 3`, "fts", "reindex", "alice", "-o", "json")
	d.fails(7, "no user", "fts", "reindex", "nobody")
	check("indexed anew")

	d.ok("user", "set", "bob", "--fts", "off")
	d.has("user set bob --fts on", "fts", "status", "bob")
	d.fails(3, "no index of bob", "fts", "reindex", "bob")
	d.indexed("alice", "up to date", 3)
	for end := time.Now().Add(20 * time.Second); d.indexFiles() != 1 && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
	}
	if n := d.indexFiles(); n != 1 {
		t.Errorf("%d indexes, want one: bob's is switched off", n)
	}
	d.ok("service", "fts", "set", "--enable", "off", "--yes")
	for end := time.Now().Add(20 * time.Second); d.indexFiles() != 0 && time.Now().Before(end); <-time.After(10 * time.Millisecond) {
	}
	if n := d.indexFiles(); n != 0 {
		t.Errorf("%d indexes are left after the service was switched off", n)
	}
	check("switched off")
}

// TestStoryFullTextKill kills the daemon in the middle of indexing, again and again: what is found
// is right at every moment, and in the end everything is in the index.
func TestStoryFullTextKill(t *testing.T) {
	// covers: I.21
	d := newDaemon(t)
	d.start()
	const count = 600
	c := d.imap("alice")
	for i := range count {
		appendMail(t, c, "INBOX", fmt.Sprint("number ", i), fmt.Sprintf("common word%03d", i%50))
	}
	d.ok("service", "fts", "set", "--enable", "on", "--cpu", "1", "--yes") // slowly: it has to be met on its way
	look := func() {
		t.Helper()
		c := d.imap("alice")
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
		if got := searchFor(t, c, &imap.SearchCriteria{Body: []string{"word017"}}); len(got) != count/50 {
			t.Errorf("%d messages with word017, want %d", len(got), count/50)
		}
		if got := searchFor(t, c, &imap.SearchCriteria{Body: []string{"word050"}}); len(got) != 0 {
			t.Errorf("%d messages with a word that is in none", len(got))
		}
	}
	last := int64(0)
	for round := range 3 {
		done := d.underWay("alice", last)
		if done >= count {
			t.Fatalf("round %d: all %d messages are indexed before the daemon was killed", round, done)
		}
		d.kill()
		d.start()
		look()
		last = done
	}
	d.ok("service", "fts", "set", "--cpu", "100", "--yes")
	d.indexed("alice", "up to date", count)
	look()
}
