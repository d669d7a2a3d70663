package api

import "mailplusd/admin/op"

// CertRow is a certificate.
type CertRow struct {
	Name        string   `json:"name" col:"NAME"`
	Names       []string `json:"names" col:"FOR"`
	NotAfter    string   `json:"not_after" col:"UNTIL"`
	Days        int      `json:"days_left" col:"DAYS LEFT"`
	Source      string   `json:"source" col:"SOURCE"`
	Default     bool     `json:"default" col:"DEFAULT"`
	Issuer      string   `json:"issuer" col:"ISSUER,wide"`
	NotBefore   string   `json:"not_before" col:"FROM,wide"`
	Fingerprint string   `json:"fingerprint" col:"SHA-256,wide"`
}

// CertIn names a certificate.
type CertIn struct {
	Name string `json:"name" arg:"1" complete:"cert" help:"name of the certificate here"`
}

// CertImportIn is a certificate with its key.
type CertImportIn struct {
	Name    string    `json:"name" arg:"1" help:"name to give it here"`
	Cert    string    `json:"cert" file:"cert" help:"PEM file: the certificate, then its chain"`
	Key     op.Secret `json:"key" secret:"key" help:"PEM file with the private key"`
	Default bool      `json:"default" flag:"default" help:"serve clients that ask for no or an unknown name"`
}

// Finding is the result of one check.
type Finding struct {
	Level   string `json:"level" col:"RESULT"` // ok, info, warning or error
	Check   string `json:"check" col:"CHECK"`
	Subject string `json:"subject" col:"OF"`
	Message string `json:"message" col:"FINDING"`
	Remedy  string `json:"remedy" col:"REMEDY"`
}

// CheckDNSIn names a domain, or none for all.
type CheckDNSIn struct {
	Domain string `json:"domain" arg:"1" optional:"true" complete:"domain" help:"domain; default: every hosted one"`
}

// CheckLoginIn names a user and perhaps his password.
type CheckLoginIn struct {
	Name     string    `json:"name" arg:"1" complete:"user" help:"login name or address"`
	Password op.Secret `json:"password" secret:"password" optional:"true" help:"password to try"`
}

// MeOut is one's own account.
type MeOut struct {
	Name      string   `json:"name" col:"NAME"`
	Addresses []string `json:"addresses" col:"ADDRESSES"`
	Activated bool     `json:"activated" col:"ACTIVATED"`
	Messages  int      `json:"messages" col:"MESSAGES"`
	Bytes     int64    `json:"bytes" col:"OCTETS"`
}

// MePasswdIn is a new password of one's own.
type MePasswdIn struct {
	Password op.Secret `json:"password" secret:"password" help:"new password"`
}

// ClientRow is what a mail client needs.
type ClientRow struct {
	Service  string `json:"service" col:"SERVICE"`
	Server   string `json:"server" col:"SERVER"`
	Port     int    `json:"port" col:"PORT"`
	Security string `json:"security" col:"SECURITY"`
	Login    string `json:"login" col:"LOGIN"`
}

// StageRow is one stage of the chain.
type StageRow struct {
	N     int    `json:"n" col:"N"`
	Phase string `json:"phase" col:"PHASE"`
	Stage string `json:"stage" col:"STAGE"`
	For   string `json:"for" col:"FOR"`
	Help  string `json:"help" col:"WHAT IT CAN SAY"`
}

// FlowTraceIn is a message that is not delivered.
type FlowTraceIn struct {
	Text string   `json:"text" file:"message" help:"file with the message; - for standard input"`
	From string   `json:"from" flag:"from" help:"envelope sender; none: <>"`
	Rcpt []string `json:"rcpt" flag:"rcpt" help:"envelope recipient; may be repeated"`
	IP   string   `json:"ip" flag:"ip" default:"192.0.2.1" help:"client's address"`
	User string   `json:"user" flag:"user" complete:"user" help:"as if this account had logged in"`
}

// TraceRow is what a stage said.
type TraceRow struct {
	Phase   string `json:"phase" col:"PHASE"`
	Stage   string `json:"stage" col:"STAGE"`
	Verdict string `json:"verdict" col:"VERDICT"`
}

