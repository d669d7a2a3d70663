package maillog

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// carry brings everything that is new from one log to another.
func carry(t rapid.TB, name string, from, to *Log) {
	t.Helper()
	for {
		log, after, err := to.Position(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := from.Own(context.Background(), log, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Events) == 0 {
			return
		}
		for range 2 { // an answer that got lost is asked for again
			if err := to.Take(name, b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPeer: whatever two nodes log and whenever they ask each other, in the end both show every
// event once, in order of time, and who logged it.
func TestPeer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := open(t, 0), open(t, 0)
		clock, total := time.Unix(1_700_000_000, 0), 0
		for i := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "do") {
			case 0:
				carry(rt, "a", a, b)
			case 1:
				carry(rt, "b", b, a)
			default:
				at := []*Log{a, b}[i%2]
				for range rapid.IntRange(1, 5).Draw(rt, "events") {
					clock = clock.Add(time.Second)
					at.Emit(Event{Time: clock, Type: Sent, Status: Sent, Subject: fmt.Sprint(total)})
					total++
				}
			}
		}
		carry(rt, "a", a, b)
		carry(rt, "b", b, a)
		at, err := a.Query(context.Background(), Filter{Limit: 10000})
		if err != nil {
			rt.Fatal(err)
		}
		bt, err := b.Query(context.Background(), Filter{Limit: 10000})
		if err != nil || len(at) != total || len(bt) != total {
			rt.Fatalf("%d and %d events of %d, %v", len(at), len(bt), total, err)
		}
		for i := range at {
			if want := fmt.Sprint(total - 1 - i); at[i].Subject != want || bt[i].Subject != want || (at[i].Node == "") != (bt[i].Node == "a") || (bt[i].Node == "") != (at[i].Node == "b") {
				rt.Fatalf("line %d: %+v and %+v", i, at[i], bt[i])
			}
		}
	})
}

// TestPeerAnew: a node that begins a new log is read from its beginning, and what its old one
// said is kept.
func TestPeerAnew(t *testing.T) {
	a, b, anew := open(t, 0), open(t, 0), open(t, 0)
	for i := range maxBatch + 5 {
		a.Emit(Event{Type: Sent, Status: Sent, Subject: fmt.Sprint("old ", i)})
	}
	carry(t, "a", a, b)
	anew.Emit(Event{Type: Sent, Status: Sent, Subject: "new"})
	carry(t, "a", anew, b)
	got, err := b.Query(context.Background(), Filter{Limit: 10000})
	if err != nil || len(got) != maxBatch+6 || got[0].Subject != "new" {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

// TestVersion1: a database of the first version is taken over, and read as it is as a file.
func TestVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`CREATE TABLE event (id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, trace TEXT NOT NULL, message_id TEXT NOT NULL,
  sender TEXT NOT NULL, recipient TEXT NOT NULL, subject TEXT NOT NULL, size INTEGER NOT NULL, status TEXT NOT NULL,
  client TEXT NOT NULL, remote TEXT NOT NULL, code INTEGER NOT NULL, reason TEXT NOT NULL)`,
		`CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)`,
		`INSERT INTO about VALUES ('kind','mailplusd mail log'),('version','1')`,
		`INSERT INTO event(time,type,trace,message_id,sender,recipient,subject,size,status,client,remote,code,reason) VALUES (1,'sent','','','','','of old',1,'sent','','',0,'')`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	ask := func(l *Log, want int) {
		t.Helper()
		if got, err := l.Query(context.Background(), Filter{}); err != nil || len(got) != want || got[want-1].Subject != "of old" {
			t.Errorf("%v %v", got, err)
		}
	}
	file, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ask(file, 1)
	file.Close()
	for i := range 2 {
		l, err := Open(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		l.Emit(Event{Type: Sent, Status: Sent, Subject: "of now"})
		ask(l, 2+i)
		l.Close()
	}
}
