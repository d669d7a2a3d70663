// Package forward lets any node propose entries and read its own state without ever showing
// the past: what the node can't do itself it asks the leader for.
//
// Proposer.Propose on the leader is Node.Propose. On another node the entry is sent to the
// leader, together with the others that wait (up to 256 or 1 MiB in one call, several
// calls under way), and the result is returned when this node has applied the entry, so
// that a following read here sees it.
//
// Proposer.Fresh waits until this node has applied everything that was acknowledged
// anywhere before the call. All readers that wait share one question to the leader.
//
// The other side of both is the function that Serve gives.
package forward
