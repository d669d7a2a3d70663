package transport

import "time"

// Proto names what is spoken on a connection; it is the ALPN name in the TLS handshake.
type Proto string

// The protocols of the link.
const (
	Raft    Proto = "mp-raft/1"    // hashicorp/raft's own
	Body    Proto = "mp-body/1"    // message bodies
	Session Proto = "mp-session/1" // client sessions handed to the peer
	Call    Proto = "mp-call/1"    // request and answer, served by this package
	Lease   Proto = "mp-lease/1"   // lease frames
	Admin   Proto = "mp-admin/1"   // administration passed on to the leader
	Pair    Proto = "mp-pair/1"    // pairing, open to keys that are not pinned
)

// traits are the limits of a protocol.
type traits struct {
	conns int // open connections with one peer, both directions
	// stalled ends a connection whose octets the peer's kernel doesn't take for so long
	// (TCP_USER_TIMEOUT). Linux counts also the time in which the peer lives but doesn't
	// read, so a protocol whose reader may pause for its disk or its client has more.
	stalled time.Duration
}

var protocols = map[Proto]traits{
	Raft:    {conns: 64, stalled: 10 * time.Second}, // raft has deadlines of its own
	Body:    {conns: 64, stalled: 30 * time.Second},
	Session: {conns: 20_000, stalled: 6 * time.Minute}, // a client may pause for 5; a dead node is found out by the keep-alive and by the lease
	Call:    {conns: 16, stalled: 5 * time.Second},
	Lease:   {conns: 16, stalled: 5 * time.Second},
	Admin:   {conns: 64, stalled: time.Minute},
	Pair:    {conns: 4, stalled: 10 * time.Second}, // of all strangers together
}

// linkProtos are those that need a pinned key.
var linkProtos = []string{string(Raft), string(Body), string(Session), string(Call), string(Lease), string(Admin)}

// status is the octet that the accepting side sends first.
type status byte

const (
	welcome status = iota + 1
	nobodyListens
	queueFull
	tooMany
	pairingClosed
)

func (s status) String() string {
	switch s {
	case welcome:
		return "welcome"
	case nobodyListens:
		return "nobody listens there for this protocol"
	case queueFull:
		return "too many connections wait there for this protocol"
	case tooMany:
		return "too many connections of this protocol are open"
	case pairingClosed:
		return "pairing is not open there"
	}
	return "unknown answer"
}
