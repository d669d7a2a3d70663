package view

import (
	"container/list"
	"sync"

	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// Bounds of a Cache.
var (
	cacheMessages = 500_000     // in all images together, of 40 octets each
	cacheSmallest = uint32(200) // mailboxes with fewer messages are read each time
	cacheClaims   = 50_000      // mailboxes with claims of \Recent
)

// Cache opens views. Large mailboxes are kept as they were read last, so that the next session
// reads only what has changed since, and sessions share the memory until they differ. It also
// knows which messages a session has been told of first. The zero value is ready.
type Cache struct {
	mu     sync.Mutex
	images map[model.MailboxID]*image
	lru    list.List // of *image, the one used last in front
	total  int
	claims map[model.MailboxID]claim
}

// image is a mailbox at one moment. What is in messages never changes.
type image struct {
	id       model.MailboxID
	at       *list.Element
	counted  int // messages counted in Cache.total
	mu       sync.Mutex
	loaded   bool
	gen      uint64
	mailbox  model.Mailbox
	messages []Message
	words    words
}

// Open reads a mailbox as it is now; box may be of a moment ago.
func (c *Cache) Open(s Store, box model.Mailbox, readOnly bool) (*View, error) {
	v := &View{store: s, cache: c, readOnly: readOnly}
	if box.Messages < cacheSmallest {
		img := image{id: box.ID}
		if err := img.read(s); err != nil {
			return nil, err
		}
		img.fill(v)
		v.shared, v.words = false, img.words
	} else {
		img := c.image(box.ID)
		img.mu.Lock()
		err := img.refresh(s)
		if err == nil {
			img.fill(v)
		}
		img.mu.Unlock()
		if err != nil {
			return nil, err
		}
		c.count(img, len(v.Messages))
	}
	v.claim()
	return v, nil
}

func (i *image) fill(v *View) {
	v.Mailbox, v.Messages, v.shared = i.mailbox, i.messages, true
	v.modseq, v.gen = i.mailbox.HighestModSeq, i.gen
}

// image finds or makes the image of a mailbox and puts it in front.
func (c *Cache) image(id model.MailboxID) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	img := c.images[id]
	if img == nil {
		if c.images == nil {
			c.images = map[model.MailboxID]*image{}
		}
		img = &image{id: id}
		img.at = c.lru.PushFront(img)
		c.images[id] = img
	}
	c.lru.MoveToFront(img.at)
	return img
}

// count notes an image's size and drops those used longest ago.
func (c *Cache) count(img *image, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.images[img.id] == img {
		c.total += n - img.counted
		img.counted = n
	}
	for c.total > cacheMessages {
		old := c.lru.Back().Value.(*image)
		c.lru.Remove(old.at)
		delete(c.images, old.id)
		c.total -= old.counted
	}
}

func (i *image) read(s Store) error {
	i.loaded, i.words = false, nil
	gen := s.Generation()
	row, err := s.MailboxByID(i.id)
	if err != nil {
		return err
	}
	list := make([]Message, 0, row.Messages)
	m, err := s.View(i.id, 1, 1<<32-1, func(st *model.MessageState) bool {
		list = append(list, i.words.message(st))
		return true
	})
	if err != nil {
		return err
	}
	i.loaded, i.gen, i.mailbox, i.messages = true, gen, m, list
	return nil
}

// refresh brings the image up to date, in new memory when anything has changed.
func (i *image) refresh(s Store) error {
	gen := s.Generation()
	if !i.loaded || gen != i.gen {
		return i.read(s)
	}
	m, err := s.MailboxByID(i.id)
	if err != nil {
		return err
	}
	if m.HighestModSeq == i.mailbox.HighestModSeq {
		i.mailbox = m
		return nil
	}
	c, err := s.Changes(i.id, i.mailbox.HighestModSeq)
	if err != nil {
		return err
	}
	v := View{store: s, Mailbox: i.mailbox, Messages: i.messages, shared: true, words: i.words, modseq: i.mailbox.HighestModSeq}
	v.apply(&c)
	i.mailbox, i.messages, i.words = v.Mailbox, v.Messages, v.words
	return nil
}

// apply is Poll for an image: nobody is told.
func (v *View) apply(c *state.Changes) {
	v.own()
	for _, uid := range c.Expunged {
		if i, ok := v.Index(uid); ok && !v.Messages[i].Gone {
			v.Messages[i].Gone = true
			v.gone++
		}
	}
	v.merge(c, &Update{})
	v.drop()
	v.Mailbox, v.modseq = c.Mailbox, c.Mailbox.HighestModSeq
}
