// Package packaging holds what turns the programs into something that is installed, and the tests
// that install it.
package packaging
