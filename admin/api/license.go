package api

import "mailplusd/admin/op"

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

// Seat licences.
var (
	LicenseList  = op.New[op.None, []LicenseRow]("license list", op.Spec{Summary: "list seat licences", Effect: op.Read})
	LicenseIssue = op.New[LicenseIssueIn, LicenseKey]("license issue", op.Spec{Summary: "make a seat key with this system's issuer key", Effect: op.Create})
	LicenseAdd   = op.New[LicenseAddIn, []LicenseRow]("license add", op.Spec{Summary: "install seat keys, all of those given or none", Effect: op.Create})
)
