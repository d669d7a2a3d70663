package state

import (
	"sync"

	"mailplusd/mail/model"
)

// Watch wakes its owner when something it looks at has changed. Wakes are
// coalesced: after one, the owner reads what is new by its own last mod-sequence.
type Watch struct {
	c         chan struct{}
	bus       *bus
	mailboxes []model.MailboxID
	account   model.AccountID
	topic     Topic
	mu        sync.Mutex
	fn        func()
}

// OnWake also calls fn at each wake until it is replaced; nil ends it. fn must be quick and must
// not use the watch. It spares its owner a goroutine that only waits.
func (w *Watch) OnWake(fn func()) {
	w.mu.Lock()
	w.fn = fn
	w.mu.Unlock()
}

// Topic is what a watch without mailboxes looks at.
type Topic uint8

// Topics.
const (
	TopicNone     Topic = iota
	TopicRows           // any table changed
	TopicQueue          // recipients were queued or changed
	TopicMessages       // any message was added, anywhere
)

// C has a value after a change.
func (w *Watch) C() <-chan struct{} { return w.c }

// Close ends the watch.
func (w *Watch) Close() { w.bus.remove(w) }

func (w *Watch) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
	w.mu.Lock()
	fn := w.fn
	w.mu.Unlock()
	if fn != nil {
		fn()
	}
}

// change is what an applied entry has touched.
type change struct {
	mailboxes []model.MailboxID
	accounts  []model.AccountID
	rows      bool
	queue     bool
	messages  bool
	due       []Due
}

type bus struct {
	mu        sync.RWMutex
	mailboxes map[model.MailboxID]map[*Watch]struct{}
	accounts  map[model.AccountID]map[*Watch]struct{}
	topics    map[Topic]map[*Watch]struct{}
	feeds     map[*Feed]struct{}
}

func newBus() *bus {
	return &bus{
		mailboxes: map[model.MailboxID]map[*Watch]struct{}{},
		accounts:  map[model.AccountID]map[*Watch]struct{}{},
		topics:    map[Topic]map[*Watch]struct{}{},
		feeds:     map[*Feed]struct{}{},
	}
}

func put[K comparable](m map[K]map[*Watch]struct{}, k K, w *Watch) {
	set := m[k]
	if set == nil {
		set = map[*Watch]struct{}{}
		m[k] = set
	}
	set[w] = struct{}{}
}

func drop[K comparable](m map[K]map[*Watch]struct{}, k K, w *Watch) {
	if set := m[k]; set != nil {
		delete(set, w)
		if len(set) == 0 {
			delete(m, k)
		}
	}
}

func (b *bus) add(w *Watch) *Watch {
	w.c = make(chan struct{}, 1)
	w.bus = b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range w.mailboxes {
		put(b.mailboxes, id, w)
	}
	if w.account != 0 {
		put(b.accounts, w.account, w)
	}
	if w.topic != TopicNone {
		put(b.topics, w.topic, w)
	}
	return w
}

func (b *bus) remove(w *Watch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range w.mailboxes {
		drop(b.mailboxes, id, w)
	}
	drop(b.accounts, w.account, w)
	drop(b.topics, w.topic, w)
}

func (b *bus) publish(c *change) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, id := range c.mailboxes {
		for w := range b.mailboxes[id] {
			w.wake()
		}
	}
	for _, id := range c.accounts {
		for w := range b.accounts[id] {
			w.wake()
		}
	}
	topic := func(on bool, t Topic) {
		if on {
			for w := range b.topics[t] {
				w.wake()
			}
		}
	}
	topic(c.rows, TopicRows)
	topic(c.queue, TopicQueue)
	topic(c.messages, TopicMessages)
	for f := range b.feeds {
		f.note(c.accounts, c.rows, false)
	}
}

// wakeAll wakes every watch: everything may have changed.
func (b *bus) wakeAll() {
	b.mu.RLock()
	defer b.mu.RUnlock()
	woken := map[*Watch]struct{}{}
	wake := func(set map[*Watch]struct{}) {
		for w := range set {
			if _, done := woken[w]; !done {
				woken[w] = struct{}{}
				w.wake()
			}
		}
	}
	for _, set := range b.mailboxes {
		wake(set)
	}
	for _, set := range b.accounts {
		wake(set)
	}
	for _, set := range b.topics {
		wake(set)
	}
	for f := range b.feeds {
		f.note(nil, true, true)
	}
}
