// Package model holds the nouns of the mail system: their types, defaults and
// Validate methods. It imports the standard library only, so that mpctl, the
// daemon and every room between them mean the same thing by the same word.
package model
