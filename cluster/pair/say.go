package pair

import (
	"regexp"
	"time"
)

// maxSaid bounds how many different alarms are remembered.
const maxSaid = 64

// Times and numbers in a message change without anything having changed.
var changing = regexp.MustCompile(`([0-9]+(\.[0-9]+)?(h|ms|m|µs|ns|s))+|[0-9]+`)

// sayOnce logs what is wrong when it is new, and once a minute while it lasts. as is what this node
// is: when that changes everything is new.
func (c *Controller) sayOnce(as, what string, log func()) {
	if what == "" {
		return
	}
	what = changing.ReplaceAllString(what, "#")
	now := c.now()
	c.mu.Lock()
	if c.saidAs != as || len(c.said) >= maxSaid {
		clear(c.said)
		c.saidAs = as
	}
	last, again := c.said[what]
	due := !again || now-last >= time.Minute
	if due {
		c.said[what] = now
	}
	c.mu.Unlock()
	if due {
		log()
	}
}
