package server

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/mail"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func (s *Server) complete(_ context.Context, _ *Call, in *api.CompleteIn) (out api.CompleteOut, err error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	var all []string
	switch in.Kind {
	case "user":
		for _, a := range pic.Users {
			all = append(all, a.Name)
		}
	case "group":
		for g := range pic.Groups {
			all = append(all, g)
		}
	case "policy":
		for _, p := range pic.Policies {
			all = append(all, p.Name)
		}
	case "domain":
		for d := range pic.Domains {
			all = append(all, d)
		}
	case "alias":
		for a := range pic.Aliases {
			if local, domain, _ := model.SplitAddress(a); len(in.Words) == 0 || domain == in.Words[0] {
				all = append(all, local)
			}
		}
	case "autobcc":
		for _, b := range pic.BCC {
			if len(in.Words) == 0 || b.Domain == in.Words[0] {
				all = append(all, b.Name)
			}
		}
	case "setting":
		for _, k := range model.SettingKeys() {
			all = append(all, k.Name)
		}
	case "assignment":
		for _, k := range model.SettingKeys() {
			all = append(all, k.Name+"=")
		}
	case "token":
		for t, err := range state.Tokens.All(s.mail.State, "") {
			if err != nil {
				return out, err
			}
			all = append(all, t.Name)
		}
	case "mailbox":
		if len(in.Words) > 0 {
			boxes, err := s.boxesOf(in.Words[0], "")
			if err != nil {
				return out, nil
			}
			for _, b := range boxes {
				all = append(all, b.Name)
			}
		}
	case "cert":
		for c, err := range state.Certificates.All(s.mail.State, "") {
			if err != nil {
				return out, err
			}
			all = append(all, c.Name)
		}
	case "relayrule", "trusted", "relaydomain":
		if all, err = s.completeRelay(in.Kind); err != nil {
			return out, err
		}
	case "holdrule":
		for _, r := range pic.Holds {
			all = append(all, r.Name)
		}
	case "tlspolicy":
		for p, err := range state.TLSPolicies.All(s.mail.State, "") {
			if err != nil {
				return out, err
			}
			all = append(all, p.Domain)
		}
	case "trustedca":
		for ca, err := range state.TrustedCAs.All(s.mail.State, "") {
			if err != nil {
				return out, err
			}
			all = append(all, ca.Name)
		}
	case "interface":
		all = append(all, "all")
		list, err := mail.Interfaces()
		if err != nil {
			return out, err
		}
		for _, i := range list {
			all = append(all, i.Name)
		}
	case "job":
		for _, j := range s.jobs.All() {
			all = append(all, strconv.Itoa(j.ID))
		}
	case "queue":
		rows, err := s.queueList(context.Background(), nil, &api.QueueListIn{Limit: 500})
		if err != nil {
			return out, err
		}
		for _, r := range rows {
			all = append(all, r.ID)
		}
	}
	for _, v := range all {
		if strings.HasPrefix(v, in.Prefix) && len(out.Values) < 500 {
			out.Values = append(out.Values, v)
		}
	}
	slices.Sort(out.Values)
	return out, nil
}

// completeRelay names what the lists of mail through other servers and for them hold.
func (s *Server) completeRelay(kind string) (all []string, err error) {
	ctx, every := context.Background(), &api.ListIn{}
	switch kind {
	case "relayrule":
		list, lerr := s.relayRuleList(ctx, nil, every)
		err = lerr
		for _, r := range list {
			all = append(all, r.Name)
		}
	case "trusted":
		list, lerr := s.trustedList(ctx, nil, every)
		err = lerr
		for _, t := range list {
			all = append(all, t.Name)
		}
	case "relaydomain":
		list, lerr := s.relayDomainList(ctx, nil, every)
		err = lerr
		for _, d := range list {
			all = append(all, d.Name)
		}
	}
	return all, err
}
