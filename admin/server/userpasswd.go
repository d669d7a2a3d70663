package server

import (
	"context"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/login"
	"mailplusd/mail/state"
)

// hashInput turns the password of a new user into a hash, or checks a given hash.
func (s *Server) hashInput(in *api.UserAddIn) (err error) {
	switch {
	case in.Password != "" && in.Hash != "":
		return op.Errorf(op.Usage, "give a password or a hash, not both")
	case in.Password != "":
		in.Hash, err = s.hashPassword(in.Name, []byte(in.Password))
	case in.Hash != "":
		err = login.ValidateHash(in.Hash)
	}
	return err
}

func (s *Server) userPasswd(ctx context.Context, c *Call, in *api.UserPasswdIn) (op.None, error) {
	if c.DryRun {
		_, err := s.hashPassword(in.Name, []byte(in.Password))
		return op.None{}, err
	}
	return op.None{}, s.setPassword(ctx, c, in.Name, []byte(in.Password), false)
}

// hashPassword checks and hashes a new password.
func (s *Server) hashPassword(name string, password []byte) (string, error) {
	set := s.mail.State.Current()
	if err := login.ValidatePassword(password, name, set.Login.MinPassword); err != nil {
		return "", err
	}
	return login.Hash(password)
}

// setPassword stores a new password. own: the user himself changes it, which no state of the pair forbids.
func (s *Server) setPassword(ctx context.Context, c *Call, name string, password []byte, own bool) error {
	hash, err := s.hashPassword(name, password)
	if err != nil {
		return err
	}
	return s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		if u.Source != "" {
			return refused("the password of "+u.Name+" is the directory's; change it there", "ldappasswd, Active Directory's own tools, or whatever the directory offers")
		}
		if own {
			tx.Own()
		}
		u.Hash = hash
		return state.Users.Put(tx, u)
	})
}
