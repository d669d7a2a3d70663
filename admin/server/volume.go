package server

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is a mounted file system.
type volume struct {
	Path  string `json:"path"`          // where it is mounted
	Dir   string `json:"dir,omitempty"` // the data directory, if that is on it
	Free  int64  `json:"free"`          // octets that this process may use
	Total int64  `json:"total"`
}

func (v volume) String() string {
	text := fmt.Sprintf("%s: %s free of %s", v.Path, sizeText(v.Free), sizeText(v.Total))
	if v.Dir != "" {
		text += " (data directory " + v.Dir + ")"
	}
	return text
}

func sizeText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d KB", (n+1023)>>10)
}

// kept are the file systems that keep what is written to them, and may hold mail.
var kept = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "overlay", "tmpfs", "nfs", "nfs4"}

// volumes lists the volumes of this machine that may hold mail, that of dir first.
func volumes(dir string) []volume {
	own := volumeOf(dir)
	out := []volume{own}
	raw, err := os.ReadFile("/proc/self/mountinfo") // proc(5)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(raw)) {
		left, right, ok := strings.Cut(line, " - ")
		mount, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(mount) < 6 || len(kind) < 1 || !slices.Contains(kept, kind[0]) || !slices.Contains(strings.Split(mount[5], ","), "rw") {
			continue
		}
		path := unescape(mount[4])
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() || path == own.Path || hidden(path) {
			continue
		}
		if v := statVolume(path); v.Total >= 1<<30 && !slices.ContainsFunc(out, func(o volume) bool { return o.Path == path }) {
			out = append(out, v)
		}
		if len(out) == 32 {
			break
		}
	}
	return out
}

// hidden tells whether a mount is the system's own.
func hidden(path string) bool {
	return slices.ContainsFunc([]string{"/boot", "/dev", "/proc", "/run", "/sys"}, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// unescape reads a path of mountinfo, where blanks are octal.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func statVolume(path string) volume {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return volume{Path: path}
	}
	return volume{Path: path, Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize}
}

// volumeOf is the volume that dir is on: the highest directory above it with the same device.
func volumeOf(dir string) volume {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	v := statVolume(abs)
	v.Dir = abs
	var here, above unix.Stat_t
	if unix.Stat(abs, &here) != nil {
		return v
	}
	for v.Path != "/" {
		up := filepath.Dir(v.Path)
		if unix.Stat(up, &above) != nil || above.Dev != here.Dev {
			break
		}
		v.Path = up
	}
	return v
}

// mailSize is how much there is to copy to a second node: live bodies and the state.
func (s *Server) mailSize() int64 {
	if s.mail == nil || s.mail.Bodies == nil {
		return 0
	}
	n := s.mail.Bodies.Stats().Live
	filepath.WalkDir(filepath.Join(s.data, "state"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// room is how much free space a copy of so much mail needs: the state is there twice while it is
// taken over, and mail goes on.
func room(mail int64) int64 { return mail + mail/4 + 64<<20 }
