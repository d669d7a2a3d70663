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
	State       string   `json:"state" col:"STATE"` // ok, or what is wrong
	Renewal     string   `json:"renewal" col:"RENEWED,wide"`
	Failures    int      `json:"failures" col:"FAILED,wide"`
	Issuer      string   `json:"issuer" col:"ISSUER,wide"`
	NotBefore   string   `json:"not_before" col:"FROM,wide"`
	Key         string   `json:"key" col:"KEY,wide"`
	Chain       int      `json:"chain" col:"CHAIN,wide"`
	Fingerprint string   `json:"fingerprint" col:"SHA-256,wide"`
}

// CertIn names a certificate.
type CertIn struct {
	Name string `json:"name" arg:"1" complete:"cert" help:"name of the certificate here"`
}

// CertRenewIn names certificates.
type CertRenewIn struct {
	Names []string `json:"names" arg:"1..." complete:"cert" help:"name of the certificate here"`
}

// CertImportIn is a certificate with its key.
type CertImportIn struct {
	Name       string    `json:"name" arg:"1" help:"name to give it here"`
	Cert       string    `json:"cert" file:"cert" help:"PEM file: the certificate and its chain"`
	Key        op.Secret `json:"key" secret:"key" help:"PEM file with the private key"`
	Passphrase op.Secret `json:"passphrase" secret:"passphrase" optional:"true" help:"what opens the key, if it is encrypted"`
	Default    bool      `json:"default" flag:"default" help:"serve clients that ask for no or an unknown name"`
}

// CertOrderIn is what an ACME server is asked for.
type CertOrderIn struct {
	Names      []string `json:"names" arg:"1..." help:"host name that the certificate is for; *.NAME needs the challenge dns-01"`
	Name       string   `json:"name" flag:"name" help:"name to give it here; default: the first host name"`
	Default    bool     `json:"default" flag:"default" help:"once issued, serve clients that ask for no or an unknown name"`
	Background bool     `json:"background" flag:"background" help:"don't wait for what the server says"`
}

// CertSetIn changes what is given.
type CertSetIn struct {
	Name    string `json:"name" arg:"1" complete:"cert" help:"name of the certificate here"`
	Default *bool  `json:"default" flag:"default" help:"serve clients that ask for no or an unknown name"`
}

// CertDeleteIn names a certificate.
type CertDeleteIn struct {
	Name  string `json:"name" arg:"1" complete:"cert" help:"name of the certificate here"`
	Force bool   `json:"force" flag:"force" help:"even if no other is for a name that clients use"`
}

// CertACMEOut is the ACME server and how it is shown that names are ours.
type CertACMEOut struct {
	Directory    string `json:"directory" col:"DIRECTORY"`
	Contact      string `json:"contact" col:"CONTACT"`
	Terms        string `json:"terms" col:"TERMS"`     // agreed or not agreed
	Account      string `json:"account" col:"ACCOUNT"` // its URL, once there is one
	Root         int    `json:"roots" col:"OWN ROOTS"` // certificates of a private authority; 0: those of the host
	Challenge    string `json:"challenge" col:"CHALLENGE"`
	HTTPPort     int    `json:"http_port" col:"HTTP PORT"`
	TLSPort      int    `json:"tls_port" col:"TLS PORT"`
	DNSServer    string `json:"dns_server" col:"DNS SERVER"`
	DNSZone      string `json:"dns_zone" col:"DNS ZONE"`
	DNSKeyName   string `json:"dns_key_name" col:"TSIG KEY"`
	DNSAlgorithm string `json:"dns_algorithm" col:"TSIG ALGORITHM"`
	DNSWait      int    `json:"dns_wait" col:"DNS WAIT"`
	EABKeyID     string `json:"eab_key_id" col:"EXTERNAL ACCOUNT"`
	KeepKey      bool   `json:"keep_key" col:"KEEP KEY"`
	Retry        int    `json:"retry" col:"RETRY"`
}

