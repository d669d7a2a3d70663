package api

import "mailplusd/admin/op"

// ImportExchangeIn is what ExchangeConfigExport.ps1 wrote.
type ImportExchangeIn struct {
	Text string `json:"text" arg:"1" file:"file" help:"SynologyExportedExchangeConf.xml, as mpctl import exchange-script exports it; - for standard input"`
}

// SetupFromExchangeIn makes a mail system with settings of Exchange.
type SetupFromExchangeIn struct {
	Text      string    `json:"text" file:"file" help:"SynologyExportedExchangeConf.xml, as mpctl import exchange-script exports it; - for standard input"`
	Domain    string    `json:"domain" flag:"domain" help:"what stands behind the @ of users' addresses (default: the default accepted domain of Exchange)"`
	Hostname  string    `json:"hostname" flag:"hostname" help:"this server's own full name (default mail.DOMAIN)"`
	Interface string    `json:"interface" flag:"interface" default:"all" complete:"interface" help:"network interface or address that the services listen on"`
	Resolver  []string  `json:"resolver" flag:"resolver" help:"DNS server, address or address:port, repeatable (default: that of Exchange, or those of the host)"`
	Admin     string    `json:"admin" flag:"admin" help:"first administrator's login name"`
	Password  op.Secret `json:"password" secret:"password" optional:"true" help:"password of the first administrator"`
}

// What becomes of a setting of Exchange.
const (
	ExchangeSet  = "set"
	ExchangeSame = "same"
	ExchangeLeft = "not taken over"
)

// ExchangeRow is what becomes of one setting of Exchange.
type ExchangeRow struct {
	Section string   `json:"section" col:"SECTION"` // general or conditions
	Result  string   `json:"result" col:"RESULT"`   // set, same (it is so already), not taken over
	Setting string   `json:"setting" col:"SETTING"` // here
	Old     string   `json:"old" col:"NOW"`
	New     string   `json:"new" col:"NEW"`
	From    string   `json:"from" col:"IN EXCHANGE"` // type, name and property
	Values  []string `json:"values" col:"VALUE"`     // as Exchange writes them
	Note    string   `json:"note" col:"NOTE"`
}

// ExchangeScriptOut is the script that exports settings and aliases from Exchange.
type ExchangeScriptOut struct {
	Text string `json:"text" raw:"true"`
}

// Settings from Microsoft Exchange (R2.28, R3.65–R3.72).
var (
	ImportExchange = op.New[ImportExchangeIn, []ExchangeRow]("import exchange", op.Spec{
		Summary: "take over settings of Microsoft Exchange", Effect: op.Update, Confirm: op.ConfirmYes, Review: true,
		Help:     "It shows what would be set, general settings first and conditions (trusted servers, relays, TLS policies, black and white lists) behind them, and what can't be taken over, and why. Nothing is set without --yes or an answer at a terminal; then everything is set at once, or nothing. Repeated, it changes nothing more. mpctl import exchange-script writes the script that exports the file.",
		Examples: []string{"mpctl import exchange SynologyExportedExchangeConf.xml --dry-run"},
	})
	ImportExchangeScript = op.New[op.None, ExchangeScriptOut]("import exchange-script", op.Spec{
		Summary: "print the script that exports settings and aliases from Microsoft Exchange", Effect: op.Read, Early: true,
		Help:     "Run it as administrator on the Exchange server. It writes SynologyExportedExchangeConf.xml and SynologyExportedAlias.txt; the aliases are read by mpctl domain alias import.",
		Examples: []string{"mpctl import exchange-script > ExchangeConfigExport.ps1"},
	})
	SetupFromExchange = op.New[SetupFromExchangeIn, []ExchangeRow]("setup from-exchange", op.Spec{
		Summary: "make a new mail system with settings of Microsoft Exchange", Effect: op.Create, Early: true, Confirm: op.ConfirmYes, Review: true,
		Help:     "Like mpctl setup new, together with what mpctl import exchange sets, all of it or nothing. The file is shown in detail before anything is done.",
		Examples: []string{"mpctl setup from-exchange --file SynologyExportedExchangeConf.xml --admin postmaster --dry-run"},
	})
)
