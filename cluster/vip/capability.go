package vip

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// networkCaps are the guard's capabilities.
const networkCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW

func capabilities() (data [2]unix.CapUserData, err error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return data, unix.Capget(&head, &data[0])
}

// Capable tells whether this process has what a guard of Netlink needs, or may have it.
func Capable() bool {
	data, err := capabilities()
	return err == nil && data[0].Permitted&networkCaps == networkCaps
}

// DropCapabilities takes CAP_NET_ADMIN and CAP_NET_RAW from every thread of this process, for good:
// only a Spawner's guards have them from here on. Others stay, such as the one to bind low ports. It
// fails in a program that is built with cgo.
func DropCapabilities() error {
	data, err := capabilities()
	if err != nil {
		return fmt.Errorf("vip: capabilities: %w", err)
	}
	data[0].Effective &^= networkCaps
	data[0].Permitted &^= networkCaps
	data[0].Inheritable &^= networkCaps
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	// Capabilities are a thread's own: capset(2).
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return fmt.Errorf("vip: drop capabilities: %w", errno)
	}
	return nil
}
