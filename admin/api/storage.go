package api

import "mailplusd/admin/op"

// StorageOut is the body store.
type StorageOut struct {
	Segments int   `json:"segments" col:"SEGMENTS"`
	Bodies   int64 `json:"bodies" col:"BODIES"`
	Bytes    int64 `json:"bytes" col:"OCTETS"`
	Live     int64 `json:"live" col:"LIVE"`
	Dead     int64 `json:"dead" col:"DEAD"`
	Appends  int64 `json:"appends" col:"APPENDS"`
	Fsyncs   int64 `json:"fsyncs" col:"FSYNCS"`
	MaxBatch int64 `json:"max_batch" col:"LARGEST BATCH"`
}

// StorageDigestOut is a hash over what this node's state holds.
type StorageDigestOut struct {
	Node    string `json:"node" col:"NODE"`
	Applied uint64 `json:"applied" col:"ENTRY"` // of the log: compare nodes at one entry
	Digest  string `json:"digest" col:"DIGEST"` // SHA-256, hexadecimal
}

// StorageVerifyOut is what a scrub found.
type StorageVerifyOut struct {
	Bodies   int      `json:"bodies" col:"BODIES"`
	Bytes    int64    `json:"bytes" col:"OCTETS"`
	Found    int      `json:"found" col:"FOUND DAMAGED"`
	Repaired int      `json:"repaired" col:"REPAIRED"`      // from the other node's copy
	Damaged  []string `json:"damaged" col:"NOT REPAIRABLE"` // neither node has a good copy
}

// StorageCompactOut is what a compaction did.
type StorageCompactOut struct {
	Segments int   `json:"segments" col:"SEGMENTS REMOVED"`
	Moved    int   `json:"moved" col:"BODIES MOVED"`
	Freed    int64 `json:"freed" col:"OCTETS FREED"`
}

// The store of bodies.
var (
	StorageShow    = op.New[op.None, StorageOut]("storage show", op.Spec{Summary: "show the store of message bodies on this node", Effect: op.Read, Local: true})
	StorageDigest  = op.New[op.None, StorageDigestOut]("storage digest", op.Spec{Summary: "hash the whole state on this node, to compare it with the other node's", Effect: op.Read, Local: true})
	StorageVerify  = op.New[op.None, StorageVerifyOut]("storage verify", op.Spec{Summary: "read every body; damaged ones are repaired from the other node, or named", Effect: op.Run, Alone: true, Local: true, Job: true})
	StorageCompact = op.New[op.None, StorageCompactOut]("storage compact", op.Spec{Summary: "remove unused bodies and give their space back", Effect: op.Run, Alone: true, Local: true, Job: true})
)