// CertACMESetIn changes what is given.
type CertACMESetIn struct {
	Directory    *string   `json:"directory" flag:"directory" help:"URL of the ACME server's directory"`
	Contact      *string   `json:"contact" flag:"contact" help:"mail address that the ACME server may write to"`
	AgreeTerms   *bool     `json:"agree_terms" flag:"agree-terms" help:"agree to the server's terms of service"`
	Root         string    `json:"root" file:"root" optional:"true" help:"PEM file with the certificates that a private ACME server is trusted by"`
	HostRoots    bool      `json:"host_roots" flag:"host-roots" help:"trust what the host trusts again, instead of --root"`
	Challenge    *string   `json:"challenge" flag:"challenge" enum:"http-01,tls-alpn-01,dns-01" help:"how the server is shown that a name is ours"`
	HTTPPort     *int      `json:"http_port" flag:"http-port" min:"1" max:"65535" help:"TCP port for http-01; the server comes to 80"`
	TLSPort      *int      `json:"tls_port" flag:"tls-port" min:"1" max:"65535" help:"TCP port for tls-alpn-01; the server comes to 443"`
	DNSServer    *string   `json:"dns_server" flag:"dns-server" help:"server that takes dynamic updates for dns-01 (RFC 2136)"`
	DNSZone      *string   `json:"dns_zone" flag:"dns-zone" help:"zone that is updated; empty: found by asking the server"`
	DNSKeyName   *string   `json:"dns_key_name" flag:"dns-key-name" help:"name of the TSIG key that signs updates; empty: they are not signed"`
	DNSAlgorithm *string   `json:"dns_algorithm" flag:"dns-algorithm" enum:"hmac-sha256,hmac-sha512,hmac-sha384,hmac-sha224,hmac-sha1" help:"algorithm of the TSIG key"`
	DNSKey       op.Secret `json:"dns_key" secret:"dns-key" optional:"true" help:"TSIG key in base64"`
	DNSWait      *int      `json:"dns_wait" flag:"dns-wait" unit:"seconds" min:"0" max:"600" help:"wait until secondary DNS servers have the record"`
	EABKeyID     *string   `json:"eab_key_id" flag:"eab-key-id" help:"key ID of an external account; empty: none"`
	EABKey       op.Secret `json:"eab_key" secret:"eab-key" optional:"true" help:"MAC key of the external account in base64url"`
	KeepKey      *bool     `json:"keep_key" flag:"keep-key" help:"renew certificates with the key that they have, so that TLSA records (DANE) stay right"`
	Retry        *int      `json:"retry" flag:"retry" unit:"seconds" min:"1" max:"86400" help:"wait after a failed order; doubled each time, up to 12 hours"`
}

// TLS certificates (I.23).
var (
	CertList   = op.New[op.None, []CertRow]("cert list", op.Spec{Summary: "list TLS certificates", Effect: op.Read})
	CertShow   = op.New[CertIn, CertRow]("cert show", op.Spec{Summary: "show a certificate, and what the ACME server last said about it", Effect: op.Read})
	CertImport = op.New[CertImportIn, CertRow]("cert import", op.Spec{Summary: "import a certificate; it is in force at once", Effect: op.Update,
		Help:     "The chain is put in order; what can't serve is refused: a key that belongs to another certificate, one that has expired, a weak key.",
		Examples: []string{"mpctl cert import main --cert fullchain.pem --key-file privkey.pem --default"}})
	CertOrder = op.New[CertOrderIn, CertRow]("cert order", op.Spec{Summary: "order a certificate from the ACME server; it is renewed by itself", Effect: op.Create,
		Help:     "Waits until the server has issued it or said why not. After a failure it is tried again by itself, less and less often: mpctl cert show NAME.",
		Examples: []string{"mpctl cert order mail.example.com autoconfig.example.com --default"}})
	CertRenew    = op.New[CertRenewIn, []CertRow]("cert renew", op.Spec{Summary: "make a self-signed certificate anew, order an ACME one again", Effect: op.Update, Alone: true})
	CertSet      = op.New[CertSetIn, CertRow]("cert set", op.Spec{Summary: "make a certificate the default one", Effect: op.Update, Examples: []string{"mpctl cert set main --default on"}})
	CertDelete   = op.New[CertDeleteIn, op.None]("cert delete", op.Spec{Summary: "delete a certificate", Effect: op.Delete, Confirm: op.ConfirmYes})
	CertACMEShow = op.New[op.None, CertACMEOut]("cert acme show", op.Spec{Summary: "show where certificates are ordered, and how", Effect: op.Read})
	CertACMESet  = op.New[CertACMESetIn, CertACMEOut]("cert acme set", op.Spec{Summary: "say where certificates are ordered, and how", Effect: op.Update,
		Examples: []string{"mpctl cert acme set --contact postmaster@example.com --agree-terms", "mpctl cert acme set --challenge dns-01 --dns-server 192.0.2.53 --dns-key-name acme --dns-key-file tsig.key"}})
)
