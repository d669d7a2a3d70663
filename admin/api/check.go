package api

import "mailplusd/admin/op"

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

// Checks of the system and its surroundings.
var (
	CheckAll = op.New[op.None, []Finding]("check all", op.Spec{Summary: "check everything", Effect: op.Read, Local: true,
		Help: "Like every check it exits with status 1 when a finding is an error, so that cron and scripts learn of it."})
	CheckDNS   = op.New[CheckDNSIn, []Finding]("check dns", op.Spec{Summary: "check domain, MX and address records", Effect: op.Read, Local: true})
	CheckRDNS  = op.New[op.None, []Finding]("check rdns", op.Spec{Summary: "check reverse DNS", Effect: op.Read, Local: true})
	CheckPorts = op.New[op.None, []Finding]("check ports", op.Spec{Summary: "check that the enabled ports answer, on this machine and at the public address", Effect: op.Read, Local: true,
		Help: "Behind a router the public address is tried through it, which most routers let through from inside; one that does not is told apart from a port that is closed as far as that can be seen from here."})
	CheckNetwork   = op.New[op.None, []Finding]("check network", op.Spec{Summary: "check that this server is online under a fixed address, or its name follows a changing one", Effect: op.Read, Local: true})
	CheckTime      = op.New[op.None, []Finding]("check time", op.Spec{Summary: "ask a time server: is the Internet there, is the clock right", Effect: op.Read, Local: true})
	CheckBlocklist = op.New[op.None, []Finding]("check blocklist", op.Spec{Summary: "ask public block lists about this server's addresses", Effect: op.Read, Local: true})
	CheckServices  = op.New[op.None, []Finding]("check services", op.Spec{Summary: "check that SMTP, IMAP and POP3 are enabled and consistent", Effect: op.Read})
	CheckCerts     = op.New[op.None, []Finding]("check certs", op.Spec{Summary: "check that certificates are good, renewed in time, and for the names that clients use", Effect: op.Read, Local: true})
	CheckConfig    = op.New[op.None, []Finding]("check config", op.Spec{Summary: "check the settings against what is recommended", Effect: op.Read})
	CheckLogin     = op.New[CheckLoginIn, []Finding]("check login", op.Spec{Summary: "check why an account can or can't log in", Effect: op.Read})
)