// StorageOut is the body store.
type StorageOut struct {
	Segments int   `json:"segments" col:"SEGMENTS"`
	Bodies   int64 `json:"bodies" col:"BODIES"`
	Bytes    int64 `json:"bytes" col:"OCTETS"`
	Live     int64 `json:"live" col:"LIVE"`
	Dead     int64 `json:"dead" col:"DEAD"`
	Appends  int64 `json:"appends" col:"APPENDS"`
	Fsyncs   int64 `json:"fsyncs" col:"FSYNCS"`
	MaxBatch int64 `json:"max_batch" col:"LARGEST BATCH"`
}

// StorageVerifyOut is what a scrub found.
type StorageVerifyOut struct {
	Bodies  int      `json:"bodies" col:"BODIES"`
	Bytes   int64    `json:"bytes" col:"OCTETS"`
	Damaged []string `json:"damaged" col:"DAMAGED"`
}

// StorageCompactOut is what a compaction did.
type StorageCompactOut struct {
	Segments int   `json:"segments" col:"SEGMENTS REMOVED"`
	Moved    int   `json:"moved" col:"BODIES MOVED"`
	Freed    int64 `json:"freed" col:"OCTETS FREED"`
}

// LockRow is a lock-out.
type LockRow struct {
	Account string `json:"account" col:"ACCOUNT AND NETWORK"`
	Until   string `json:"until" col:"UNTIL"`
}

// LockClearIn names an account.
type LockClearIn struct {
	Name string `json:"name" arg:"1" complete:"user" help:"login name or address as it was tried"`
}

// MailSendIn is a mail to try the server with.
type MailSendIn struct {
	To      string `json:"to" flag:"to" required:"true" help:"recipient"`
	From    string `json:"from" flag:"from" help:"envelope sender; none: <>"`
	Subject string `json:"subject" flag:"subject" default:"test" help:"subject"`
	Text    string `json:"body" flag:"text" default:"This is a test." help:"text"`
}

// CompleteIn asks for the values of a word.
type CompleteIn struct {
	Kind   string   `json:"kind" help:"what"`
	Prefix string   `json:"prefix" help:"what is typed so far"`
	Words  []string `json:"words" help:"words before"`
}

// CompleteOut are the values.
type CompleteOut struct {
	Values []string `json:"values"`
}

// TokenRow is a login token; its text is shown once.
type TokenRow struct {
	Name    string `json:"name" col:"NAME"`
	User    string `json:"user" col:"USER"`
	Token   string `json:"token" col:"TOKEN"`
	Expires string `json:"expires" col:"EXPIRES"`
}

// TokenAddIn is a new token.
type TokenAddIn struct {
	Name string `json:"name" arg:"1" help:"name of the token"`
	User string `json:"user" flag:"user" required:"true" complete:"user" help:"account for which it logs in"`
	Days int    `json:"days" flag:"days" min:"1" max:"3650" default:"365" help:"how long it is good"`
}

// TokenIn names a token.
type TokenIn struct {
	Name string `json:"name" arg:"1" help:"name of the token"`
}

// LicenseRow is a seat key (R4.18–R4.22).
type LicenseRow struct {
	Serial    string `json:"serial" col:"LICENCE KEY"`
	Quantity  int    `json:"quantity" col:"QUANTITY"`
	Activated string `json:"activated" col:"ACTIVATED"`
	Expires   string `json:"expires" col:"EXPIRES"`
	Status    string `json:"status" col:"STATUS"`
}

// LicenseIssueIn makes a key.
type LicenseIssueIn struct {
	Quantity int `json:"quantity" flag:"quantity" required:"true" min:"5" max:"100000" help:"accounts; packs of 5 or 20"`
	Days     int `json:"days" flag:"days" min:"0" max:"36500" help:"how long it is good; 0: for ever"`
}

// LicenseKey is a key.
type LicenseKey struct {
	Key string `json:"key" raw:"true"`
}

// LicenseAddIn installs keys.
type LicenseAddIn struct {
	Keys   []string `json:"keys" arg:"1..." help:"key"`
	Owner  string   `json:"owner" flag:"owner" help:"who they belong to"`
	Accept bool     `json:"accept" flag:"accept-terms" help:"the terms of the licence are agreed to"`
}

