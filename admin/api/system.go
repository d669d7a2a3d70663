package api

import "mailplusd/admin/op"

// VersionOut is what runs.
type VersionOut struct {
	Version  string `json:"version" col:"VERSION"`
	Baseline string `json:"baseline" col:"BASELINE"`
	Node     string `json:"node" col:"NODE"`
}

// StatusOut is health at a glance.
type StatusOut struct {
	Node      string     `json:"node"`
	Hostname  string     `json:"hostname"`
	Domain    string     `json:"domain"`
	SetUp     bool       `json:"set_up"`
	Healthy   bool       `json:"healthy"`
	Uptime    string     `json:"uptime"`
	Leader    string     `json:"leader"`
	Applied   uint64     `json:"applied"`
	Seats     int        `json:"seats"`
	SeatsUsed int        `json:"seats_used"`
	Queue     int        `json:"queue"`
	Bodies    int64      `json:"bodies"`
	Bytes     int64      `json:"bytes"`
	Free      int64      `json:"disk_free"`
	Memory    int64      `json:"memory"`
	Alerts    []string   `json:"alerts"`
	Services  []Listener `json:"services"`
}

// Listener is one port.
type Listener struct {
	Name    string `json:"name" col:"SERVICE"`
	Enabled bool   `json:"enabled" col:"ENABLED"`
	Port    int    `json:"port" col:"PORT"`
	TLS     string `json:"tls" col:"TLS"`
	Address string `json:"address" col:"LISTENING ON"`
	Conns   int    `json:"connections" col:"CONNECTIONS"`
	Error   string `json:"error" col:"ERROR"`
}

// SetupShowOut is the state of set-up and its review.
type SetupShowOut struct {
	SetUp     bool   `json:"set_up" col:"SET UP"`
	Domain    string `json:"domain" col:"DOMAIN"`
	Hostname  string `json:"hostname" col:"HOSTNAME"`
	Source    string `json:"account_source" col:"ACCOUNT SOURCE"`
	Interface string `json:"interface" col:"INTERFACE"`
	Storage   string `json:"storage" col:"STORAGE"`
	Seats     int    `json:"seats" col:"SEATS"`
	Admin     string `json:"admin" col:"ADMINISTRATOR"`
}

// SetupNewIn makes a mail system.
type SetupNewIn struct {
	Domain    string    `json:"domain" flag:"domain" required:"true" help:"what stands behind the @ of users' addresses"`
	Hostname  string    `json:"hostname" flag:"hostname" help:"this server's own full name (default mail.DOMAIN)"`
	Source    string    `json:"account_source" flag:"account-type" enum:"local,ldap,domain" default:"local" help:"where accounts come from; ldap and domain must be bound before: mpctl directory ldap bind, mpctl directory ad bind"`
	Interface string    `json:"interface" flag:"interface" default:"all" complete:"interface" help:"network interface or address that the services listen on; mpctl net interface list names them"`
	Resolver  []string  `json:"resolver" flag:"resolver" help:"DNS server, address or address:port, repeatable (default: those of the host); kept as network.resolvers"`
	Storage   string    `json:"storage" flag:"storage" help:"must be this node's data directory, when given"`
	Admin     string    `json:"admin" flag:"admin" help:"first administrator's login name; with a directory a user there"`
	Password  op.Secret `json:"password" secret:"password" optional:"true" help:"password of the first administrator; with a directory it is there"`
}

// SetupFromMailServerIn is a new mail system with the data of a previous one, which mpctl reads on the machine it runs on.
type SetupFromMailServerIn struct {
	Source    string    `json:"source" flag:"source" required:"true" help:"directory on this machine with the previous server's data: passwd, aliases, mail/NAME"`
	Domain    string    `json:"domain" flag:"domain" required:"true" help:"what stands behind the @ of users' addresses"`
	Hostname  string    `json:"hostname" flag:"hostname" help:"this server's own full name (default mail.DOMAIN)"`
	Interface string    `json:"interface" flag:"interface" default:"all" complete:"interface" help:"network interface or address that the services listen on"`
	Resolver  []string  `json:"resolver" flag:"resolver" help:"DNS server, address or address:port, repeatable (default: those of the host)"`
	Admin     string    `json:"admin" flag:"admin" help:"first administrator's login name; may be one of the accounts that move"`
	Password  op.Secret `json:"password" secret:"password" optional:"true" help:"password of the first administrator; not needed when his account moves"`
}

