// Package state is the replicated state: tables of settings and nouns, mailboxes
// with their messages, and the queue, in one pebble database.
//
// Nothing changes it but Apply, which the replicated log calls in the same order
// on every node. An entry is one version byte and a CBOR Entry: who made it, when,
// and a list of operations that hold together: all of them are applied, or none.
//
// Two kinds of operation (ops.go):
//
//   - Rows: put and delete with the versions that the proposer has read. All
//     thinking is done before; the state machine compares and stores.
//   - Mail operations: append, flags, expunge, copy, queue. The state machine gives
//     UIDs and mod-sequences, so the result depends on the log alone and an
//     operation can be replayed onto another history.
//
// Every batch carries the index of the entry that it applies, so a restart goes on
// behind it; pebble's own log is off because the replicated log is the log.
package state
