// Package pair decides on each node of a pair who serves: who holds the floating address,
// who may go on alone, who follows, and how the two come together again. It knows the
// replicated log (package cluster), the link between the nodes (cluster/transport), the
// lease (cluster/lease) and the floating address (cluster/vip), and reaches everything of
// mail through Hooks.
//
// # What a node is
//
// Facts are what a node must know before its log is opened, kept in ha-state.json:
//
//	single   no peer
//	joining  a peer serves; this node receives what it lacks and may not take over
//	pair     both nodes are voters of the log; each may take over with the arbiter's word
//	solo     this node serves alone, by a grant that is on disk
//
// Three more are of the moment and shown by Status: cold (started, has talked to nobody
// yet), isolated (the lease is over and nobody has granted more: no address, no writes)
// and merging (this node's own history is being brought over to the peer).
//
// # Who serves
//
// In a pair the primary holds the address and leads the log. It may do so only while its
// lease runs: a frame every Timing.Frame, answered by the secondary, which promises with
// each answer to leave the primary alone for Timing.Term. The secondary takes over when the
// promise and a margin are over, or when the primary has said that it let go, and the
// arbiter agrees. The primary goes on alone when the secondary is silent and the arbiter
// agrees. An arbiter that says no, or nothing, means: don't.
//
// # Level, not edge
//
// The brain is one goroutine that looks at the facts and the evidence and does the next
// thing that brings the node to where it should be. A step that fails is done again; a
// crash between two steps is a step that has not been done yet. Facts are written before
// what they allow is done, and grants are given up before what replaces them is begun.
//
// # Whose history
//
// Each decision to serve alone is a branch of the history. Only histories say whether a node
// may follow another: raft cuts what does not fit, and that may have been acknowledged. A
// node that joins takes over the peer's history at once and its entries later; Facts.Whole
// says up to which epoch it has them. If it serves after all (Setup.StaleAuto, Recover), the
// branches that it lacks entries of are not part of its history: the peer sees that the
// two have diverged, and merges. A node becomes Paired when its log is committed up to
// where the primary's was with both votes in force; its own configuration says little, as
// it may be one of an earlier pair.
//
// # A grant that was not used
//
// The witness may have granted and the answer was lost, or came when the primary was back.
// A grant that arrives is used, whatever has changed: the other node would be refused from
// then on. One that was lost shows in the answer to the primary's Contact
// (ErrUnreported), and both nodes sign anew that they are in sync. The report names the
// serial of the witness's record, not only epoch and turn: after a merge the epoch of the
// pair may be lower than one that was granted. Nobody signs while it is asking.
package pair
