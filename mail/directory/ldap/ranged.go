package ldap

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"
)

// ranged gives the values of an attribute of which a server shows only some at a time, as
// member;range=0-1499 (MS-ADTS §3.1.1.3.1.3.3). next is where the rest starts; 0: there is none.
func ranged(x *goldap.Entry, attr string) (values []string, next int) {
	for _, a := range x.Attributes {
		name, option, _ := strings.Cut(a.Name, ";")
		if !strings.EqualFold(name, attr) {
			continue
		}
		values = append(values, a.Values...)
		if len(option) < len("range=") || !strings.EqualFold(option[:len("range=")], "range=") {
			continue
		}
		if _, last, ok := strings.Cut(option[len("range="):], "-"); ok && last != "*" {
			if n, err := strconv.Atoi(last); err == nil && n >= 0 && n < MaxMembers {
				next = n + 1
			}
		}
	}
	return values, next
}

// rest reads the values of an attribute from next on, in as many answers as it takes.
func (c *Client) rest(ctx context.Context, s *session, dn, attr string, next int) (values []string, err error) {
	for next > 0 && len(values) <= MaxMembers {
		if err := ctx.Err(); err != nil {
			return nil, unavailable("%s: %w", s.uri, err)
		}
		req := goldap.NewSearchRequest(dn, goldap.ScopeBaseObject, goldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{fmt.Sprintf("%s;range=%d-*", attr, next)}, nil)
		s.extend()
		res, err := s.Search(req)
		if err != nil {
			return nil, unavailable("%s: %s: %w", s.uri, clip(dn), err)
		}
		if len(res.Entries) != 1 {
			return values, nil // gone meanwhile
		}
		more, after := ranged(res.Entries[0], attr)
		if len(more) == 0 || after != 0 && after <= next {
			return values, nil
		}
		values, next = append(values, more...), after
	}
	return values, nil
}
