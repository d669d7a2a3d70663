package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blockFS is an ext4 file system in a file. Cut stops it the way a power cut does: from that moment
// nothing reaches the disk any more, and what was only in the page cache or in the file system's
// unwritten journal is gone.
type blockFS struct {
	t          *testing.T
	image, dir string
	mounted    bool
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h) with EXT4_GOING_FLAGS_NOLOGFLUSH: don't even flush the journal.
const (
	ext4Shutdown   = 0x8004587d // _IOR('X', 125, __u32)
	goingNoLogFlsh = 2
)

func newBlockFS(t *testing.T) *blockFS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system of its own")
	}
	need(t, "mkfs.ext4")
	b := &blockFS{t: t, image: filepath.Join(t.TempDir(), "disk"), dir: filepath.Join(t.TempDir(), "data")}
	f, err := os.Create(b.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", b.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	t.Cleanup(b.unmount)
	return b
}

// mount replays the journal, as after a power cut. commit=3600: the kernel writes nothing by itself
// during a test that nobody has asked it to write.
func (b *blockFS) mount() {
	b.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop,commit=3600", b.image, b.dir).CombinedOutput(); err != nil {
		b.t.Skipf("can't mount a loop device here: %s", out)
	}
	b.mounted = true
}

func (b *blockFS) cut() {
	b.t.Helper()
	f, err := os.Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, goingNoLogFlsh); err != nil {
		b.t.Skipf("this kernel can't shut an ext4 down: %v", err)
	}
}

func (b *blockFS) unmount() {
	if !b.mounted {
		return
	}
	b.mounted = false
	for range 100 { // the killed daemon may hold it for a moment
		if err := unix.Unmount(b.dir, 0); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Errorf("%s can't be unmounted", b.dir)
	unix.Unmount(b.dir, unix.MNT_DETACH)
}

// TestPowerCutLosesUnsyncedWrites proves the tool: what was written and not synced is gone, what was
// synced is there.
func TestPowerCutLosesUnsyncedWrites(t *testing.T) {
	b := newBlockFS(t)
	b.mount()
	for name, synced := range map[string]bool{"synced": true, "cached": false} {
		f, err := os.Create(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(strings.Repeat("x", 10000))
		if synced {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
	if f, err := os.OpenFile(filepath.Join(b.dir, "synced"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		f.WriteString("more")
		f.Close()
	}
	b.cut()
	b.unmount()
	b.mount()
	if st, err := os.Stat(filepath.Join(b.dir, "synced")); err != nil || st.Size() != 10000 {
		t.Errorf("synced: %v %v, want 10,000 octets", st, err)
	}
	if raw, err := os.ReadFile(filepath.Join(b.dir, "cached")); err == nil && len(raw) > 0 {
		t.Errorf("%d octets that nobody has synced are there", len(raw))
	}
}

// TestPowerCut cuts the power of the whole node under load, again and again: bodies, state and log
// lose everything behind their last fsync. Every message that got its 250 is there, once and whole;
// so is what mpctl has answered.
func TestPowerCut(t *testing.T) {
	rounds := 8
	if s := os.Getenv("POWERCUT_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	if testing.Short() {
		rounds = 3
	}
	b := newBlockFS(t)
	d := newDaemon(t)
	d.dir = filepath.Join(b.dir, "data")
	l := &ledger{acked: map[string]bool{}, sent: map[string]string{}}
	rnd := rand.New(rand.NewPCG(2, uint64(time.Now().UnixNano())))
	cut := func(round int) {
		b.mount()
		d.start()
		if out := d.ok("user", "show", "bob", "-o", "json"); round > 0 && !strings.Contains(out, fmt.Sprintf(`"named %d"`, round-1)) {
			t.Errorf("round %d: what mpctl had answered is gone:\n%s", round, out)
		}
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				load(d.port(2525), l, fmt.Sprintf("%d.%d", round, w))
			}()
		}
		<-time.After(time.Duration(50+rnd.IntN(400)) * time.Millisecond) // load is the event
		d.ok("user", "set", "bob", "--display-name", fmt.Sprintf("named %d", round))
		b.cut()
		d.kill()
		wg.Wait()
		b.unmount()
	}
	for round := range rounds {
		cut(round)
	}
	b.mount()
	d.start()
	check(t, d, l)
	if out := d.ok("storage", "verify", "-o", "json"); !strings.Contains(out, `"found": 0`) {
		t.Errorf("verify: %s", out)
	}
	t.Logf("%d cuts, %d sent, %d acknowledged", rounds, len(l.sent), len(l.acked))
	d.stop()
}
