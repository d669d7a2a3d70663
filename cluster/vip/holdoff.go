package vip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// HoldOff has the kernel drop what would open a connection to one of the addresses at a listening
// socket, without a word: the client's kernel tries again after a second, and finds who has the
// address then. What is open stays. Without addresses everything is taken again. Some kernels want
// CAP_NET_ADMIN for the first (Spawner.HoldOff), none for the second. A socket for Multipath TCP
// takes no filter.
func HoldOff(socket syscall.RawConn, addrs ...netip.Addr) error {
	var set error
	err := socket.Control(func(fd uintptr) { set = holdOff(int(fd), addrs) })
	return errors.Join(err, set)
}

func holdOff(fd int, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if errors.Is(err, unix.ENOENT) { // there was none
			return nil
		}
		return err
	}
	prog, err := dropsOpening(addrs)
	if err != nil {
		return err
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// HoldOff is HoldOff by the spawner, which has the capability.
func (s *Spawner) HoldOff(ctx context.Context, socket syscall.RawConn, addrs ...netip.Addr) error {
	if len(addrs) == 0 {
		return HoldOff(socket)
	}
	request := []byte{spawnHoldOff, 0}
	for _, a := range addrs {
		raw := a.Unmap().AsSlice()
		request = append(append(request, byte(len(raw))), raw...)
	}
	if len(request) > maxSpawnRequest {
		return fmt.Errorf("vip: %d addresses are too many at a time", len(addrs))
	}
	var asked error
	err := socket.Control(func(fd uintptr) { asked = s.ask(ctx, request, int(fd)) })
	return errors.Join(err, asked)
}

// holdOffRequest is what the spawner does about HoldOff: data are addresses, each behind its length.
func holdOffRequest(data []byte, fds []int) error {
	if len(fds) != 1 {
		return errors.New("request without a socket")
	}
	var addrs []netip.Addr
	for len(data) > 0 {
		n := int(data[0])
		if n >= len(data) {
			return errors.New("request is cut short")
		}
		a, ok := netip.AddrFromSlice(data[1 : 1+n])
		if !ok {
			return errors.New("no address")
		}
		addrs, data = append(addrs, a), data[1+n:]
	}
	return holdOff(fds[0], addrs)
}

// Offsets of a filter at a TCP socket, whose data begin with the TCP header.
const (
	tcpFlags   = 13
	synAck     = 0x12
	syn        = 0x02
	netHeader  = 0xfff00000 // SKF_NET_OFF, as the 32 bits that bpf wants
	ipv4Target = netHeader + 16
	ipv6Target = netHeader + 24
)

// dropsOpening is a filter that lets everything pass but a SYN without ACK to one of the addresses.
// What belongs to a handshake under way passes, or its client would take it for finished and wait.
func dropsOpening(addrs []netip.Addr) ([]unix.SockFilter, error) {
	const pass, drop = ^uint32(0), 0
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: tcpFlags, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: synAck},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: syn, SkipTrue: 1},
		bpf.RetConstant{Val: pass},
	}
	for _, a := range addrs {
		version, target, b := uint32(4), uint32(ipv4Target), a.Unmap().AsSlice()
		if len(b) == 16 {
			version, target = 6, ipv6Target
		}
		n := uint8(len(b) / 4)
		rest := 2*n + 1 // what follows a comparison, of this address
		prog = append(prog,
			bpf.LoadAbsolute{Off: netHeader, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: version, SkipTrue: rest})
		for i := range n {
			rest -= 2
			prog = append(prog,
				bpf.LoadAbsolute{Off: target + 4*uint32(i), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*i:]), SkipTrue: rest})
		}
		prog = append(prog, bpf.RetConstant{Val: drop})
	}
	raw, err := bpf.Assemble(append(prog, bpf.RetConstant{Val: pass}))
	if err != nil {
		return nil, err
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}
