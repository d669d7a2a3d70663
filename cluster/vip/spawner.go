package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawner is a child process that starts guards. It has the capabilities that guards need, so that
// this process can do without them: DropCapabilities. Its end leaves the guards that run.
type Spawner struct {
	turn chan struct{} // one request at a time
	last byte          // number of the last one
	conn *net.UnixConn
	cmd  *exec.Cmd
}

// What is asked of a spawner: the first octet of a request. The second is its number, and the first
// of the answer: one that comes too late is not taken for the next.
const (
	spawnGuard   = 1 // with a guard's ends of its pipes
	spawnHoldOff = 2 // with a socket; addresses follow
)

// maxSpawnRequest bounds a request, in octets.
const maxSpawnRequest = 512

// spawnFD is where the child finds its socket.
const spawnFD = 3

// StartSpawner starts exe with args as a spawner (its main must call RunSpawner). A process that
// is not root hands on its CAP_NET_ADMIN and CAP_NET_RAW.
func StartSpawner(exe string, args ...string) (*Spawner, error) {
	fail := func(err error) (*Spawner, error) { return nil, fmt.Errorf("vip: start spawner: %w", err) }
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "spawner"), os.NewFile(uintptr(fds[1]), "spawner")
	defer theirs.Close()
	c, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		return fail(err)
	}
	s := &Spawner{turn: make(chan struct{}, 1), conn: c.(*net.UnixConn), cmd: exec.Command(exe, args...)}
	s.cmd.Stderr = os.Stderr
	s.cmd.ExtraFiles = []*os.File{theirs}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient()}
	if err := s.cmd.Start(); err != nil {
		c.Close()
		return fail(err)
	}
	return s, nil
}

// Guard is StartGuard by the spawner.
func (s *Spawner) Guard(ctx context.Context, kind DriverKind, ifname string) (*Guard, error) {
	fail := func(err error) (*Guard, error) { return nil, fmt.Errorf("vip: start guard: %w", err) }
	var near, far [2]*os.File // in, out
	var err error
	if far[0], near[0], err = os.Pipe(); err != nil {
		return fail(err)
	}
	if near[1], far[1], err = os.Pipe(); err != nil {
		near[0].Close()
		far[0].Close()
		return fail(err)
	}
	err = s.ask(ctx, []byte{spawnGuard, 0}, int(far[0].Fd()), int(far[1].Fd()))
	far[0].Close()
	far[1].Close()
	if err != nil {
		near[0].Close()
		near[1].Close()
		return fail(err)
	}
	g := newGuard(near[0], near[1], nil)
	go func() {
		<-g.Done()
		near[1].Close()
	}()
	if _, err := g.call(ctx, guardRequest{Op: opOpen, Driver: kind, Interface: ifname, PID: os.Getpid()}); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// ask hands a request and what belongs to it to the spawner.
func (s *Spawner) ask(ctx context.Context, request []byte, fds ...int) error {
	ctx, cancel := context.WithTimeout(ctx, guardAnswerTime)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("the spawner is busy: %w", ctx.Err())
	}
	end, _ := ctx.Deadline()
	s.conn.SetDeadline(end) // a socket that is closed fails below
	s.last++
	request[1] = s.last
	if _, _, err := s.conn.WriteMsgUnix(request, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("the spawner has ended, restart the node: %w", err)
	}
	var answer [maxSpawnRequest]byte
	n := 0
	for n == 0 || answer[0] != s.last {
		var err error
		if n, err = s.conn.Read(answer[:]); err != nil {
			return fmt.Errorf("the spawner does not answer, restart the node: %w", err)
		}
	}
	if n > 1 {
		return errors.New(string(answer[1:n]))
	}
	return nil
}

// Close ends the spawner when its guards have ended, and waits for that. Close the guards first.
func (s *Spawner) Close() error {
	s.conn.Close()
	return s.cmd.Wait()
}

// RunSpawner is the whole life of the spawner process: it starts exe with args as a guard for every
// request for one, until the socket ends and all guards have ended. Signals to the whole group are ignored.
func RunSpawner(exe string, args ...string) error {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(ignored)
	f := os.NewFile(spawnFD, "spawner")
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("vip: spawner: %w", err)
	}
	f.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("vip: spawner: not started by StartSpawner")
	}
	defer conn.Close()
	var guards sync.WaitGroup
	defer guards.Wait()
	for {
		var buf [maxSpawnRequest]byte
		oob := make([]byte, unix.CmsgSpace(2*4))
		n, k, _, _, err := conn.ReadMsgUnix(buf[:], oob)
		if err != nil || n == 0 {
			return nil // the main process has ended
		}
		if n < 2 {
			return errors.New("vip: spawner: a request without a number")
		}
		answer := []byte{buf[1]}
		if err := serve(buf[:n], oob[:k], func(ends []*os.File) error { return spawn(ends, &guards, exe, args) }); err != nil {
			answer = append(answer, err.Error()...)
		}
		if _, err := conn.Write(answer[:min(len(answer), maxSpawnRequest)]); err != nil {
			return nil
		}
	}
}

// serve answers one request.
func serve(request, oob []byte, start func(ends []*os.File) error) error {
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil && len(messages) == 1 {
		fds, err = unix.ParseUnixRights(&messages[0])
	}
	if err != nil {
		return err
	}
	files := make([]*os.File, 0, len(fds))
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "handed over"))
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	switch request[0] {
	case spawnGuard:
		return start(files)
	case spawnHoldOff:
		return holdOffRequest(request[2:], fds)
	}
	return errors.New("unknown request")
}

// spawn starts one guard on the pipes that came.
func spawn(ends []*os.File, guards *sync.WaitGroup, exe string, args []string) error {
	if len(ends) != 2 {
		return errors.New("request without two pipes")
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = ends[0], ends[1], os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient()}
	if err := cmd.Start(); err != nil {
		return err
	}
	guards.Go(func() { cmd.Wait() })
	return nil
}
