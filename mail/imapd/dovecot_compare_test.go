package imapd_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// peer is a connection to a server whose answers are compared.
type peer struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
	n int
}

func dialPeer(t *testing.T, addr string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(90 * time.Second))
	p := &peer{t: t, c: c, r: bufio.NewReader(c)}
	p.answer()
	return p
}

// answer reads one answer with its literals; strings stand in it quoted by strconv, whatever form they had.
func (p *peer) answer() string {
	p.t.Helper()
	var b strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%v after %q", err, b.String())
		}
		line = strings.TrimRight(line, "\r\n")
		at, n := literalSize(line)
		b.WriteString(requote(line[:at]))
		if n < 0 {
			return b.String()
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(p.r, lit); err != nil {
			p.t.Fatal(err)
		}
		b.WriteString(strconv.Quote(string(lit)))
	}
}

var literalEnd = regexp.MustCompile(`~?\{(\d+)\}$`)

func literalSize(line string) (at, n int) {
	m := literalEnd.FindStringSubmatchIndex(line)
	if m == nil {
		return len(line), -1
	}
	n, _ = strconv.Atoi(line[m[2]:m[3]])
	return m[0], n
}

// requote writes the quoted strings of a line as strconv does.
func requote(line string) string {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != '"' {
			b.WriteByte(line[i])
			continue
		}
		var s []byte
		for i++; i < len(line) && line[i] != '"'; i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			}
			s = append(s, line[i])
		}
		b.WriteString(strconv.Quote(string(s)))
	}
	return b.String()
}

// ask gives the untagged answers, normalised, and the tagged one.
func (p *peer) ask(cmd string) (untagged []string, tagged string) {
	p.t.Helper()
	p.n++
	tag := fmt.Sprintf("c%d", p.n)
	fmt.Fprintf(p.c, "%s %s\r\n", tag, cmd)
	var expunged []string
	for {
		a := p.answer()
		if rest, ok := strings.CutPrefix(a, tag+" "); ok {
			untagged = mergeFetched(untagged)
			return append(untagged, expunged...), normalTagged(rest)
		}
		if strings.HasPrefix(a, "+") {
			fmt.Fprint(p.c, "*\r\n")
			continue
		}
		switch a = normal(a); {
		case a == "":
		case strings.HasSuffix(a, " EXPUNGE"):
			expunged = append(expunged, a) // in their order
		default:
			untagged = append(untagged, a)
		}
	}
}

var (
	codeText   = regexp.MustCompile(`^(\* )?(OK|NO|BAD|BYE|PREAUTH)( \[([^\]]*)\])?.*$`)
	validity   = regexp.MustCompile(`(UIDVALIDITY|COPYUID|APPENDUID) \d+`)
	modseq     = regexp.MustCompile(`MODSEQ (\(?)\d+(\)?)`)
	tagOfESrch = regexp.MustCompile(`\(TAG "[^"]*"\) ?`)
)

// normalTagged keeps the result and its code.
func normalTagged(s string) string {
	m := codeText.FindStringSubmatch(s)
	if m == nil {
		return s
	}
	code := validity.ReplaceAllString(m[4], "$1 V")
	switch word, _, _ := strings.Cut(code, " "); word {
	case "READ-ONLY", "READ-WRITE", "COPYUID", "TRYCREATE", "MODIFIED", "ALREADYEXISTS", "BADCHARSET", "UNKNOWN-CTE":
		if word == "BADCHARSET" {
			code = word
		}
		return m[2] + " " + code
	}
	return m[2]
}

// normal gives an untagged answer the form that both servers should have in common; empty: not compared.
func normal(a string) string {
	a = tagOfESrch.ReplaceAllString(modseq.ReplaceAllString(validity.ReplaceAllString(a, "$1 V"), "MODSEQ ${1}M$2"), "")
	word := strings.Fields(a + " x x x")
	switch {
	case word[1] == "OK":
		m := codeText.FindStringSubmatch(a)
		switch code, _, _ := strings.Cut(m[4], " "); code {
		case "UIDVALIDITY", "UIDNEXT", "COPYUID":
			return "* OK [" + m[4] + "]"
		}
		return ""
	case word[1] == "CAPABILITY", word[1] == "ID", word[1] == "FLAGS", word[2] == "RECENT", word[1] == "BAD", word[1] == "BYE":
		return ""
	case word[1] == "LIST", word[1] == "LSUB":
		from, to := strings.Index(a, "("), strings.Index(a, ")")
		attrs := strings.Fields(strings.ToLower(a[from+1 : to]))
		attrs = slices.DeleteFunc(attrs, func(s string) bool { return s == `\unmarked` || s == `\marked` || s == `\noinferiors` })
		sort.Strings(attrs)
		if word[1] == "LSUB" {
			attrs = slices.DeleteFunc(attrs, func(s string) bool { return s != `\noselect` })
		}
		name, rest := value(strings.TrimPrefix(a[to:], `) "/" `))
		return a[:from] + "(" + strings.Join(attrs, " ") + ") " + strings.Trim(name, `"`) + strings.Replace(rest, `"CHILDINFO"`, "CHILDINFO", 1)
	case word[1] == "STATUS":
		from := strings.LastIndex(a, "(")
		return "* STATUS " + strings.Trim(strings.TrimPrefix(a[:from], "* STATUS "), `" `) + " " + sortPairs(a[from:])
	case word[2] == "FETCH":
		return word[1] + " FETCH " + sortPairs(a[strings.Index(a, "("):])
	}
	return a
}

