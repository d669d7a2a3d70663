// Package share lets both nodes of a pair serve sessions. The node that holds the floating
// address accepts; the unit is the session. Before a byte has been read of a client or
// written to it, its connection may be handed to the other node: a stream to that node
// begins with a small header (Header), and from then on octets are copied as they come. TLS
// ends on the node that serves, which has the same certificates.
//
// The node that serves puts the stream into its own listener of the same name with the
// client's address, so that limits, locks, log lines and trace headers know the client. A
// session that was taken in is never handed on. The node that accepted has counted and
// admitted it: the other one counts it, too, but refuses nothing.
//
// Which node serves a client follows from the client's address and the weights alone
// (Policy.Choose), whichever node accepts, so that a client keeps its node when the address
// moves, and its failed logins are mostly counted in one place.
//
// When the other node can't be reached or doesn't want the session, it is served where it
// came in. When a node dies, the clients it served lose their connection at once and
// connect again.
package share
