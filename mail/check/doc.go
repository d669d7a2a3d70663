// Package check tells what DNS says about a client and a sender, for the stages of the chain that go by
// it. Every look-up has a limit on its time and on what it reads, and what is known for sure is kept for
// a while.
package check
