package server

import (
	"context"
	"slices"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
)

func postmasterOut(d *model.Delivery) api.PostmasterOut {
	return api.PostmasterOut{Enabled: d.Postmaster, Address: slices.Clone(d.Postmasters)}
}

func (s *Server) postmasterShow(context.Context, *Call, *op.None) (api.PostmasterOut, error) {
	return postmasterOut(&s.mail.State.Current().Delivery), nil
}

func (s *Server) postmasterChange(ctx context.Context, c *Call, fn func(*model.Delivery) error) (out api.PostmasterOut, err error) {
	_, err = s.changeSettings(ctx, c, func(set *model.Settings) error {
		set.Delivery.Postmasters = slices.Clone(set.Delivery.Postmasters)
		err := fn(&set.Delivery)
		out = postmasterOut(&set.Delivery)
		return err
	})
	return out, err
}

func (s *Server) postmasterEnable(on bool) func(context.Context, *Call, *op.None) (api.PostmasterOut, error) {
	return func(ctx context.Context, c *Call, _ *op.None) (api.PostmasterOut, error) {
		out, err := s.postmasterChange(ctx, c, func(d *model.Delivery) error { d.Postmaster = on; return nil })
		if err == nil && on && len(out.Address) == 0 {
			c.Warn("there is no external postmaster yet: mpctl delivery postmaster add ADDRESS")
		}
		return out, err
	}
}

// postmasterAddress gives an address elsewhere in the form in which it is kept.
func (s *Server) postmasterAddress(a string) (string, error) {
	local, domain, ok := model.SplitAddress(a)
	if !ok {
		return "", op.Errorf(op.Usage, "%q is no address", a)
	}
	domain = asciiDomain(domain)
	if _, err := getDomain(s.mail.State, domain); err == nil {
		return "", refused(a+" is hosted here; administrators of this server get system mail anyway", "mpctl domain alias add "+domain+" postmaster …")
	}
	return local + "@" + domain, nil
}

func (s *Server) postmasterAdd(ctx context.Context, c *Call, in *api.PostmasterIn) (api.PostmasterOut, error) {
	out, err := s.postmasterChange(ctx, c, func(d *model.Delivery) error {
		for _, a := range in.Address {
			a, err := s.postmasterAddress(a)
			if err != nil {
				return err
			}
			if slices.Contains(d.Postmasters, a) {
				return exists("external postmaster", a, "mpctl delivery postmaster show")
			}
			d.Postmasters = append(d.Postmasters, a)
		}
		return nil
	})
	if err == nil && !out.Enabled {
		c.Warn("external postmasters are not enabled: mpctl delivery postmaster enable")
	}
	return out, err
}

func (s *Server) postmasterDelete(ctx context.Context, c *Call, in *api.PostmasterIn) (api.PostmasterOut, error) {
	return s.postmasterChange(ctx, c, func(d *model.Delivery) error {
		for _, a := range in.Address {
			i := slices.Index(d.Postmasters, a)
			if i < 0 {
				return notFound("external postmaster", a, "mpctl delivery postmaster show")
			}
			d.Postmasters = slices.Delete(d.Postmasters, i, i+1)
		}
		return nil
	})
}
