package api

import "mailplusd/admin/op"

// ProxyRow is a proxy that is believed when it says who its clients are.
type ProxyRow struct {
	Network string `json:"network" col:"PROXY"`
	How     string `json:"how" col:"TELLS BY"` // PROXY or XCLIENT
}

// ProxySetIn names proxies.
type ProxySetIn struct {
	Networks []string `json:"networks" arg:"1..." optional:"true" help:"address, or network such as 10.8.0.0/24; none: nobody is believed"`
}

// Proxies in front of this server.
var (
	ProxyShow = op.New[op.None, []ProxyRow]("net proxy show", op.Spec{Summary: "list the proxies that are believed when they say who their clients are", Effect: op.Read})
	ProxySet  = op.New[ProxySetIn, []ProxyRow]("net proxy set", op.Spec{Summary: "name the proxies that use the PROXY protocol, in place of those named before", Effect: op.Update,
		Help: `Their connections to SMTP, IMAP and POP3 must begin with a PROXY header, version 1 or 2 (HAProxy: send-proxy or send-proxy-v2, with
check-send-proxy), and are closed without one. From any other address a header is ordinary input, which the protocols refuse. The client that the
header names counts for limits, blocks, trust, policies and logs.`,
		Examples: []string{"mpctl net proxy set 10.8.0.5"}})
	XClientSet = op.New[ProxySetIn, []ProxyRow]("net xclient set", op.Spec{Summary: "name the SMTP proxies that use XCLIENT, in place of those named before", Effect: op.Update,
		Help:     "XCLIENT is offered to them and refused from any other address. The client that they name counts for limits, blocks, trust, policies and logs; LOGIN is not believed.",
		Examples: []string{"mpctl net xclient set 10.8.0.6"}})
	XClientShow = op.New[op.None, []ProxyRow]("net xclient show", op.Spec{Summary: "list the SMTP proxies that may use XCLIENT", Effect: op.Read})
)
