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

// TLS certificates.
var (
	CertList   = op.New[op.None, []CertRow]("cert list", op.Spec{Summary: "list TLS certificates", Effect: op.Read})
	CertShow   = op.New[CertIn, CertRow]("cert show", op.Spec{Summary: "show a certificate", Effect: op.Read})
	CertImport = op.New[CertImportIn, CertRow]("cert import", op.Spec{Summary: "import a certificate; it is in force at once", Effect: op.Update, Examples: []string{"mpctl cert import main --cert fullchain.pem --key-file privkey.pem --default"}})
	CertRenew  = op.New[CertIn, CertRow]("cert renew", op.Spec{Summary: "make a self-signed certificate anew", Effect: op.Update})
	CertDelete = op.New[CertIn, op.None]("cert delete", op.Spec{Summary: "delete a certificate", Effect: op.Delete, Confirm: op.ConfirmYes})
)
