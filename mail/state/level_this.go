//go:build !nextlevel

package state

// nextLevel is 0. The tag nextlevel makes a program of the version to come, for the test of a
// rolling upgrade: the same one, that knows one level more.
const nextLevel = 0
