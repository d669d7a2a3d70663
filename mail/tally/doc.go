// Package tally counts what each client does: what it makes within a minute, and what it has open at a
// time. Two nodes tell each other what they count, so that a client may not do twice as much because two
// nodes serve it.
package tally