// mergeFetched puts all that is said of a message into one answer: we tell of \Seen behind a body, they
// with it.
func mergeFetched(answers []string) []string {
	items := map[string][]string{}
	var out []string
	for _, a := range answers {
		if n, list, ok := strings.Cut(a, " FETCH "); ok {
			items[n] = append(items[n], strings.Split(list, " | ")...)
		} else {
			out = append(out, a)
		}
	}
	for n, list := range items {
		sort.Strings(list)
		out = append(out, n+" FETCH "+strings.Join(slices.Compact(list), " | "))
	}
	sort.Strings(out)
	return out
}

// sortPairs orders the items of (name value name value …).
func sortPairs(list string) string {
	s := strings.TrimSuffix(strings.TrimPrefix(list, "("), ")")
	var items []string
	for s != "" {
		name, rest := value(s)
		val, rest := value(strings.TrimPrefix(rest, " "))
		s = strings.TrimPrefix(rest, " ")
		switch name = strings.ToUpper(name); name {
		case "FLAGS":
			flags := slices.DeleteFunc(strings.Fields(strings.Trim(val, "()")), func(f string) bool { return f == `\Recent` })
			sort.Strings(flags)
			val = fmt.Sprint(flags)
		case "BODY", "BODYSTRUCTURE": // they name the charset that a text without one has
			val = strings.ReplaceAll(strings.ToUpper(val), `("CHARSET" "US-ASCII")`, "NIL")
		default: // of a part that doesn't exist we say NIL (RFC 3501 §7.4.2: nstring), they ""
			if val == `""` && (strings.HasPrefix(name, "BODY[") || strings.HasPrefix(name, "BINARY[")) {
				val = "NIL"
			}
		}
		items = append(items, name+" "+val)
	}
	sort.Strings(items)
	return strings.Join(items, " | ")
}

// value reads one value: a list, a string or an atom, in which [ ] may hold anything.
func value(s string) (v, rest string) {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == ' ' && depth == 0:
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// TestAgainstDovecot asks both servers the same and compares what they answer.
func TestAgainstDovecot(t *testing.T) {
	// covers: R6.23 I.19
	addr := startDovecot(t)
	w := newWorld(t)
	ours, theirs := dialPeer(t, w.addr), dialPeer(t, addr)
	both := func(cmd string) (a, b []string) {
		u, tagged := ours.ask(cmd)
		v, taggedToo := theirs.ask(cmd)
		return append(u, tagged), append(v, taggedToo)
	}
	if a, b := both("LOGIN anna secret"); a[len(a)-1] != "OK" || b[len(b)-1] != "OK" {
		t.Fatal(a, b)
	}
	for i, text := range compared {
		cmd := fmt.Sprintf("APPEND INBOX \"%02d-Jan-2024 12:00:00 +0000\" {%d+}\r\n%s", i+1, len(text), text)
		if a, b := both(cmd); a[len(a)-1] != "OK" || b[len(b)-1] != "OK" {
			t.Fatal(a, b)
		}
	}
	script := compareScript()
	same, seen := 0, map[string]bool{}
	for _, cmd := range script {
		a, b := both(cmd)
		_, deliberate := differences[cmd]
		switch {
		case slices.Equal(a, b):
			same++
		case deliberate:
			seen[cmd] = true
		default:
			t.Errorf("%s\n   we %s\n they %s", cmd, strings.Join(a, "\n      "), strings.Join(b, "\n      "))
		}
	}
	for cmd, why := range differences {
		if !seen[cmd] {
			t.Errorf("%s: no difference any more (%s)", cmd, why)
		}
	}
	if len(script) < 300 {
		t.Errorf("%d commands are compared", len(script))
	}
	t.Logf("%d commands, %d answered alike, %d differently on purpose", len(script), same, len(seen))
}

// differences are the commands that are answered differently on purpose.
var differences = map[string]string{
	`LIST "" x`:                          "CREATE x/ makes a mailbox here (RFC 3501 §6.3.3 allows it), there a name that can't be selected",
	`STORE 1 +FLAGS (\Seen)`:             "a change after EXAMINE is refused (RFC 3501 §6.3.2); they say OK and change nothing",
	"UID EXPUNGE 1:*":                    "the same",
	"FETCH 4:5 BINARY.PEEK[2]":           "the parts of an attached letter keep their encoding: only that of the part asked for is removed (RFC 3516 §4.2)",
	"FETCH 5 BINARY.SIZE[2]":             "the same",
	"SEARCH SENTBEFORE 3-Jan-2024":       "a letter without a date wasn't sent before any day; they take it as of 1970",
	"STORE 1 +FLAGS":                     "no flags are bad syntax (RFC 3501 §9); they set none",
	"ENABLE NOPE":                        "ENABLED is answered though empty (RFC 5161 §3.2)",
	"ENABLE":                             "bad syntax",
	"NOOP x":                             "bad syntax",
	"CAPABILITY x":                       "bad syntax",
	`ID ("a")`:                           "bad syntax: a field without its value",
	"ID":                                 "bad syntax",
	"COMPRESS NOPE":                      "the syntax is good, the mechanism isn't offered",
	"STORE 2 +FLAGS (\\Flagged)":         "UID comes with MODSEQ (RFC 7162 §3.1 lets it)",
	"STORE 2 +FLAGS.SILENT (\\Answered)": "the same",
	`STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\Flagged)`: "what is there now comes with the refusal (RFC 7162 §3.1.3: SHOULD)",
}
