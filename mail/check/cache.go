package check

import (
	"sync"
	"time"
)

// What is known for sure is kept this long, and so many of it.
const (
	keep     = 5 * time.Minute
	maxCache = 20_000
)

// cache keeps answers for a while.
type cache[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]answer[V]
}

type answer[V any] struct {
	value V
	err   error
	until time.Time
}

func (c *cache[K, V]) get(k K, now time.Time) (answer[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.m[k]
	return a, ok && now.Before(a.until)
}

func (c *cache[K, V]) put(k K, a answer[V], now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCache { // rather than hold what a flood of strangers has filled it with
		c.m = map[K]answer[V]{}
	}
	a.until = now.Add(keep)
	c.m[k] = a
}
