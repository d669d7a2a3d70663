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
	mu   sync.Mutex // one request at a time
	conn *net.UnixConn
	cmd  *exec.Cmd
}

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
	s := &Spawner{conn: c.(*net.UnixConn), cmd: exec.Command(exe, args...)}
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
	err = s.ask(ctx, far)
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

// ask hands a guard's ends of its pipes to the spawner.
func (s *Spawner) ask(ctx context.Context, ends [2]*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, guardAnswerTime)
	defer cancel()
	end, _ := ctx.Deadline()
	s.conn.SetDeadline(end) // a socket that is closed fails below
	rights := unix.UnixRights(int(ends[0].Fd()), int(ends[1].Fd()))
	if _, _, err := s.conn.WriteMsgUnix([]byte{1}, rights, nil); err != nil {
		return fmt.Errorf("the spawner has ended, restart the node: %w", err)
	}
	var answer [512]byte
	n, err := s.conn.Read(answer[:])
	if err != nil {
		return fmt.Errorf("the spawner does not answer, restart the node: %w", err)
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
// request, until the socket ends and all guards have ended. Signals to the whole group are ignored.
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
		var buf [16]byte
		oob := make([]byte, unix.CmsgSpace(2*4))
		n, k, _, _, err := conn.ReadMsgUnix(buf[:], oob)
		if err != nil || n == 0 {
			return nil // the main process has ended
		}
		answer := []byte{1}
		if err := spawn(oob[:k], &guards, exe, args); err != nil {
			answer = append(answer, err.Error()...)
		}
		if _, err := conn.Write(answer[:min(len(answer), 512)]); err != nil {
			return nil
		}
	}
}

// spawn starts one guard on the pipes that came.
func spawn(oob []byte, guards *sync.WaitGroup, exe string, args []string) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return errors.New("request without pipes")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	var ends []*os.File
	for _, fd := range fds {
		ends = append(ends, os.NewFile(uintptr(fd), "pipe"))
	}
	defer func() {
		for _, f := range ends {
			f.Close()
		}
	}()
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
