package mail

import (
	"mailplusd/mail/model"
	"mailplusd/mail/search"
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

// indexed lists the accounts whose mail is indexed when the service is on: their policy and their
// own switch both have to allow it (R7.17).
func (s *Server) indexed() (out []model.AccountID, err error) {
	pic, err := s.Directory.Now()
	if err != nil {
		return nil, err
	}
	for _, a := range pic.Users {
		if a.Policy.FTS && !a.NoFTS {
			out = append(out, a.ID)
		}
	}
	return out, nil
}
