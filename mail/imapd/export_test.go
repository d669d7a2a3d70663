package imapd

import (
	"maps"
	"slices"
)

// CommandNames lists every command that the engine knows.
func CommandNames() []string { return slices.Sorted(maps.Keys(commands)) }

// HoldFewMetas has parsed headers read one by one.
func (s *Server) HoldFewMetas() { s.maxMetas = 1 }