// MoveRow is what became of an account, an alias, a mailbox, or a message that could not be moved.
type MoveRow struct {
	Kind     string `json:"kind" col:"KIND"` // set-up, account, alias, mailbox, message, orphan
	Name     string `json:"name" col:"NAME"`
	Result   string `json:"result" col:"RESULT"` // moved, exists, failed; of a mailbox also progress
	Note     string `json:"note,omitempty" col:"NOTE"`
	Messages int    `json:"messages,omitempty" col:"MESSAGES"`
	There    int    `json:"there_already,omitempty" col:"THERE ALREADY"`
	Failed   int    `json:"failed,omitempty" col:"FAILED"`
	Size     int64  `json:"size,omitempty" col:"SIZE"`
}

// ConfigRow is one setting.
type ConfigRow struct {
	Key     string `json:"key" col:"KEY"`
	Value   string `json:"value" col:"VALUE"`
	Unit    string `json:"unit" col:"UNIT"`
	Default string `json:"default" col:"DEFAULT"`
	Help    string `json:"help" col:"MEANING,wide"`
	Allowed string `json:"allowed" col:"ALLOWED,wide"`
}

// ConfigShowIn names a section or part of a key.
type ConfigShowIn struct {
	Prefix string `json:"prefix" arg:"1" optional:"true" complete:"setting" help:"section or part of a key, such as queue"`
}

// ConfigGetIn names a setting.
type ConfigGetIn struct {
	Key string `json:"key" arg:"1" complete:"setting" help:"such as delivery.max-size"`
}

// ConfigValue is a setting's value.
type ConfigValue struct {
	Value string `json:"value" raw:"true"`
}

// ConfigSetIn sets values, all of them or none.
type ConfigSetIn struct {
	Values []string `json:"values" arg:"1..." complete:"assignment" help:"KEY=VALUE"`
}

// ConfigText is settings as text: KEY = VALUE lines.
type ConfigText struct {
	Text string `json:"text" raw:"true"`
}

// ConfigImportIn is what config export wrote.
type ConfigImportIn struct {
	Text string `json:"text" file:"file" help:"file of config export; - for standard input"`
}

// DiffRow is one differing value.
type DiffRow struct {
	Key string `json:"key" col:"KEY"`
	Old string `json:"old" col:"NOW"`
	New string `json:"new" col:"FILE OR DEFAULT"`
}

// The system as a whole.
var (
	Version   = op.New[op.None, VersionOut]("version", op.Spec{Summary: "show what runs", Effect: op.Read, Role: op.RoleAnyone, Early: true})
	Status    = op.New[op.None, StatusOut]("status", op.Spec{Summary: "show health at a glance", Effect: op.Read, Early: true})
	SetupShow = op.New[op.None, SetupShowOut]("setup show", op.Spec{Summary: "show whether and as what this node is set up", Effect: op.Read, Early: true})
	SetupNew  = op.New[SetupNewIn, SetupShowOut]("setup new", op.Spec{Summary: "make a new mail system of this node", Effect: op.Create, Early: true, Confirm: op.ConfirmYes,
		Help: "At a terminal it asks for the network interface, shows what it is going to do, and asks before it does it. Anywhere else give --interface and --yes; mpctl net interface list names the interfaces.", Examples: []string{"mpctl setup new --domain example.com --admin postmaster --dry-run"}})
	SetupFromMailServer = op.New[SetupFromMailServerIn, []MoveRow]("setup from-mailserver", op.Spec{Summary: "make a system with the accounts, aliases and mail of a previous mail server", Effect: op.Create, Early: true, Confirm: op.ConfirmYes, Upload: true,
		Help:     "The directory holds a password list (passwd, with shadow if need be), a Postfix alias file (aliases), and Maildirs (mail/NAME, mail/DOMAIN/NAME, homes/NAME or NAME). Accounts and aliases come first, all of them together with the set-up; then the mail. The command may be repeated: what is there already is left alone. --dry-run tells what would move.",
		Examples: []string{"mpctl setup from-mailserver --source /srv/old --domain example.com --admin ann --dry-run"}})
	ConfigShow   = op.New[ConfigShowIn, []ConfigRow]("config show", op.Spec{Summary: "list settings with their values", Effect: op.Read})
	ConfigGet    = op.New[ConfigGetIn, ConfigValue]("config get", op.Spec{Summary: "print one setting", Effect: op.Read})
	ConfigSet    = op.New[ConfigSetIn, []ConfigRow]("config set", op.Spec{Summary: "change settings, all of those named or none", Effect: op.Update, Examples: []string{"mpctl config set delivery.max-size=25 queue.lifetime=72"}})
	ConfigExport = op.New[op.None, ConfigText]("config export", op.Spec{Summary: "write the settings that differ from the defaults", Effect: op.Read})
	ConfigImport = op.New[ConfigImportIn, []ConfigRow]("config import", op.Spec{Summary: "set what config export wrote", Effect: op.Update})
	ConfigDiff   = op.New[ConfigImportIn, []DiffRow]("config diff", op.Spec{Summary: "compare the settings with a file of config export", Effect: op.Read})
)
