//go:build !linux

package wire

import "net"

// readNow has no portable form; callers then judge by what is buffered.
func readNow(net.Conn, []byte, bool) (int, bool) { return 0, false }
