package imapd

import (
	"maps"
	"slices"
)

// CommandNames lists every command that the engine knows.
func CommandNames() []string { return slices.Sorted(maps.Keys(commands)) }
