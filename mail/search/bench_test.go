package search

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
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
