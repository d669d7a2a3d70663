package api

import "mailplusd/admin/op"

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

// MeFactorOut is one's own two-factor login.
type MeFactorOut struct {
	On       bool   `json:"on" col:"ON"`
	Since    string `json:"since" col:"SINCE"`
	Pending  bool   `json:"pending" col:"TO BE CONFIRMED"`
	Recovery int    `json:"recovery_codes_left" col:"RECOVERY CODES LEFT"`
}

// MeFactorSecret is a new secret, shown once.
type MeFactorSecret struct {
	Secret string `json:"secret" col:"SECRET"`
	URI    string `json:"uri" col:"URI"` // for an app, or for a program that draws QR codes
}

// MeFactorCodeIn is a code of the authenticator app, or a recovery code.
type MeFactorCodeIn struct {
	Code op.Secret `json:"code" secret:"code" help:"one-time code"`
}

// MeFactorRecovery are the codes for who has lost his app, shown once.
type MeFactorRecovery struct {
	Codes []string `json:"recovery_codes" col:"RECOVERY CODES"`
}

// ClientRow is what a mail client needs.
type ClientRow struct {
	Service  string `json:"service" col:"SERVICE"`
	Server   string `json:"server" col:"SERVER"`
	Port     int    `json:"port" col:"PORT"`
	Security string `json:"security" col:"SECURITY"`
	Login    string `json:"login" col:"LOGIN"`
}

// One's own account.
var (
	MeShow         = op.New[op.None, MeOut]("me show", op.Spec{Summary: "show your account", Effect: op.Read, Role: op.RoleUser})
	MePasswd       = op.New[MePasswdIn, op.None]("me passwd", op.Spec{Summary: "set your password", Effect: op.Update, Alone: true, Role: op.RoleUser})
	MeFactorShow   = op.New[op.None, MeFactorOut]("me 2fa show", op.Spec{Summary: "show your two-factor login", Effect: op.Read, Role: op.RoleUser})
	MeFactorEnable = op.New[op.None, MeFactorSecret]("me 2fa enable", op.Spec{Summary: "make the secret for your authenticator app", Effect: op.Update, Alone: true, Role: op.RoleUser,
		Help: "Nothing changes before mpctl me 2fa confirm. Then administration and self-service by --server --login ask for a code besides the password.\n" +
			"Mail clients, the local socket, tokens and client certificates don't."})
	MeFactorConfirm = op.New[MeFactorCodeIn, MeFactorRecovery]("me 2fa confirm", op.Spec{Summary: "turn your two-factor login on with a first code; shows recovery codes", Effect: op.Update, Alone: true, Role: op.RoleUser,
		Examples: []string{"mpctl me 2fa confirm --code-file -"}})
	MeFactorDisable = op.New[MeFactorCodeIn, op.None]("me 2fa disable", op.Spec{Summary: "turn your two-factor login off, with a code or a recovery code", Effect: op.Update, Alone: true, Role: op.RoleUser})

	MeClientSettings = op.New[op.None, []ClientRow]("me client-settings", op.Spec{Summary: "show what your mail client needs", Effect: op.Read, Role: op.RoleUser})
)
