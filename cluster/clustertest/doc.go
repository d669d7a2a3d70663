// Package clustertest runs several nodes of a cluster in one process, for tests: their
// connections can be cut and healed, nodes can be killed as by a crash, stopped cleanly and
// started again, and the sequences that their state machines hold can be compared.
//
//	c := clustertest.New(t, 3)
//	c.Propose("a")
//	c.Cut(0, 1)
//	c.Kill(2)
//	c.Start(2)
//	c.CheckSame()
//
// Everything is closed at the end of the test.
package clustertest
