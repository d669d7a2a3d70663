// Package tools holds the rules of the repository as tests: which way imports point, and that
// every package says what it is.
package tools
