package remote

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailplusd/mail/model"
)

const (
	maxRcpts = 100     // of one transaction; every server takes as many (RFC 5321 §4.5.3.1.8)
	maxBatch = 4 << 10 // octets of commands sent before their replies are read, so that neither side's buffers fill up (RFC 2920 §3.1)
)

// errStale: the other side had ended the connection before the transaction began.
var errStale = errors.New("the connection was kept open for nothing")

// maxRcpts is how many recipients a transaction may have (RFC 9422).
func (s *session) maxRcpts() int {
	for _, l := range strings.Fields(s.ext["LIMITS"]) {
		if v, ok := strings.CutPrefix(strings.ToUpper(l), "RCPTMAX="); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 0 {
				return min(n, maxRcpts)
			}
		}
	}
	return maxRcpts
}

// transaction is MAIL, RCPT and the text, once.
type transaction struct {
	s       *session
	j       *Job
	list    []int // recipients' places in the job
	results []Result

	open  []int // without an answer yet
	wait  []int // told to come later
	again []int // too many for this transaction
	doubt bool

	text     *text
	utf8     bool
	accepted []int
	data     *reply // the answer to DATA, when it was sent with the recipients
	refused  error  // of MAIL
	replied  bool
}

// step is a command and what becomes of its reply.
type step struct {
	line, what string
	wait       time.Duration
	done       func(reply)
}

// run sends the message. What it returns ends the connection; those in open have no result then.
func (t *transaction) run() error {
	t.open = t.list
	mail, err := t.prepare()
	if err != nil {
		t.settleAll(t.list, err)
		return nil
	}
	defer t.text.close()
	if err := t.exchange(t.steps(mail)); err != nil {
		if !t.replied && t.s.used > 0 {
			return errStale
		}
		return err
	}
	t.s.used++
	if t.refused != nil {
		t.settleAll(t.list, t.refused)
		return nil
	}
	if len(t.accepted) == 0 {
		return t.empty()
	}
	rep, err := t.send()
	if err != nil {
		return err
	}
	t.finish(rep)
	if rep.code == 421 {
		return &refusal{rep}
	}
	return nil
}

// finish gives the answer to the text to those who were accepted.
func (t *transaction) finish(rep reply) {
	var err error
	if rep.code/100 != 2 {
		err = &refusal{rep}
	}
	for _, i := range t.accepted {
		t.settle(i, err)
		if err == nil {
			t.results[i].Code, t.results[i].Reason = rep.code, rep.text()
			t.results[i].DSN = t.s.offers("DSN")
		}
	}
	if err != nil {
		t.wait, t.again = append(t.wait, t.again...), nil // who was left out because of the others' number is told the same
		t.s.dirty = true                                  // some keep the transaction open (RFC 3030 §2), and would refuse the next MAIL
	}
}

// empty ends a transaction in which no recipient was accepted.
func (t *transaction) empty() error {
	if t.data == nil || t.data.code != 354 {
		t.s.dirty = true // the next one begins with RSET
		return nil
	}
	// It wants the text all the same: there is none (RFC 2920 §3.1).
	_, err := t.s.cmd(0, finalTime, ".")
	if err != nil && !errors.As(err, new(*refusal)) {
		return err
	}
	return nil
}

// settle records a recipient's answer.
func (t *transaction) settle(i int, err error) {
	r := outcome(t.j.Rcpts[i].N, err, t.s)
	t.results[i] = r
	for k, o := range t.open {
		if o == i {
			t.open = append(append([]int(nil), t.open[:k]...), t.open[k+1:]...)
			break
		}
	}
	if r.Outcome == model.OutcomeDeferred {
		t.wait = append(t.wait, i)
	}
}

func (t *transaction) settleAll(list []int, err error) {
	for _, i := range append([]int(nil), list...) {
		t.settle(i, err)
	}
}

// steps are the commands up to the text.
func (t *transaction) steps(mail string) (list []step) {
	if t.s.dirty {
		list = append(list, step{"RSET", "RSET", commandTime, func(reply) {}})
		t.s.dirty = false
	}
	list = append(list, step{mail, "MAIL", commandTime, func(r reply) {
		if r.code/100 != 2 {
			t.refused = &refusal{r}
		}
	}})
	for _, i := range t.list {
		line, err := t.rcpt(&t.j.Rcpts[i])
		if err != nil {
			t.settle(i, err)
			continue
		}
		list = append(list, step{line, "RCPT", commandTime, func(r reply) { t.rcptReply(i, r) }})
	}
	if t.s.offers("PIPELINING") && !t.s.offers("CHUNKING") {
		list = append(list, step{"DATA", "DATA", dataTime, func(r reply) { t.data = &r }})
	}
	return list
}

