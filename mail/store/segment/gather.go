package segment

import "time"

// How long the writer waits for company, when there is reason to expect some: about as long as
// the sync that it may save. One writer alone never waits.
const (
	gatherMin = time.Millisecond
	gatherMax = 5 * time.Millisecond
	gatherTo  = 32 // bodies that are company enough
)

// company is how many bodies a batch should have before it is worth a sync; 1: don't wait.
// last is the size of the batch before, writers how many spools are open. Those of the batch
// before may be busy elsewhere (the log, the next envelope), so half of what is under way is as
// much as can be hoped for. Spools of slow senders count, too; that is why a batch of one before
// decides alone.
func company(last, writers int) int {
	if last <= 1 {
		return 1
	}
	return min(max(last, writers/2), gatherTo)
}

// patience is how long to wait in all, given how long a sync takes.
func patience(sync time.Duration) time.Duration { return min(max(sync, gatherMin), gatherMax) }

// gather adds to a batch what waits already and, up to want bodies, what comes within limit;
// when nobody has come for half of that, it gives up.
func (s *Store) gather(batch []*put, want int, limit time.Duration) []*put {
	size := batch[0].length()
	var start time.Time
	var timer *time.Timer
	for size < maxBatch {
		select {
		case p := <-s.puts:
			batch = append(batch, p)
			size += p.length()
			continue
		default:
		}
		if len(batch) >= want {
			break
		}
		if timer == nil {
			start, timer = time.Now(), time.NewTimer(limit/2)
			defer timer.Stop()
		} else {
			gap := min(limit/2, limit-time.Since(start))
			if gap <= 0 {
				break
			}
			timer.Reset(gap)
		}
		select {
		case p := <-s.puts:
			batch = append(batch, p)
			size += p.length()
		case <-timer.C:
			return batch
		}
	}
	return batch
}
