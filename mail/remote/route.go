package remote

import (
	"net"
	"strconv"
	"strings"
)

// How a route protects its connections.
const (
	TLSNone     = "none"     // never encrypted
	TLSStartTLS = "starttls" // encrypted when the other side offers it and it works
	TLSRequire  = "require"  // STARTTLS, or nothing is sent
	TLSWrapped  = "wrapper"  // TLS from the first octet (RFC 8314)
)

// Route is the way to a destination that the administrator has chosen, such as a smarthost,
// instead of the MX of the recipient's domain.
type Route struct {
	Host     string // name, address, or address literal in brackets
	Port     int    // 0: the port of other mail servers
	TLS      string // none, starttls, require or wrapper; empty: as other mail servers
	User     string // login; empty: none
	Password string
	MX       bool   // the hosts are those of Host's MX records
	Both     bool   // as MX, by every DNS server, without this server itself
	Verify   bool   // with require or wrapper: the certificate must be trusted and have the host's name
	Remedy   string // command that changes how the certificate is checked
	Wait     string // why it can't be taken now; empty: it can
}

// Destination is what limits of connections and back-off count by: the route's host and port,
// or the domain where there is no route.
func Destination(r *Route, domain string) string {
	if r == nil {
		return domain
	}
	host := strings.ToLower(strings.Trim(r.Host, "[]"))
	if r.MX || r.Both {
		host = "mx:" + host
	}
	return net.JoinHostPort(host, strconv.Itoa(r.Port))
}
