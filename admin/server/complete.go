package server

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mailplusd/admin/api"
	"mailplusd/mail"
	"mailplusd/mail/directory"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// maxCompletions bounds the values that a word is completed to.
const maxCompletions = 500

// completions gives the values of each kind of word (op.Field.Complete). words are those before it.
var completions = map[string]func(s *Server, pic *directory.Picture, words []string) ([]string, error){
	"user": func(_ *Server, pic *directory.Picture, _ []string) (all []string, _ error) {
		for _, a := range pic.Users {
			all = append(all, a.Name)
		}
		return all, nil
	},
	"group": func(_ *Server, pic *directory.Picture, _ []string) ([]string, error) {
		return slices.Collect(maps.Keys(pic.Groups)), nil
	},
	"policy": func(_ *Server, pic *directory.Picture, _ []string) (all []string, _ error) {
		for _, p := range pic.Policies {
			all = append(all, p.Name)
		}
		return all, nil
	},
	"domain": func(_ *Server, pic *directory.Picture, _ []string) ([]string, error) {
		return slices.Collect(maps.Keys(pic.Domains)), nil
	},
	"alias": func(_ *Server, pic *directory.Picture, words []string) (all []string, _ error) {
		for a := range pic.Aliases {
			if local, domain, _ := model.SplitAddress(a); len(words) == 0 || domain == words[0] {
				all = append(all, local)
			}
		}
		return all, nil
	},
	"autobcc": func(_ *Server, pic *directory.Picture, words []string) (all []string, _ error) {
		for _, b := range pic.BCC {
			if len(words) == 0 || b.Domain == words[0] {
				all = append(all, b.Name)
			}
		}
		return all, nil
	},
	"holdrule": func(_ *Server, pic *directory.Picture, _ []string) (all []string, _ error) {
		for _, r := range pic.Holds {
			all = append(all, r.Name)
		}
		return all, nil
	},
	"setting":    func(*Server, *directory.Picture, []string) ([]string, error) { return settingNames(""), nil },
	"assignment": func(*Server, *directory.Picture, []string) ([]string, error) { return settingNames("="), nil },
	"token": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return names(state.Tokens.All(s.mail.State, ""), func(t *model.Token) string { return t.Name })
	},
	"cert": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return names(state.Certificates.All(s.mail.State, ""), func(c *model.Certificate) string { return c.Name })
	},
	"tlspolicy": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return names(state.TLSPolicies.All(s.mail.State, ""), func(p *model.TLSPolicy) string { return p.Domain })
	},
	"trustedca": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return names(state.TrustedCAs.All(s.mail.State, ""), func(c *model.TrustedCA) string { return c.Name })
	},
	"relayrule": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return s.completeRelay("relayrule")
	},
	"trusted": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) { return s.completeRelay("trusted") },
	"relaydomain": func(s *Server, _ *directory.Picture, _ []string) ([]string, error) {
		return s.completeRelay("relaydomain")
	},
	"mailbox": func(s *Server, _ *directory.Picture, words []string) (all []string, _ error) {
		if len(words) == 0 {
			return nil, nil
		}
		boxes, err := s.boxesOf(words[0], "")
		if err != nil {
			return nil, nil // of a user that there isn't
		}
		for _, b := range boxes {
			all = append(all, b.Name)
		}
		return all, nil
	},
	"node": func(s *Server, _ *directory.Picture, _ []string) (all []string, _ error) {
		rows, err := s.serverList(context.Background(), nil, nil)
		for _, r := range rows {
			all = append(all, r.Node)
		}
		return all, err
	},
	"interface": func(*Server, *directory.Picture, []string) ([]string, error) {
		list, err := mail.Interfaces()
		all := []string{"all"}
		for _, i := range list {
			all = append(all, i.Name)
		}
		return all, err
	},
	"job": func(s *Server, _ *directory.Picture, _ []string) (all []string, _ error) {
		for _, j := range s.jobs.All() {
			all = append(all, strconv.Itoa(j.ID))
		}
		return all, nil
	},
	"queue": func(s *Server, _ *directory.Picture, _ []string) (all []string, _ error) {
		rows, err := s.queueList(context.Background(), nil, &api.QueueListIn{Limit: maxCompletions})
		for _, r := range rows {
			all = append(all, r.ID)
		}
		return all, err
	},
}

func settingNames(end string) (all []string) {
	for _, k := range model.SettingKeys() {
		all = append(all, k.Name+end)
	}
	return all
}

// names reads what the rows of a table are called.
func names[T any](rows iter.Seq2[*T, error], name func(*T) string) (all []string, err error) {
	for r, err := range rows {
		if err != nil {
			return nil, err
		}
		all = append(all, name(r))
	}
	return all, nil
}

func (s *Server) complete(_ context.Context, _ *Call, in *api.CompleteIn) (out api.CompleteOut, err error) {
	values := completions[in.Kind]
	if values == nil {
		return out, nil
	}
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return out, err
	}
	all, err := values(s, pic, in.Words)
	if err != nil {
		return out, err
	}
	slices.Sort(all)
	for _, v := range all {
		if strings.HasPrefix(v, in.Prefix) && len(out.Values) < maxCompletions {
			out.Values = append(out.Values, v)
		}
	}
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
