// Package search is the full-text index of this node: one SQLite database with an FTS5 table per
// user, built in the background from what the state says, and asked by SEARCH for the messages
// that can hold a text. It holds no text and nothing that can't be built anew.
//
// An answer about a message is Yes, No or Maybe, and never wrong: Maybe, like a message that is
// not in the index yet, is looked into by whoever asks. docs/design/search.md says how.
//
// The index belongs to the node. It is not replicated: each node of a pair builds its own.
package search
