// Package flow is the contract between the mail path and what is decided on it: the
// Envelope that travels, the Verdict that a stage gives, and the runner that asks the
// stages of a phase in order. The order itself is in package mail, chain.go.
package flow

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"mailplusd/mail/check"
	"mailplusd/mail/directory"
	"mailplusd/mail/message"
	"mailplusd/mail/model"
	"mailplusd/mail/route"
	"mailplusd/mail/sender"
	"mailplusd/mail/tally"
)

// Phase is when a stage is asked.
type Phase string

// The phases, in order.
const (
	Connect Phase = "connect"
	Helo    Phase = "helo"
	Mail    Phase = "mail"
	Rcpt    Phase = "rcpt"
	Data    Phase = "data"
	Commit  Phase = "commit"
	After   Phase = "after"
)

// Direction is the way a message goes; a stage names those it is for.
type Direction uint8

// Directions.
const (
	In  Direction = 1 << iota // from another server, without login
	Out                       // from a user who has logged in, or from a trusted network
	Own                       // made here: notifications
	Any = In | Out | Own
)

// Envelope is a message on its way in, with everything known about it so far. It belongs
// to one transaction; stages may add to it, and share nothing else.
type Envelope struct {
	ID        string // of the message in every log line and in Received
	Conn      string // of the connection in log lines
	Direction Direction
	Listener  string // smtp, smtps, submission
	Client    netip.Addr
	Helo      string
	Proto     string             // ESMTP, ESMTPS, ESMTPSA … (RFC 3848)
	TLS       string             // version and cipher, empty for none
	Actor     *directory.Account // who has logged in; nil: nobody
	Local     bool               // the client is in the local network
	Trusted   bool               // the client is in a trusted network
	At        time.Time

	From     message.Address // zero: null reverse path
	UTF8     bool            // SMTPUTF8 was asked for
	EightBit bool            // BODY=8BITMIME
	EnvID    string
	Ret      string
	Declared int64 // SIZE parameter, 0: not given
	Rcpts    []*Recipient
	Excess   bool // recipients beyond the limit were offered: the message is refused whole

	Body  []byte             // as it was received, before trace headers are put in front
	Size  int64              // of it, in octets; known from Commit on
	Facts Facts              // known from Data on
	Use   model.SpecialUse   // mailbox of local deliveries: Inbox, or Junk by verdict
	Sign  []sender.Signature // to put in front of it

	Copies  []route.Receiver   // blind copies by rules; known from Commit on
	Way     *route.Way         // who gets it, here and elsewhere; known from Commit on
	Replies []*model.AutoReply // of accounts whose absence answers it

	Usage func(model.AccountID) (model.Usage, error) // what an account has sent, as far as this node knows; nil: nothing is counted
	Spent map[model.AccountID]bool                   // accounts whose forwards are not followed: they have sent as much as they may today

	Settings  *model.Settings
	Directory *directory.Picture
	DNS       *check.DNS
	Rates     *tally.Rate                   // messages of clients
	Trace     func(stage string, v Verdict) // nil outside flow trace
}

// Leaves tells whether the message goes to another server, for a recipient that was named, by a forward
// or as a blind copy. It is known from Commit on, after what adds ways.
func (e *Envelope) Leaves() bool { return e.Way != nil && len(e.Way.Remote) > 0 }

// Recipient is one accepted or asked-for recipient.
type Recipient struct {
	Address  message.Address
	Notify   string // RFC 3461
	ORcpt    string
	Resolved route.Resolved
}

// Action is what a verdict does with the message or command.
type Action uint8

// Actions, the mildest first.
const (
	Pass       Action = iota // nothing to say
	Junk                     // deliver to the Junk mailbox
	Quarantine               //
	Discard                  // answer 250 and drop
	Defer                    // 4xx
	Reject                   // 5xx
	Disconnect               // 421 or 554 and close
)

var actionNames = [...]string{"pass", "junk", "quarantine", "discard", "defer", "reject", "disconnect"}

func (a Action) String() string { return actionNames[a] }

// Verdict is the answer of a stage. Public goes to the peer, short and general; Private
// goes to the log, with all that helps.
type Verdict struct {
	Action   Action
	Code     int
	Enhanced [3]int
	Public   string
	Private  string
	Stage    string
}

// Refuse makes a verdict with an SMTP reply; 4xx defers, 5xx rejects.
func Refuse(code int, e1, e2, e3 int, public, private string) Verdict {
	a := Reject
	if code < 500 {
		a = Defer
	}
	return Verdict{Action: a, Code: code, Enhanced: [3]int{e1, e2, e3}, Public: public, Private: private}
}

// Note is a Pass that says what was decided.
func Note(format string, args ...any) Verdict { return Verdict{Private: fmt.Sprintf(format, args...)} }

func (v Verdict) String() string {
	if v.Action == Pass && v.Private == "" {
		return "pass"
	}
	if v.Action == Pass {
		return "pass (" + v.Private + ")"
	}
	s := fmt.Sprintf("%s %d %d.%d.%d %s", v.Action, v.Code, v.Enhanced[0], v.Enhanced[1], v.Enhanced[2], v.Public)
	if v.Private != "" && v.Private != v.Public {
		s += " (" + v.Private + ")"
	}
	return s
}

// Stage is one check of the chain. Rcpt stages are asked once per recipient with r set.
type Stage struct {
	Name  string
	Phase Phase
	For   Direction
	Help  string // what it does and what it can say
	Check func(ctx context.Context, e *Envelope, r *Recipient) Verdict
}

// Chain is the ordered list of stages.
type Chain []Stage

// Run asks the stages of a phase in order and gives the first verdict that isn't Pass.
func (c Chain) Run(ctx context.Context, p Phase, e *Envelope, r *Recipient) Verdict {
	for i := range c {
		s := &c[i]
		if s.Phase != p || s.For&e.Direction == 0 {
			continue
		}
		v := s.Check(ctx, e, r)
		v.Stage = s.Name
		if e.Trace != nil {
			e.Trace(s.Name, v)
		}
		if v.Action != Pass {
			return v
		}
	}
	return Verdict{}
}
