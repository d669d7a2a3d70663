// Package pairtest is the proof that a pair loses nothing: its tests run real daemons in network
// namespaces behind a switch that is told what to do to the frames, with clients that keep
// every answer they got. It has no code of its own.
package pairtest
