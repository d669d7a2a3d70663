package search

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"mailplusd/mail/message"
)

// BenchmarkIndex puts messages of 600 words out of 20,000 into an index.
func BenchmarkIndex(b *testing.B) {
	w := newWorld(b, Config{})
	r := rand.New(rand.NewPCG(1, 2))
	var texts []string
	for i := range b.N {
		var t strings.Builder
		for range 600 {
			f := r.Float64()
			fmt.Fprintf(&t, "word%05d ", int(f*f*f*20000))
		}
		texts = append(texts, mail(fmt.Sprint("number ", i), t.String()))
		if len(texts) == 500 || i == b.N-1 {
			w.add("INBOX", texts...)
			texts = texts[:0]
		}
	}
	w.stop()
	w.cfg = Config{On: true, CJK: true}
	b.ResetTimer()
	w.start()
	for n := int64(0); n < int64(b.N); <-time.After(time.Millisecond) {
		if st := w.ix.Status(); len(st) == 1 {
			n = st[0].Indexed
		}
	}
}

// BenchmarkFrequent asks for what is in every message, or nearly: phrases of frequent words, and parts of
// very many words. scan/index is how much longer it takes to read every message.
func BenchmarkFrequent(b *testing.B) {
	const count = 2000
	w := newWorld(b, Config{On: true, CJK: true})
	r := rand.New(rand.NewPCG(1, 2))
	var texts []string
	for i := range count {
		var t strings.Builder
		t.WriteString("these common words stand everywhere\r\n")
		for range 600 {
			f := r.Float64()
			fmt.Fprintf(&t, "word%05d ", int(f*f*f*20000))
		}
		texts = append(texts, mail(fmt.Sprint("number ", i), t.String()))
		if len(texts) == 500 {
			w.add("INBOX", texts...)
			texts = texts[:0]
		}
	}
	w.settled()
	m, list, err := w.store.Snapshot(w.box("INBOX").ID)
	if err != nil {
		b.Fatal(err)
	}
	for _, needle := range []string{"common words", "common word", "words common", "word00001 word", "word", "e", "word0"} {
		b.Run(strings.ReplaceAll(needle, " ", "_"), func(b *testing.B) {
			started := time.Now()
			for _, st := range list {
				raw, err := w.ix.readBody(st.Body)
				if err != nil {
					b.Fatal(err)
				}
				words := message.Walk(raw, message.DefaultLimits()).Root.Words(raw)
				words.AnyHas(needle)
			}
			scan := time.Since(started)
			b.ResetTimer()
			for range b.N {
				found, ok := w.ix.Find(b.Context(), alice, m.ID, Text, needle)
				if !ok {
					b.Fatal("no answer")
				}
				for _, st := range list {
					if found.Of(st.UID) == Maybe {
						b.Fatalf("not sure about %d", st.UID)
					}
				}
			}
			b.ReportMetric(float64(scan)/(float64(b.Elapsed())/float64(b.N)), "scan/index")
		})
	}
}