func (t *transaction) rcptReply(i int, r reply) {
	switch {
	case t.refused != nil: // what MAIL was told counts
	case r.code/100 == 2:
		t.accepted = append(t.accepted, i)
	case (r.code == 452 || r.code == 552) && len(t.accepted) > 0:
		t.settle(i, &refusal{r})
		t.results[i].Outcome = model.OutcomeDeferred // too many recipients (RFC 5321 §4.5.3.1.10)
		if r.code == 452 {
			t.wait = t.wait[:len(t.wait)-1]
		}
		t.again = append(t.again, i)
	default:
		t.settle(i, &refusal{r})
	}
}

// exchange sends commands, many at once where the server takes that (RFC 2920), and stops
// behind a refused MAIL.
func (t *transaction) exchange(steps []step) error {
	for len(steps) > 0 {
		n, size := 1, len(steps[0].line)
		for t.s.offers("PIPELINING") && n < len(steps) && size+len(steps[n].line) < maxBatch {
			size += len(steps[n].line)
			n++
		}
		for _, st := range steps[:n] {
			t.s.w.WriteString(st.line)
			t.s.w.WriteString("\r\n")
		}
		if err := t.s.w.Flush(); err != nil {
			return lost(err, "sending "+steps[0].what)
		}
		for _, st := range steps[:n] {
			rep, err := t.s.read(st.wait, "the answer to "+st.what)
			if err != nil {
				return err
			}
			if rep.code == 421 {
				if t.s.used > 0 && !t.replied {
					return errStale
				}
				return &refusal{rep}
			}
			t.replied = true
			st.done(rep)
		}
		if t.refused != nil {
			return nil
		}
		steps = steps[n:]
	}
	return nil
}

// prepare opens the text in a form that the server takes, and makes the MAIL command.
func (t *transaction) prepare() (string, error) {
	s, j := t.s, t.j
	if limit := s.maxSize(); limit > 0 && j.Size > limit {
		return "", &permanent{552, "5.3.4", fmt.Errorf("the message has %d octets, %s takes %d at most", j.Size, s.host, limit)}
	}
	foreign := j.UTF8 || !isASCII(j.From)
	for _, i := range t.list {
		foreign = foreign || !isASCII(j.Rcpts[i].Address)
	}
	t.utf8 = foreign && s.offers("SMTPUTF8")
	from, err := t.address(j.From)
	if err != nil {
		return "", err
	}
	if t.text, err = openText(j, s.offers("8BITMIME"), j.UTF8 && !t.utf8); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "MAIL FROM:<%s>", from)
	if s.offers("SIZE") && !t.text.converted {
		fmt.Fprintf(&b, " SIZE=%d", j.Size)
	}
	if s.offers("8BITMIME") && (j.EightBit || t.utf8) {
		b.WriteString(" BODY=8BITMIME")
	}
	if t.utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if s.offers("DSN") {
		if j.Ret != "" {
			b.WriteString(" RET=" + j.Ret)
		}
		if j.EnvID != "" {
			b.WriteString(" ENVID=" + xtext(j.EnvID))
		}
	}
	return b.String(), nil
}

func (t *transaction) rcpt(r *model.QueueRcpt) (string, error) {
	to, err := t.address(r.Address)
	if err != nil {
		return "", err
	}
	line := "RCPT TO:<" + to + ">"
	if !t.s.offers("DSN") {
		return line, nil
	}
	if r.Notify != "" {
		line += " NOTIFY=" + strings.ToUpper(r.Notify)
	}
	switch kind, addr, ok := strings.Cut(r.ORcpt, ";"); {
	case !ok || !isAtom(kind): // it may not end the line
	case strings.EqualFold(kind, "utf-8") || !isASCII(addr):
		line += " ORCPT=utf-8;" + codePoints(addr)
	default:
		line += " ORCPT=" + kind + ";" + xtext(addr)
	}
	return line, nil
}

// codePoints writes an address of the type utf-8 in ASCII, which needs no SMTPUTF8 (RFC 6533 §3).
func codePoints(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c < '!' || c > '~' || c == '+' || c == '=' || c == '\\' {
			fmt.Fprintf(&b, "\\x{%02X}", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// address gives an address as it goes over this connection. Without SMTPUTF8 a domain can be
// written in ASCII, a local part can't (RFC 6531 §3.2).
func (t *transaction) address(a string) (string, error) {
	if strings.ContainsAny(a, "<>\r\n\x00") {
		return "", &permanent{553, "5.1.3", fmt.Errorf("%q is no address", a)}
	}
	if t.utf8 || isASCII(a) {
		return a, nil
	}
	at := strings.LastIndexByte(a, '@')
	if at < 0 || !isASCII(a[:at]) {
		return "", &permanent{553, "5.6.7", fmt.Errorf("the address %s needs SMTPUTF8, which %s does not offer", a, t.s.host)}
	}
	domain, err := ascii(a[at+1:])
	return a[:at+1] + domain, err
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isAtom tells whether a text is a type of addresses (RFC 3461 §4.2).
func isAtom(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != ""
}

// xtext writes a parameter of RFC 3461 §4.
func xtext(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
