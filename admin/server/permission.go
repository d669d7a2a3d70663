package server

import (
	"context"
	"slices"

	"mailplusd/admin/api"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

var mailServices = []model.MailService{model.ServiceIMAP, model.ServicePOP3, model.ServiceSMTP, model.ServiceAdmin}

func permissionRow(u *model.User) api.PermissionRow {
	row := api.PermissionRow{Name: u.Name, Allowed: []string{}, Denied: []string{}}
	for _, v := range mailServices {
		if slices.Contains(u.Deny, v) {
			row.Denied = append(row.Denied, string(v))
		} else {
			row.Allowed = append(row.Allowed, string(v))
		}
	}
	return row
}

func (s *Server) permissionShow(_ context.Context, _ *Call, in *api.PermissionShowIn) ([]api.PermissionRow, error) {
	out := []api.PermissionRow{}
	if len(in.Names) == 0 {
		pic, err := s.mail.Directory.Now()
		if err != nil {
			return nil, err
		}
		for _, a := range pic.Users {
			out = append(out, permissionRow(&a.User))
		}
		return out, nil
	}
	for _, n := range in.Names {
		u, err := getUser(s.mail.State, n)
		if err != nil {
			return nil, err
		}
		out = append(out, permissionRow(u))
	}
	return out, nil
}

// expand turns the word all into every service.
func expand(list []string) []model.MailService {
	var out []model.MailService
	for _, v := range list {
		if v == "all" {
			return mailServices
		}
		out = append(out, model.MailService(v))
	}
	return out
}

func (s *Server) permissionSet(ctx context.Context, c *Call, in *api.PermissionSetIn) (row api.PermissionRow, err error) {
	err = s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, in.Name)
		if err != nil {
			return err
		}
		before := permissionRow(u)
		deny := slices.Concat(u.Deny, expand(in.Deny))
		u.Deny = nil
		allow := expand(in.Allow)
		for _, v := range mailServices {
			if slices.Contains(deny, v) && !slices.Contains(allow, v) {
				u.Deny = append(u.Deny, v)
			}
		}
		row = permissionRow(u)
		diffRows(c, before, row)
		return state.Users.Put(tx, u)
	})
	return row, err
}
