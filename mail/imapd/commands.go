package imapd

import "mailplusd/mail/imapd/imapparse"

// command is one command: when it may come and what does it. raw commands read their own line.
type command struct {
	in    phase
	args  bool // a space and arguments follow
	usage string
	do    func(*session, *imapparse.Parser) error
	raw   bool
	doRaw func(ss *session, tag, text string) error
}

const (
	anyPhase = notAuthenticated | authenticated | selected
	loggedIn = authenticated | selected
)

// commands is every command. Filled in init to break the cycle through the session.
var commands map[string]command

func init() {
	with := func(in phase, usage string, do func(*session, *imapparse.Parser) error) command {
		return command{in: in, args: true, usage: usage, do: do}
	}
	bare := func(in phase, do func(*session) error) command {
		return command{in: in, do: func(ss *session, _ *imapparse.Parser) error { return do(ss) }}
	}
	commands = map[string]command{
		"CAPABILITY":   bare(anyPhase, (*session).doCapability),
		"NOOP":         bare(anyPhase, (*session).doNoop),
		"LOGOUT":       bare(anyPhase, (*session).doLogout),
		"ID":           with(anyPhase, "ID needs a list or NIL", (*session).doID),
		"STARTTLS":     {in: notAuthenticated, raw: true, doRaw: (*session).doStartTLS},
		"LOGIN":        {in: notAuthenticated, raw: true, doRaw: (*session).doLogin},
		"AUTHENTICATE": {in: notAuthenticated, raw: true, doRaw: (*session).doAuthenticate},
		"COMPRESS":     {in: loggedIn, raw: true, doRaw: (*session).doCompress},
		"ENABLE":       with(loggedIn, "ENABLE needs a capability", (*session).doEnable),
		"SELECT":       with(loggedIn, "SELECT needs a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doSelect(p, false) }),
		"EXAMINE":      with(loggedIn, "EXAMINE needs a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doSelect(p, true) }),
		"CREATE":       with(loggedIn, "CREATE needs a mailbox", (*session).doCreate),
		"DELETE":       with(loggedIn, "DELETE needs a mailbox", (*session).doDelete),
		"RENAME":       with(loggedIn, "RENAME needs two mailboxes", (*session).doRename),
		"SUBSCRIBE":    with(loggedIn, "SUBSCRIBE needs a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doSubscribe(p, true) }),
		"UNSUBSCRIBE":  with(loggedIn, "UNSUBSCRIBE needs a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doSubscribe(p, false) }),
		"LIST":         with(loggedIn, "LIST needs a reference and a pattern", (*session).doList),
		"LSUB":         with(loggedIn, "LSUB needs a reference and a pattern", (*session).doLsub),
		"NAMESPACE":    bare(loggedIn, (*session).doNamespace),
		"STATUS":       with(loggedIn, "STATUS needs a mailbox and items", (*session).doStatus),
		"APPEND":       {in: loggedIn, raw: true, doRaw: (*session).doAppend},
		"IDLE":         {in: loggedIn, raw: true, doRaw: (*session).doIdle},
		"CHECK":        bare(selected, (*session).doNoop),
		"CLOSE":        bare(selected, (*session).doClose),
		"UNSELECT":     bare(selected, (*session).doUnselect),
		"EXPUNGE":      bare(selected, func(ss *session) error { return ss.doExpunge(nil) }),
		"UID EXPUNGE":  with(selected, "UID EXPUNGE needs a set", (*session).doExpunge),
		"SEARCH":       with(selected, "SEARCH needs keys", func(ss *session, p *imapparse.Parser) error { return ss.doSearch(p, false) }),
		"UID SEARCH":   with(selected, "UID SEARCH needs keys", func(ss *session, p *imapparse.Parser) error { return ss.doSearch(p, true) }),
		"SORT":         with(selected, "SORT needs keys, a charset and search keys", func(ss *session, p *imapparse.Parser) error { return ss.doSort(p, false) }),
		"UID SORT":     with(selected, "UID SORT needs keys, a charset and search keys", func(ss *session, p *imapparse.Parser) error { return ss.doSort(p, true) }),
		"THREAD":       with(selected, "THREAD needs an algorithm, a charset and search keys", func(ss *session, p *imapparse.Parser) error { return ss.doThread(p, false) }),
		"UID THREAD":   with(selected, "UID THREAD needs an algorithm, a charset and search keys", func(ss *session, p *imapparse.Parser) error { return ss.doThread(p, true) }),
		"FETCH":        with(selected, "FETCH needs a set and items", func(ss *session, p *imapparse.Parser) error { return ss.doFetch(p, false) }),
		"UID FETCH":    with(selected, "UID FETCH needs a set and items", func(ss *session, p *imapparse.Parser) error { return ss.doFetch(p, true) }),
		"STORE":        with(selected, "STORE needs a set and flags", func(ss *session, p *imapparse.Parser) error { return ss.doStore(p, false) }),
		"UID STORE":    with(selected, "UID STORE needs a set and flags", func(ss *session, p *imapparse.Parser) error { return ss.doStore(p, true) }),
		"COPY":         with(selected, "COPY needs a set and a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doCopy(p, false, false) }),
		"UID COPY":     with(selected, "UID COPY needs a set and a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doCopy(p, true, false) }),
		"MOVE":         with(selected, "MOVE needs a set and a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doCopy(p, false, true) }),
		"UID MOVE":     with(selected, "UID MOVE needs a set and a mailbox", func(ss *session, p *imapparse.Parser) error { return ss.doCopy(p, true, true) }),
	}
}
