//go:build nextlevel

package state

const nextLevel = 1
