package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// DialHost connects to a host by name, its addresses one after the other.
func (c *Client) DialHost(ctx context.Context, host string, port uint16) (net.Conn, error) {
	addrs, err := c.addresses(ctx, host)
	if len(addrs) == 0 {
		if err == nil {
			err = fmt.Errorf("%s has no address", host)
		}
		return nil, err
	}
	for _, a := range addrs {
		var conn net.Conn
		if conn, err = c.dial(ctx, netip.AddrPortFrom(a, port)); err == nil {
			return conn, nil
		}
		err = fmt.Errorf("can't connect to %s: %w", netip.AddrPortFrom(a, port), cause(err))
	}
	return nil, err
}
