// Package sender proves who a message is from: it signs what leaves (DKIM, RFC 6376), and knows the
// records in DNS that belong to it.
package sender
