package ldap

import "context"

// Ranged reads the values of an attribute from one on.
func (c *Client) Ranged(ctx context.Context, dn, attr string, from int) ([]string, error) {
	s, err := c.connect(ctx, maxFetch, true)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return c.rest(ctx, s, dn, attr, from)
}

// Last is the server that answered last.
func (c *Client) Last() string { return *c.last.Load() }
