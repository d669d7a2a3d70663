package transport

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// Pairing is what a node needs to be paired. The functions must be safe for concurrent use;
// their errors are shown to the administrator at the other node.
type Pairing struct {
	// Hello says who this node is; asked anew for each pairing. Both sides need it.
	Hello func() Hello
	// Check looks at the other node before anything is agreed, at both sides; an error
	// refuses it with that text. nil: all are welcome.
	Check func(ctx context.Context, r PairResult) error
	// Paired makes the accepting side's half of a pairing durable and pins the key. It may
	// come again for the same node, when the other side didn't hear of its success.
	Paired func(ctx context.Context, r PairResult) error
}

func (p Pairing) complete() bool { return p.Hello != nil && p.Paired != nil }

// AcceptPairing replaces Options.Pairing.
func (t *Transport) AcceptPairing(p Pairing) {
	t.pairing.mu.Lock()
	defer t.pairing.mu.Unlock()
	t.pairing.conf = p
}

// Errors of Pair.
var (
	// ErrPairRefused says that the other side doesn't want to pair, and why. Nothing is pinned.
	ErrPairRefused = errors.New("transport: the other node refuses to pair")
	// ErrPairUncertain says that the connection broke when the other side may already have
	// pinned this node's key, which does no harm. Call Pair again.
	ErrPairUncertain = errors.New("transport: the connection broke at the end of pairing; repeat it")
	// ErrSelf says that the address leads to this node itself.
	ErrSelf = errors.New("transport: that address is this node itself")
)

const (
	pairTime = 30 * time.Second // for the whole exchange, as the accepting side sees it
	rounds   = 5                // of the clock measurement
)

// pairings is a transport's state of pairing.
type pairings struct {
	mu     sync.Mutex
	conf   Pairing
	invite invitation
	places chan struct{}
}

func (p *pairings) init(conf Pairing) {
	p.conf = conf
	p.places = make(chan struct{}, protocols[Pair].conns)
}

func (p *pairings) get() Pairing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conf
}

// pairMsg is each message of a pairing; which fields count depends on the step.
type pairMsg struct {
	Proof    []byte          `json:"proof,omitempty"`    // of the token, on this channel
	Sent     int64           `json:"sent,omitempty"`     // clock when this was sent, ns since 1970
	Received int64           `json:"received,omitempty"` // clock when the message before came
	Hello    json.RawMessage `json:"hello,omitempty"`
	OK       bool            `json:"ok,omitempty"`
	Code     string          `json:"code,omitempty"` // of an error that the other side raises
	Error    string          `json:"error,omitempty"`
}

// pairConn is one end of a pairing.
type pairConn struct {
	tls     *tls.Conn
	r       *bufio.Reader
	channel []byte // what only the two ends of this TLS channel can compute
	remote  ed25519.PublicKey
	addr    netip.AddrPort
}

func newPairConn(tc *tls.Conn, l *link) (*pairConn, error) {
	cs := tc.ConnectionState()
	channel, err := cs.ExportKeyingMaterial("EXPORTER-mailplusd-pairing", nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("transport: bind to channel: %w", err)
	}
	key, err := remoteKey(cs)
	if err != nil {
		return nil, err
	}
	return &pairConn{tls: tc, r: bufio.NewReader(tc), channel: channel, remote: key, addr: addrPort(l)}, nil
}

func (c *pairConn) send(m pairMsg) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	if len(b) > maxHello {
		return errors.New("transport: pairing message too long")
	}
	_, err = c.tls.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// receive reads a message. An error that the other side raised is a *RemoteError.
func (c *pairConn) receive() (pairMsg, error) {
	m, err := readPairMsg(c.r)
	if err == nil && (m.Error != "" || m.Code != "") {
		err = remoteError("", m.Code, m.Error)
	}
	return m, err
}

func readPairMsg(r io.Reader) (pairMsg, error) {
	var head [4]byte
	var m pairMsg
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxHello {
		return m, errors.New("transport: pairing message too long")
	}
	b, err := readN(r, int(n))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return pairMsg{}, fmt.Errorf("transport: pairing message: %w", err)
	}
	if len(m.Code) > maxErrorCode || !printable(m.Error, maxErrorText) {
		return pairMsg{}, errors.New("transport: pairing message not valid")
	}
	return m, nil
}

// refuse tells the other side why not, and returns that error.
func (c *pairConn) refuse(err error) error {
	code, text := errorCode(err)
	if text == "" || !printable(text, maxErrorText) {
		text = fmt.Sprintf("%.1000q", text)
	}
	_ = c.send(pairMsg{Code: code, Error: text})
	return err
}

// sample is one measurement of the clocks.
type sample struct{ skew, rtt time.Duration }

// best takes the sample of the shortest round trip: the least room for error.
func best(samples []sample) sample {
	b := samples[0]
	for _, s := range samples[1:] {
		if s.rtt < b.rtt {
			b = s
		}
	}
	return b
}

// measure is a sample from four clock readings: sent here, received there, sent there,
// received here (RFC 5905 §8).
func measure(t1, t2, t3, t4 int64) sample {
	return sample{skew: time.Duration((t2 - t1 + t3 - t4) / 2), rtt: max(time.Duration((t4-t1)-(t3-t2)), 0)}
}

// clock gives the wall clock in ns since 1970.
type clock func() int64

func wallClock() int64 { return time.Now().UnixNano() }

// compareClocks measures from the dialling side.
func (c *pairConn) compareClocks(now clock) (sample, error) {
	var samples []sample
	var got int64
	for range rounds {
		sent := now()
		if err := c.send(pairMsg{Sent: sent, Received: got}); err != nil {
			return sample{}, err
		}
		m, err := c.receive()
		got = now()
		if err != nil {
			return sample{}, err
		}
		samples = append(samples, measure(sent, m.Received, m.Sent, got))
	}
	return best(samples), nil
}

// answerClocks measures from the accepting side, with the same messages.
func (c *pairConn) answerClocks(now clock) (sample, error) {
	var samples []sample
	var sent int64
	for i := range rounds {
		m, err := c.receive()
		got := now()
		if err != nil {
			return sample{}, err
		}
		if i > 0 {
			samples = append(samples, measure(sent, m.Received, m.Sent, got))
		}
		sent = now()
		if err := c.send(pairMsg{Sent: sent, Received: got}); err != nil {
			return sample{}, err
		}
	}
	return best(samples), nil
}

func (c *pairConn) result(h Hello, s sample) PairResult {
	return PairResult{ID: h.Node, Key: c.remote, Hello: h, Skew: s.skew, RTT: s.rtt, Remote: c.addr}
}

// ownHello asks for this node's hello and makes it ready to be sent.
func (t *Transport) ownHello(p Pairing) (json.RawMessage, error) {
	h := p.Hello()
	h.Time = time.Unix(0, t.opts.clock())
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("transport: own hello: %w", err)
	}
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("transport: own hello: %w", err)
	}
	return b, nil
}
