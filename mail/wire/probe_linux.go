package wire

import (
	"net"
	"syscall"
)

// readNow reads what the kernel holds for the socket without waiting; peek
// leaves it there. ok is false when the connection is no plain socket; n is 0
// when nothing waits and negative after an error or the end of input.
func readNow(c net.Conn, p []byte, peek bool) (n int, ok bool) {
	sc, is := c.(syscall.Conn)
	if !is {
		return 0, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return -1, true
	}
	flags := syscall.MSG_DONTWAIT
	if peek {
		flags |= syscall.MSG_PEEK
	}
	err = rc.Read(func(fd uintptr) bool {
		for {
			var e error
			n, _, e = syscall.Recvfrom(int(fd), p, flags)
			switch {
			case e == syscall.EINTR:
				continue
			case e == syscall.EAGAIN:
				n = 0
			case e != nil || n == 0:
				n = -1
			}
			return true
		}
	})
	if err != nil {
		return -1, true
	}
	return n, true
}
