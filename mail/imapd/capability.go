package imapd

import (
	"strconv"
	"strings"

	"mailplusd/mail/imapd/imapparse"
)

// feature is what a client turns on with ENABLE (RFC 5161), or by using it.
type feature uint8

const (
	featCondstore feature = 1 << iota // RFC 7162: answers carry MODSEQ
	featQresync                       // RFC 7162: VANISHED instead of EXPUNGE; implies featCondstore
	featUTF8                          // RFC 6855 UTF8=ACCEPT: names and headers in UTF-8
	featRev2                          // RFC 9051: ESEARCH answers, no \Recent, names in UTF-8
)

// has tells whether the client has turned any of the features on.
func (ss *session) has(f feature) bool { return ss.enabled&f != 0 }

// capability is one word of the CAPABILITY answer.
type capability struct {
	name   string
	in     phase                 // when it is offered
	only   func(*session) bool   // and under which condition; nil: always
	value  func(*session) string // what stands behind the name; nil: nothing
	enable feature               // what ENABLE name turns on; 0: it can't be enabled
}

// capabilityTable is everything that is offered, in the order of the answer.
var capabilityTable = []capability{
	{name: "IMAP4rev1", in: anyPhase},
	{name: "IMAP4rev2", in: anyPhase, enable: featRev2},
	{name: "LITERAL+", in: anyPhase},
	{name: "SASL-IR", in: notAuthenticated},
	{name: "STARTTLS", in: notAuthenticated, only: (*session).canTLS},
	{name: "AUTH=PLAIN", in: notAuthenticated, only: (*session).mayLogin},
	{name: "AUTH=LOGIN", in: notAuthenticated, only: (*session).mayLogin},
	{name: "LOGINDISABLED", in: notAuthenticated, only: (*session).mayNotLogin},
	{name: "ID", in: anyPhase},
	{name: "ENABLE", in: anyPhase},
	{name: "IDLE", in: anyPhase},
	{name: "NAMESPACE", in: anyPhase},
	{name: "CHILDREN", in: anyPhase},
	{name: "UNSELECT", in: anyPhase},
	{name: "UIDPLUS", in: anyPhase},
	{name: "MOVE", in: anyPhase},
	{name: "SPECIAL-USE", in: anyPhase},
	{name: "CREATE-SPECIAL-USE", in: anyPhase},
	{name: "STATUS=SIZE", in: anyPhase},
	{name: "CONDSTORE", in: anyPhase, enable: featCondstore},
	{name: "QRESYNC", in: anyPhase, enable: featQresync},
	{name: "ESEARCH", in: anyPhase},
	{name: "SEARCHRES", in: anyPhase},
	{name: "WITHIN", in: anyPhase},
	{name: "SORT", in: anyPhase},
	{name: "SORT=DISPLAY", in: anyPhase},
	{name: "ESORT", in: anyPhase},
	{name: "THREAD=ORDEREDSUBJECT", in: anyPhase},
	{name: "THREAD=REFERENCES", in: anyPhase},
	{name: "UTF8=ACCEPT", in: loggedIn, enable: featUTF8},
	{name: "LIST-EXTENDED", in: loggedIn},
	{name: "LIST-STATUS", in: loggedIn},
	{name: "MULTIAPPEND", in: loggedIn},
	{name: "BINARY", in: loggedIn},
	{name: "COMPRESS=DEFLATE", in: loggedIn, only: (*session).canCompress},
	{name: "OBJECTID", in: loggedIn},
	{name: "PREVIEW", in: loggedIn},
	{name: "APPENDLIMIT=", in: anyPhase, value: func(ss *session) string { return strconv.FormatInt(ss.appendLimit(), 10) }},
}

func (ss *session) canTLS() bool      { return ss.c.CanTLS() }
func (ss *session) mayNotLogin() bool { return !ss.mayLogin() }

// capabilities lists what is offered now.
func (ss *session) capabilities() string {
	var b strings.Builder
	for i := range capabilityTable {
		c := &capabilityTable[i]
		if c.in&ss.phase() == 0 || c.only != nil && !c.only(ss) {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(c.name)
		if c.value != nil {
			b.WriteString(c.value(ss))
		}
	}
	return b.String()
}

func (ss *session) doCapability() error {
	ss.put("* CAPABILITY ", ss.capabilities(), "\r\n")
	return nil
}

// doEnable is RFC 5161: what is unknown or can't be enabled is passed over in silence.
func (ss *session) doEnable(p *imapparse.Parser) error {
	var names []string
	var on feature
	for {
		a, err := p.Atom()
		if err != nil {
			return usual(err)
		}
		for i := range capabilityTable {
			if c := &capabilityTable[i]; c.enable != 0 && strings.EqualFold(c.name, a) && on&c.enable == 0 {
				names, on = append(names, c.name), on|c.enable
			}
		}
		if !p.More() {
			break
		}
		if err := p.Space(); err != nil {
			return usual(err)
		}
	}
	if on&featQresync != 0 {
		on |= featCondstore // RFC 7162 §3.2.3
	}
	if on&featCondstore != 0 && ss.view != nil {
		ss.useCondstore()
	}
	ss.enabled |= on
	ss.put("* ENABLED")
	for _, n := range names {
		ss.put(" ", n)
	}
	ss.put("\r\n")
	return nil
}
