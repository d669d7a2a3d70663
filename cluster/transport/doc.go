// Package transport is the link between the nodes of a pair: one TCP port, TLS 1.3 both
// ways, and nothing but pinned keys decides who may speak.
//
// # Keys
//
// Each node has one Ed25519 key (Identity). A certificate is only the envelope that TLS
// wants around it: it is made anew at each start, signed by itself, has no name that
// matters and never expires. Both sides compare the key they see with the key they pinned
// when they were paired (SetPeers). A key that is no longer pinned loses its connections
// at once.
//
// # Protocols
//
// The ALPN name of a connection says what is spoken on it (Proto). Each protocol has its
// own Listener with its own queue, so one that nobody serves refuses its connections and
// delays no other. After the TLS handshake the accepting side sends one octet, welcome or
// the reason why not; a Dial that returns without error has therefore reached a node that
// accepts this node's key and has a place for the connection.
//
// # Calls
//
// Handle and Call are request and answer over one kept connection for each peer: numbered
// requests, answers in any order, frames of many callers in one write. ErrUnreachable says
// that a call did not happen, ErrConnLost that it may have happened.
//
// # Pairing
//
// Protocol Pair is the only one open to unknown keys, and only while somebody may pair
// (Invite, Pairing.Login). The dialling side knows the other's key in advance, from the
// token or from a fingerprint that a human compared; it proves its right with a value that
// is computed from the TLS channel itself and is worthless on any other channel. Nothing
// is stored here: both callers get the other's key, hello and clock difference.
//
// # Discovery
//
// Discovery asks the local network by multicast for nodes and answers such questions. What
// it returns is a hint for a human and proves nothing.
package transport
