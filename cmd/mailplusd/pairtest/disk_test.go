package pairtest

import (
	"bufio"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a node's own disk: an ext4 file system in a file, on a loop device. It can be full, and
// it can stop: from then on nothing reaches it and every call fails with EIO, as after an error of the
// device, and what was only in the page cache or in the unwritten journal is gone for good.
type disk struct {
	t          testing.TB
	image, dir string
	mounted    bool
}

const diskSize = 600 << 20

// ext4Shutdown is EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h), goingNoLogFlush EXT4_GOING_FLAGS_NOLOGFLUSH: don't
// even write the journal.
const (
	ext4Shutdown    = 0x8004587d // _IOR('X', 125, __u32)
	goingNoLogFlush = 2
)

// newDisk makes a disk and mounts it at dir.
func newDisk(t testing.TB, image, dir string) *disk {
	t.Helper()
	for _, name := range []string{"mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(name + " is not installed")
		}
	}
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(f.Truncate(diskSize), f.Close(), os.MkdirAll(dir, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	d := &disk{t: t, image: image, dir: dir}
	t.Cleanup(d.unmount)
	d.mount()
	return d
}

// mount replays the journal, as a machine does that starts. commit=3600: the kernel writes nothing by
// itself during a test that nobody has asked it to write.
func (d *disk) mount() {
	d.t.Helper()
	if d.mounted {
		return
	}
	if out, err := exec.Command("mount", "-o", "loop,commit=3600", d.image, d.dir).CombinedOutput(); err != nil {
		d.t.Skipf("can't mount a loop device here: %s", out)
	}
	d.mounted = true
}

func (d *disk) unmount() {
	if !d.mounted {
		return
	}
	d.mounted = false
	for range 100 { // the killed daemon may hold it for a moment
		if err := unix.Unmount(d.dir, 0); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	d.t.Errorf("%s can't be unmounted", d.dir)
	unix.Unmount(d.dir, unix.MNT_DETACH)
}

// stop is the error of the device.
func (d *disk) stop() {
	d.t.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, goingNoLogFlush); err != nil {
		d.t.Skipf("this kernel can't shut an ext4 down: %v", err)
	}
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves no room.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	at := int64(0)
	for size := int64(64 << 20); size >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case errors.Is(err, syscall.EINTR):
		default:
			d.t.Fatal(err)
		}
	}
}

// diskFaults are those of a site whose nodes have disks of their own.
func (c *clients) diskFaults() []fault {
	return []fault{
		{name: "the holder's disk is full", serves: true, do: func(s *site, _ *rand.Rand) {
			h := s.holder()
			c.fillDisk(h)
			// In order: with a word, not because the other one misses it.
			s.poll(30*time.Second, "it has handed over", func() bool {
				raw, err := os.ReadFile(h.log.Name())
				return err == nil && strings.Contains(string(raw), `msg="handed over"`)
			})
			s.poll(30*time.Second, "the other node has the address", func() bool { return s.watch.now() == s.other(h).name })
		}, end: makeRoom},
		{name: "the secondary's disk is full", serves: true, do: func(s *site, _ *rand.Rand) { c.fillDisk(s.other(s.holder())) }, end: makeRoom},
		{name: "the holder's disk fails", serves: true, do: func(s *site, _ *rand.Rand) { failDisk(s, s.holder()) }, end: repairDisks},
		{name: "the secondary's disk fails", serves: true, do: func(s *site, _ *rand.Rand) { failDisk(s, s.other(s.holder())) }, end: repairDisks},
		{name: "power cut of both, what was not synced is lost", do: func(s *site, _ *rand.Rand) {
			s.note("power cut of both, nothing is written any more")
			for _, n := range []*node{s.a, s.b} {
				n.disk.stop()
			}
			for _, n := range []*node{s.a, s.b} {
				n.powerOff()
			}
		}, end: repairDisks},
	}
}

// fillDisk leaves no room on a node's disk, nor in what the body store has reserved: it is full when the first
// message is refused for it.
func (c *clients) fillDisk(n *node) {
	s := c.s
	s.note("%s: disk full", n.name)
	n.disk.fill()
	c.large++
	name, sent := fmt.Sprintf("big%d", c.large), 0
	var wg sync.WaitGroup
	var last error
	s.client.run(&wg, func() {
		for last == nil && sent < 200 && n.runs() {
			last = c.big(name, &sent)
		}
	})
	wg.Wait()
	s.note("%d large messages went to the pair, then: %v", sent, last)
}

// big sends a message of a megabyte; an error is a refusal or the end of the connection.
func (c *clients) big(name string, n *int) error {
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).Dial("tcp", floating)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerTime))
	r := bufio.NewReader(conn)
	*n++
	id := fmt.Sprintf("%s-%06d", name, *n)
	head, text, _ := strings.Cut(message(id), "\r\n\r\n")
	fill := make([]byte, 384<<10)
	crand.Read(fill)
	var b strings.Builder
	for l := range slices.Chunk(fill, 384) {
		fmt.Fprintf(&b, "%x\r\n", l)
	}
	for _, step := range [][2]string{
		{"", "220"}, {"HELO client.test", "250"}, {"MAIL FROM:<sender@client.test>", "250"}, {"RCPT TO:<alice@example.test>", "250"}, {"DATA", "354"},
		{head + "\r\n\r\n" + b.String() + "\r\n" + text + ".", "250"},
	} {
		if step[1] == "250" && len(step[0]) > 1000 {
			c.rec.sending(id, "INBOX")
		}
		if step[0] != "" {
			if _, err := io.WriteString(conn, step[0]+"\r\n"); err != nil {
				return err
			}
		}
		if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, step[1]) {
			return fmt.Errorf("%w: %q %v", errNo, l, err)
		}
	}
	c.rec.acked(id)
	return nil
}

// makeRoom is what an administrator does with a full disk.
func makeRoom(s *site) {
	for _, n := range []*node{s.a, s.b} {
		if err := os.Remove(n.disk.filler()); err == nil {
			s.note("%s: room again", n.name)
			if !n.runs() {
				s.t.Errorf("%s has ended because its disk was full", n.name)
			}
		}
	}
	restart(s)
}

func failDisk(s *site, n *node) {
	s.note("%s: disk fails", n.name)
	n.disk.stop()
	n.failed = true
}

// repairDisks starts the machines anew whose disks have stopped. Their daemons have ended by themselves:
// what a node says does not count if it can't write it down.
func repairDisks(s *site) {
	for _, n := range []*node{s.a, s.b} {
		if n.failed {
			select {
			case <-n.ended:
				s.note("%s has ended", n.name)
			case <-time.After(40 * time.Second):
				s.t.Errorf("%s goes on with a disk that has failed", n.name)
				n.kill()
			}
			n.failed = false
		}
		if !n.runs() {
			n.disk.unmount()
			n.disk.mount()
		}
	}
	restart(s)
}

// TestDisks: the disk of one node is full or fails, and both lose power with all that was not synced.
func TestDisks(t *testing.T) {
	// covers: I.72
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	s := newSite(t, siteOptions{disks: true})
	s.form()
	c := s.clients(3, 1)
	c.flow(20, 60*time.Second)
	random := rand.New(rand.NewPCG(1, 7))
	all := setting(t, "CHAOS_ALL", 0) > 0
	for i, f := range c.diskFaults() {
		if all || i%3 == 0 || i == 4 { // a full one, a failing one, the power cut
			c.suffer(f, random, 4*time.Second)
		}
	}
	c.verify(false)
}