// Everything else.
var (
	CertList   = op.New[op.None, []CertRow]("cert list", op.Spec{Summary: "list TLS certificates", Effect: op.Read})
	CertShow   = op.New[CertIn, CertRow]("cert show", op.Spec{Summary: "show a certificate", Effect: op.Read})
	CertImport = op.New[CertImportIn, CertRow]("cert import", op.Spec{Summary: "import a certificate; it is in force at once", Effect: op.Update, Examples: []string{"mpctl cert import main --cert fullchain.pem --key-file privkey.pem --default"}})
	CertRenew  = op.New[CertIn, CertRow]("cert renew", op.Spec{Summary: "make a self-signed certificate anew", Effect: op.Update})
	CertDelete = op.New[CertIn, op.None]("cert delete", op.Spec{Summary: "delete a certificate", Effect: op.Delete, Confirm: op.ConfirmYes})

	CheckAll      = op.New[op.None, []Finding]("check all", op.Spec{Summary: "check everything", Effect: op.Read, Local: true})
	CheckDNS      = op.New[CheckDNSIn, []Finding]("check dns", op.Spec{Summary: "check domain, MX and address records", Effect: op.Read, Local: true})
	CheckRDNS     = op.New[op.None, []Finding]("check rdns", op.Spec{Summary: "check reverse DNS", Effect: op.Read, Local: true})
	CheckPorts    = op.New[op.None, []Finding]("check ports", op.Spec{Summary: "check that the enabled ports answer", Effect: op.Read, Local: true})
	CheckServices = op.New[op.None, []Finding]("check services", op.Spec{Summary: "check that SMTP, IMAP and POP3 are enabled and consistent", Effect: op.Read})
	CheckConfig   = op.New[op.None, []Finding]("check config", op.Spec{Summary: "check the settings against what is recommended", Effect: op.Read})
	CheckLogin    = op.New[CheckLoginIn, []Finding]("check login", op.Spec{Summary: "check why an account can or can't log in", Effect: op.Read})

	MeShow           = op.New[op.None, MeOut]("me show", op.Spec{Summary: "show your account", Effect: op.Read, Role: op.RoleUser})
	MePasswd         = op.New[MePasswdIn, op.None]("me passwd", op.Spec{Summary: "set your password", Effect: op.Update, Role: op.RoleUser})
	MeClientSettings = op.New[op.None, []ClientRow]("me client-settings", op.Spec{Summary: "show what your mail client needs", Effect: op.Read, Role: op.RoleUser})

	FlowShow  = op.New[op.None, []StageRow]("flow show", op.Spec{Summary: "list the stages that decide about a message, in order", Effect: op.Read})
	FlowTrace = op.New[FlowTraceIn, []TraceRow]("flow trace", op.Spec{Summary: "run a message through every stage without delivering it", Effect: op.Read})

	StorageShow    = op.New[op.None, StorageOut]("storage show", op.Spec{Summary: "show the store of message bodies on this node", Effect: op.Read, Local: true})
	StorageVerify  = op.New[op.None, StorageVerifyOut]("storage verify", op.Spec{Summary: "read every body and name damaged ones", Effect: op.Read, Local: true})
	StorageCompact = op.New[op.None, StorageCompactOut]("storage compact", op.Spec{Summary: "remove unused bodies and give their space back", Effect: op.Run, Local: true})

	LockList  = op.New[op.None, []LockRow]("login lock list", op.Spec{Summary: "list addresses that are locked out after wrong passwords", Effect: op.Read})
	LockClear = op.New[LockClearIn, op.None]("login lock clear", op.Spec{Summary: "let an account's addresses try again", Effect: op.Update})

	MailSend = op.New[MailSendIn, op.None]("mail send", op.Spec{Summary: "send a mail to try the server", Effect: op.Run})
	Complete = op.New[CompleteIn, CompleteOut]("complete", op.Spec{Summary: "values for shell completion", Effect: op.Read})

	TokenAdd    = op.New[TokenAddIn, TokenRow]("token add", op.Spec{Summary: "make a login token for mpctl --server", Effect: op.Create})
	TokenList   = op.New[op.None, []TokenRow]("token list", op.Spec{Summary: "list login tokens", Effect: op.Read})
	TokenDelete = op.New[TokenIn, op.None]("token delete", op.Spec{Summary: "delete a login token", Effect: op.Delete})

	LicenseList  = op.New[op.None, []LicenseRow]("license list", op.Spec{Summary: "list seat licences", Effect: op.Read})
	LicenseIssue = op.New[LicenseIssueIn, LicenseKey]("license issue", op.Spec{Summary: "make a seat key with this system's issuer key", Effect: op.Create})
	LicenseAdd   = op.New[LicenseAddIn, []LicenseRow]("license add", op.Spec{Summary: "install seat keys, all of those given or none", Effect: op.Create})
)
