package pairtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// answerTime is how long a client waits for an answer before it counts it as none.
const answerTime = 20 * time.Second

// imapConn is as much of an IMAP client as the tests need. The caller's thread is in the
// client's namespace.
type imapConn struct {
	c   net.Conn
	r   *bufio.Reader
	tag int
}

// line is one response: its text with literals left out, and those.
type line struct {
	text     string
	literals []string
}

var errNo = errors.New("refused")

func dialIMAP(addr, user string) (*imapConn, error) {
	raw, err := (&net.Dialer{Timeout: 3 * time.Second}).Dial("tcp", net.JoinHostPort(addr, "993"))
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(answerTime))
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // of a test's own making
	i := &imapConn{c: c, r: bufio.NewReader(c)}
	if _, err := i.line(); err != nil {
		c.Close()
		return nil, err
	}
	if _, _, err := i.cmd("LOGIN " + user + " " + password); err != nil {
		c.Close()
		return nil, err
	}
	return i, nil
}

var literal = regexp.MustCompile(`\{(\d+)\}$`)

func (i *imapConn) line() (l line, err error) {
	for {
		s, err := i.r.ReadString('\n')
		if err != nil {
			return l, err
		}
		s = strings.TrimRight(s, "\r\n")
		m := literal.FindStringSubmatch(s)
		if m == nil {
			l.text += s
			return l, nil
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 1<<20 {
			return l, fmt.Errorf("literal of %s octets", m[1])
		}
		buf := make([]byte, n)
		if _, err := io.ReadFull(i.r, buf); err != nil {
			return l, err
		}
		l.text += strings.TrimSuffix(s, m[0])
		l.literals = append(l.literals, string(buf))
	}
}

// cmd sends a command, with a literal if one is given, and gives the untagged responses and
// the text of the tagged one. errNo in the error says that the server answered NO or BAD.
func (i *imapConn) cmd(text string, lit ...string) (untagged []line, tagged string, err error) {
	i.tag++
	tag := fmt.Sprintf("t%d", i.tag)
	i.c.SetDeadline(time.Now().Add(answerTime))
	out := tag + " " + text
	if len(lit) > 0 {
		out += fmt.Sprintf(" {%d+}\r\n%s", len(lit[0]), lit[0])
	}
	if _, err := io.WriteString(i.c, out+"\r\n"); err != nil {
		return nil, "", err
	}
	for {
		l, err := i.line()
		if err != nil {
			return untagged, "", err
		}
		rest, ok := strings.CutPrefix(l.text, tag+" ")
		if !ok {
			untagged = append(untagged, l)
			continue
		}
		if !strings.HasPrefix(rest, "OK") {
			return untagged, rest, fmt.Errorf("%w: %s", errNo, rest)
		}
		return untagged, rest, nil
	}
}

var (
	validityCode = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	appendCode   = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)
	fetchUID     = regexp.MustCompile(`UID (\d+)`)
	fetchFlags   = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	idHeader     = regexp.MustCompile(`(?mi)^Subject: (\S+)`)
)

func number32(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

func (i *imapConn) selectBox(box string) (validity uint32, err error) {
	un, _, err := i.cmd("SELECT " + box)
	if err != nil {
		return 0, err
	}
	for _, l := range un {
		if m := validityCode.FindStringSubmatch(l.text); m != nil {
			validity = number32(m[1])
		}
	}
	if validity == 0 {
		return 0, errors.New("no UIDVALIDITY")
	}
	return validity, nil
}

// stored is a message as a client reads it.
type stored struct {
	uid   uint32
	id    string
	flags string
	text  string
}

// fetch reads messages from a UID on; whole: with their text.
func (i *imapConn) fetch(from uint32, whole bool) (out []stored, err error) {
	what := "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"
	if whole {
		what = "BODY.PEEK[]"
	}
	un, _, err := i.cmd(fmt.Sprintf("UID FETCH %d:* (UID FLAGS %s)", from, what))
	if err != nil {
		return nil, err
	}
	for _, l := range un {
		uid := fetchUID.FindStringSubmatch(l.text)
		if uid == nil || len(l.literals) == 0 {
			continue
		}
		s := stored{uid: number32(uid[1]), text: l.literals[0]}
		if s.uid < from {
			continue // "*" is the last message, even before from
		}
		if m := fetchFlags.FindStringSubmatch(l.text); m != nil {
			s.flags = m[1]
		}
		if m := idHeader.FindStringSubmatch(s.text); m != nil {
			s.id = m[1]
		}
		out = append(out, s)
	}
	return out, nil
}
