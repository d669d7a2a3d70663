package mail

import (
	"mailplusd/mail/model"
	"mailplusd/mail/search"
	"mailplusd/mail/state"
)

// newSearch makes the full-text indexes of this node.
func (s *Server) newSearch(dir string) {
	s.Search = search.New(search.Options{
		Dir: dir, Source: s.Store, Feed: s.State.Feed, Users: s.indexed, Logger: s.log,
		Config: func() search.Config {
			f := &s.State.Current().FTS
			return search.Config{On: f.Enabled, CJK: f.CJK, CPU: f.CPU}
		},
	})
}

// indexed lists the accounts whose mail is indexed when the service is on (R7.17).
func (s *Server) indexed() (out []model.AccountID, err error) {
	for u, err := range state.Users.All(s.State, "") {
		if err != nil {
			return nil, err
		}
		if !u.NoFTS {
			out = append(out, u.ID)
		}
	}
	return out, nil
}
