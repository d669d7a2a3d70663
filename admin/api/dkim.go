package api

import "mailplusd/admin/op"

// DKIMRow is a key pair of a domain, or the domain itself when it has none.
type DKIMRow struct {
	Domain    string `json:"domain" col:"DOMAIN"`
	Signing   bool   `json:"signing" col:"SIGNING"` // of the domain's outgoing mail
	Selector  string `json:"selector" col:"SELECTOR"`
	State     string `json:"state" col:"STATE"` // signs, waits (not used yet), old (still to be published), done (may go from DNS), none
	Algorithm string `json:"algorithm" col:"ALGORITHM"`
	Bits      int    `json:"bits" col:"BITS"`
	Created   string `json:"created" col:"CREATED"`
	Until     string `json:"publish_until" col:"PUBLISH UNTIL"` // of an old one
	Name      string `json:"name" col:"TXT NAME,wide"`
	Value     string `json:"value" col:"TXT VALUE,wide"` // with the public key
	Problem   string `json:"problem" col:"PROBLEM"`      // why this node can't sign with it
}

// DKIMShowIn names a domain, or none for all.
type DKIMShowIn struct {
	Domain string `json:"domain" arg:"1" optional:"true" complete:"domain" help:"domain name; none: every hosted one"`
}

// DKIMIn names a domain.
type DKIMIn struct {
	Domain string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
}

// DKIMSetIn changes what is given.
type DKIMSetIn struct {
	Domain   string    `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Selector *string   `json:"selector" flag:"selector" help:"selector that signs (s=): one that has a key pair, or a new name for the pair in use"`
	Also     *string   `json:"also" flag:"also" help:"selector of a second pair that signs as well, such as Ed25519 beside RSA; empty: none"`
	Drop     string    `json:"drop" flag:"drop" help:"selector whose key pair is deleted; not one that signs"`
	Key      op.Secret `json:"key" secret:"key" optional:"true" help:"PEM file with the private key of another signer (PKCS #1 or PKCS #8), for --selector"`
}

// DKIMGenerateIn makes a key pair.
type DKIMGenerateIn struct {
	Domain    string `json:"domain" arg:"1" complete:"domain" help:"domain name"`
	Selector  string `json:"selector" flag:"selector" help:"selector of the new pair; none: the one in use, whose pair is deleted"`
	Algorithm string `json:"algorithm" flag:"algorithm" enum:"rsa,ed25519" default:"rsa" help:"rsa, which every receiver can verify, or ed25519 (RFC 8463), which not all can"`
	Bits      int    `json:"bits" flag:"bits" min:"1024" max:"4096" default:"2048" help:"size of an RSA key; 1024 is weak"`
}

// Signing outgoing mail (R8.25–R8.33).
var (
	DKIMShow   = op.New[DKIMShowIn, []DKIMRow]("domain dkim show", op.Spec{Summary: "show the keys that sign a domain's mail, and the records that publish them", Effect: op.Read})
	DKIMEnable = op.New[DKIMIn, []DKIMRow]("domain dkim enable", op.Spec{Summary: "sign the domain's outgoing mail; a key pair is made if there is none", Effect: op.Update,
		Examples: []string{"mpctl domain dkim enable example.com", "mpctl domain dkim show example.com -o wide"}})
	DKIMDisable  = op.New[DKIMIn, []DKIMRow]("domain dkim disable", op.Spec{Summary: "sign no more; the key pairs stay", Effect: op.Update})
	DKIMSet      = op.New[DKIMSetIn, []DKIMRow]("domain dkim set", op.Spec{Summary: "choose the selector that signs, take over a key, or delete one", Effect: op.Update, Confirm: op.ConfirmYes, Examples: []string{"mpctl domain dkim set example.com --selector 2026b --yes"}})
	DKIMGenerate = op.New[DKIMGenerateIn, []DKIMRow]("domain dkim generate", op.Spec{Summary: "make a key pair", Effect: op.Update, Confirm: op.ConfirmYes,
		Help:     "With a new --selector the pair waits until mpctl domain dkim set --selector makes it sign: publish it first. With the selector in use, or none, it takes the place of the pair there, which is deleted; mail is signed with it at once.",
		Examples: []string{"mpctl domain dkim generate example.com --selector 2026b --yes", "mpctl domain dkim generate example.com --selector ed --algorithm ed25519 --yes"}})
)
