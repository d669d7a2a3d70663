package api

import "mailplusd/admin/op"

// ListenerSetIn changes a listener.
type ListenerSetIn struct {
	Enable *bool `json:"enable" flag:"enable" help:"listen at all"`
	Port   *int  `json:"port" flag:"port" min:"1" max:"65535" help:"TCP port"`
}

// MailboxServiceSetIn changes IMAP or POP3.
type MailboxServiceSetIn struct {
	Enable  *bool `json:"enable" flag:"enable" help:"offer the service at all"`
	Port    *int  `json:"port" flag:"port" min:"1" max:"65535" help:"port in clear, with STARTTLS when TLS is on"`
	TLS     *bool `json:"tls" flag:"tls" help:"offer STARTTLS, and implicit TLS on the TLS port"`
	TLSPort *int  `json:"tls_port" flag:"tls-port" min:"1" max:"65535" help:"port with implicit TLS"`
}

// AutoconfigSetIn changes where mail clients fetch their settings.
type AutoconfigSetIn struct {
	Enable   *bool `json:"enable" flag:"enable" help:"answer mail clients that look for settings, over HTTPS"`
	Port     *int  `json:"port" flag:"port" min:"1" max:"65535" help:"port of HTTPS; clients look at 443"`
	HTTP     *bool `json:"http" flag:"http" help:"send clients that come by HTTP to HTTPS, too"`
	HTTPPort *int  `json:"http_port" flag:"http-port" min:"1" max:"65535" help:"port of HTTP; clients look at 80"`
}

// InterfaceSetIn says where the services listen.
type InterfaceSetIn struct {
	Interface string `json:"interface" arg:"1" complete:"interface" help:"network interface, address, or all"`
}

// GeneralOut is Mail Delivery > General.
type GeneralOut struct {
	Hostname      string `json:"hostname" col:"HOSTNAME"`
	Banner        string `json:"banner" col:"BANNER"`
	MaxRecipients int    `json:"max_recipients" col:"MAX RECIPIENTS"`
	MaxHops       int    `json:"max_hops" col:"MAX HOPS"`
	MaxSize       int    `json:"max_size" col:"MAX SIZE (MB)"`
}

// GeneralSetIn changes it.
type GeneralSetIn struct {
	Hostname      *string `json:"hostname" flag:"hostname" help:"this server's own full name"`
	Banner        *string `json:"banner" flag:"banner" help:"text of the 220 greeting; $hostname stands for the name"`
	MaxRecipients *int    `json:"max_recipients" flag:"max-recipients" min:"1" max:"10000" help:"recipients of one message"`
	MaxHops       *int    `json:"max_hops" flag:"max-hops" min:"1" max:"100" help:"Received headers of one message"`
	MaxSize       *int    `json:"max_size" flag:"max-size" unit:"MB" min:"1" max:"2047" help:"size of one message"`
}

// AuthOut is SMTP authentication.
type AuthOut struct {
	Enable      bool `json:"enable" col:"ENABLED"`
	LANExempt   bool `json:"lan_exempt" col:"LAN EXEMPT"`
	SenderMatch bool `json:"sender_match" col:"SENDER MATCH"`
	SkipTrusted bool `json:"skip_match_trusted" col:"SKIP MATCH FOR TRUSTED"`
}

// AuthSetIn changes it.
type AuthSetIn struct {
	Enable      *bool `json:"enable" flag:"enable" help:"who sends to other servers must log in"`
	LANExempt   *bool `json:"lan_exempt" flag:"lan-exempt" help:"the local network may send without login"`
	SenderMatch *bool `json:"sender_match" flag:"sender-match" help:"the sender address must belong to the login"`
	SkipTrusted *bool `json:"skip_match_trusted" flag:"skip-match-trusted" help:"no sender check for trusted networks"`
}

// Services and delivery (R6.01–R6.28, R7.01–R7.33).
var (
	ServiceShow           = op.New[op.None, []Listener]("service show", op.Spec{Summary: "list the listeners", Effect: op.Read})
	ServiceSMTPSet        = op.New[ListenerSetIn, []Listener]("service smtp set", op.Spec{Summary: "change the SMTP listener (mail from other servers)", Effect: op.Update, Confirm: op.ConfirmYes})
	ServiceSMTPSSet       = op.New[ListenerSetIn, []Listener]("service smtps set", op.Spec{Summary: "change the SMTP listener with implicit TLS", Effect: op.Update, Confirm: op.ConfirmYes})
	ServiceSubmissionSet  = op.New[ListenerSetIn, []Listener]("service submission set", op.Spec{Summary: "change the submission listener (TLS and login required)", Effect: op.Update, Confirm: op.ConfirmYes})
	ServiceIMAPShow       = op.New[op.None, []Listener]("service imap show", op.Spec{Summary: "show IMAP", Effect: op.Read})
	ServiceIMAPSet        = op.New[MailboxServiceSetIn, []Listener]("service imap set", op.Spec{Summary: "change IMAP", Effect: op.Update, Confirm: op.ConfirmYes})
	ServicePOP3Show       = op.New[op.None, []Listener]("service pop3 show", op.Spec{Summary: "show POP3", Effect: op.Read})
	ServicePOP3Set        = op.New[MailboxServiceSetIn, []Listener]("service pop3 set", op.Spec{Summary: "change POP3", Effect: op.Update, Confirm: op.ConfirmYes})
	ServiceAutoconfigShow = op.New[op.None, []Listener]("service autoconfig show", op.Spec{Summary: "show where mail clients fetch their settings", Effect: op.Read})
	ServiceAutoconfigSet  = op.New[AutoconfigSetIn, []Listener]("service autoconfig set", op.Spec{Summary: "let mail clients set themselves up from an address", Help: "Thunderbird and its kin, Outlook and Apple Mail find ports and names by themselves then. For each domain the names autoconfig.DOMAIN and autodiscover.DOMAIN must lead to this server and be in its certificate; mpctl domain dns-records prints them.", Effect: op.Update, Confirm: op.ConfirmYes})
	ServiceInterfaceSet   = op.New[InterfaceSetIn, []Listener]("service interface set", op.Spec{Summary: "say where the services listen", Effect: op.Update, Confirm: op.ConfirmYes})
	DeliveryGeneralShow   = op.New[op.None, GeneralOut]("delivery general show", op.Spec{Summary: "show host name, banner and limits", Effect: op.Read})
	DeliveryGeneralSet    = op.New[GeneralSetIn, GeneralOut]("delivery general set", op.Spec{Summary: "change host name, banner and limits", Effect: op.Update})
	DeliveryAuthShow      = op.New[op.None, AuthOut]("delivery auth show", op.Spec{Summary: "show SMTP authentication", Effect: op.Read})
	DeliveryAuthSet       = op.New[AuthSetIn, AuthOut]("delivery auth set", op.Spec{Summary: "change SMTP authentication", Effect: op.Update})
)
