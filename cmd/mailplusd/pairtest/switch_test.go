package pairtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lanSwitch is an Ethernet switch in this process: it learns where addresses are, as a real one
// does, and loses, delays and blocks frames by the direction in which they go.
type lanSwitch struct {
	mu     sync.Mutex
	ports  []*port
	where  map[[6]byte]*port
	ways   map[[2]string]way // from, to
	random *rand.Rand
	watch  func(p *port, frame []byte)
	wg     sync.WaitGroup
}

// way is what happens to frames of one direction.
type way struct {
	cut     bool
	ipOnly  bool // with cut: ARP passes, as over a LAN on which only the nodes' ports are blocked
	percent int  // lost
	delay   time.Duration
}

type port struct {
	name string
	file *os.File
	sw   *lanSwitch
}

func newSwitch(t testing.TB, seed uint64) *lanSwitch {
	s := &lanSwitch{where: map[[6]byte]*port{}, ways: map[[2]string]way{}, random: rand.New(rand.NewPCG(seed, 1))}
	t.Cleanup(func() {
		s.mu.Lock()
		ports := s.ports
		s.mu.Unlock()
		for _, p := range ports {
			p.file.Close()
		}
		s.wg.Wait()
	})
	return s
}

// plug makes eth0 in the calling thread's namespace and reads what it sends.
func (s *lanSwitch) plug(name string) (*port, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq("eth0")
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("tap: %w", err)
	}
	p := &port{name: name, file: os.NewFile(uintptr(fd), "tap-"+name), sw: s}
	s.mu.Lock()
	s.ports = append(s.ports, p)
	s.mu.Unlock()
	s.wg.Go(p.read)
	return p, nil
}

// carrier pulls or plugs the cable of the port.
func (p *port) carrier(on bool) error {
	v := int32(0)
	if on {
		v = 1
	}
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.TUNSETCARRIER, uintptr(unsafe.Pointer(&v)))
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

func (p *port) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.file.Read(buf)
		if err != nil {
			if os.IsTimeout(err) || isDown(err) {
				time.Sleep(time.Millisecond) // a cable that is not plugged in has no events
				continue
			}
			return
		}
		if n >= 14 {
			p.sw.forward(p, buf[:n])
		}
	}
}

// isDown tells an interface that is down from one that is gone.
func isDown(err error) bool {
	pe, ok := err.(*os.PathError)
	return ok && (pe.Err == syscall.EIO || pe.Err == syscall.EAGAIN)
}

const (
	etherARP  = 0x0806
	arpTarget = 14 + 24
)

func etherType(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[12:]) }

func (s *lanSwitch) forward(from *port, frame []byte) {
	var dst, src [6]byte
	copy(dst[:], frame)
	copy(src[:], frame[6:])
	s.mu.Lock()
	if s.watch != nil {
		s.watch(from, frame)
	}
	s.where[src] = from
	to := s.ports
	if p := s.where[dst]; p != nil && dst[0]&1 == 0 {
		to = []*port{p}
	}
	type sending struct {
		p     *port
		delay time.Duration
	}
	var send []sending
	for _, p := range to {
		if p == from {
			continue
		}
		w := s.ways[[2]string{from.name, p.name}]
		if w.cut && !(w.ipOnly && etherType(frame) == etherARP) || w.percent > 0 && s.random.IntN(100) < w.percent {
			continue
		}
		send = append(send, sending{p, w.delay})
	}
	s.mu.Unlock()
	for _, d := range send {
		if d.delay == 0 {
			d.p.file.Write(frame) // an interface that is down loses it, as a cable would
			continue
		}
		late := bytes.Clone(frame)
		time.AfterFunc(d.delay, func() { d.p.file.Write(late) })
	}
}

// set says what happens from one port to another; "" stands for every one.
func (s *lanSwitch) set(from, to string, w way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.ports {
		for _, b := range s.ports {
			if a != b && (from == "" || from == a.name) && (to == "" || to == b.name) {
				s.ways[[2]string{a.name, b.name}] = w
			}
		}
	}
}

// both is set in both directions.
func (s *lanSwitch) both(a, b string, w way) {
	s.set(a, b, w)
	s.set(b, a, w)
}

// heal ends all faults of the network.
func (s *lanSwitch) heal() {
	s.set("", "", way{})
	s.mu.Lock()
	ports := s.ports
	s.mu.Unlock()
	for _, p := range ports {
		p.carrier(true)
	}
}

// arpRequest asks who has an address.
func arpRequest(mac net.HardwareAddr, self, target [4]byte) []byte {
	f := make([]byte, 42)
	copy(f, []byte{255, 255, 255, 255, 255, 255})
	copy(f[6:], mac)
	binary.BigEndian.PutUint16(f[12:], etherARP)
	copy(f[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(f[22:], mac)
	copy(f[28:], self[:])
	copy(f[arpTarget:], target[:])
	return f
}

// arpSender reads the claim in an ARP frame: whose address, and which hardware has it.
func arpSender(frame []byte) (addr [4]byte, mac [6]byte, reply, ok bool) {
	if len(frame) < 42 || etherType(frame) != etherARP {
		return addr, mac, false, false
	}
	copy(mac[:], frame[22:])
	copy(addr[:], frame[28:])
	return addr, mac, binary.BigEndian.Uint16(frame[20:]) == 2, true
}
