package api

import "mailplusd/admin/op"

// InterfaceRow is a network interface of the host.
type InterfaceRow struct {
	Name      string   `json:"name" col:"INTERFACE"`
	State     string   `json:"state" col:"STATE"` // up or down
	Addresses []string `json:"addresses" col:"ADDRESSES"`
	Serves    bool     `json:"serves" col:"SERVICES LISTEN"`
	MAC       string   `json:"mac" col:"MAC,wide"`
}

// LANRow is a network that counts as local.
type LANRow struct {
	Network string `json:"network" col:"NETWORK"`
	Why     string `json:"why" col:"WHY"` // this machine, connected or set
}

// LANSetIn names networks.
type LANSetIn struct {
	Networks []string `json:"networks" arg:"1..." optional:"true" help:"network such as 10.8.0.0/24, or a single address; none: only what is connected"`
}

// The host's network, which is shown and never changed.
var (
	NetInterfaceList = op.New[op.None, []InterfaceRow]("net interface list", op.Spec{Summary: "list this host's network interfaces and their addresses", Effect: op.Read, Early: true, Local: true})
	NetLANShow       = op.New[op.None, []LANRow]("net lan show", op.Spec{Summary: "list the networks that count as local on this node", Effect: op.Read, Local: true,
		Help: "This machine, the subnets of the interface that the services listen on, and those that were set."})
	NetLANSet = op.New[LANSetIn, []LANRow]("net lan set", op.Spec{Summary: "name the further networks that count as local, in place of those named before", Effect: op.Update,
		Examples: []string{"mpctl net lan set 10.8.0.0/24 192.168.7.0/24"}})
)
