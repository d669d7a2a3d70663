// Package body brings message bodies to the other node of a pair: copied before the entry
// that names them is proposed, fetched and back-filled where one is missing or damaged.
//
// It knows octets and SHA-256 names only. A Server takes bodies in and gives them out; a
// Mirror sends bodies to the peer and tells when they are durable there; a Puller asks the
// peer for bodies that this node lacks. All of them repeat what a broken connection has
// left open: a body is named by its octets, so storing it twice changes nothing.
//
// On the wire a connection is a preface and frames (frame.go). Small bodies go whole, in
// the form in which they are stored; whoever receives one compares it with its name before
// it is written. Large ones go as a stream of octets, which may begin before their end and
// their name are known.
package body
