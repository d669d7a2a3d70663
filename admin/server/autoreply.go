package server

import (
	"context"
	"maps"
	"slices"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

func replyRow(user string, r *model.AutoReply) api.ReplyRow {
	if r == nil {
		return api.ReplyRow{User: user}
	}
	return api.ReplyRow{User: user, Active: r.InForce(time.Now().Unix()), Subject: r.Subject, From: stamp(r.From), Until: stamp(r.Until), Text: r.Text}
}

// replyDiff is replyRow for the admin log: the text shortened.
func replyDiff(user string, r *model.AutoReply) any {
	if r == nil {
		return nil
	}
	row := replyRow(user, r)
	if text := []rune(row.Text); len(text) > 200 {
		row.Text = string(text[:200]) + "…"
	}
	return row
}

func (s *Server) replyOf(u *model.User) (api.ReplyRow, error) {
	r, err := found(s.mail.State, state.AutoReplies, u.Key())
	return replyRow(u.Name, r), err
}

func (s *Server) userReplyShow(_ context.Context, _ *Call, in *api.UserIn) (api.ReplyRow, error) {
	u, err := getUser(s.mail.State, in.Name)
	if err != nil {
		return api.ReplyRow{}, err
	}
	return s.replyOf(u)
}

func (s *Server) meReplyShow(_ context.Context, c *Call, _ *op.None) (api.ReplyRow, error) {
	a, err := s.me(c)
	if err != nil {
		return api.ReplyRow{}, err
	}
	return s.replyOf(&a.User)
}

func (s *Server) userReplyList(_ context.Context, _ *Call, in *api.ListIn) ([]api.ReplyRow, error) {
	pic, err := s.mail.Directory.Now()
	if err != nil {
		return nil, err
	}
	out := []api.ReplyRow{}
	for _, user := range slices.Sorted(maps.Keys(pic.Replies)) {
		if r := pic.Replies[user]; matches(in.Search, user, r.Subject, r.Text) {
			out = append(out, replyRow(user, r))
		}
	}
	return out, nil
}

func (s *Server) userReplySet(ctx context.Context, c *Call, in *api.UserReplySetIn) (api.ReplyRow, error) {
	return s.setReply(ctx, c, in.Name, &in.ReplySetting)
}

func (s *Server) meReplySet(ctx context.Context, c *Call, in *api.MeReplySetIn) (api.ReplyRow, error) {
	a, err := s.me(c)
	if err != nil {
		return api.ReplyRow{}, err
	}
	return s.setReply(ctx, c, a.Name, &in.ReplySetting)
}

func (s *Server) setReply(ctx context.Context, c *Call, name string, in *api.ReplySetting) (row api.ReplyRow, err error) {
	now := time.Now()
	address := true
	err = s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		old, err := found(tx, state.AutoReplies, u.Key())
		if err != nil {
			return err
		}
		r := &model.AutoReply{User: u.Key()}
		if old != nil {
			*r = *old
		}
		r.Since = now.UnixNano()
		assign(&r.Subject, in.Subject)
		if in.Text != "" {
			r.Text = in.Text
		}
		if r.Text == "" {
			return op.Errorf(op.Usage, "there is no text yet; give --text FILE, or --text - to read standard input")
		}
		if err := setTimes(r, in); err != nil {
			return err
		}
		if err := r.Validate(); err != nil {
			return err
		}
		if r.Until != 0 && r.Until <= now.Unix() {
			return model.Invalid("until", "%s is over already", stamp(r.Until))
		}
		members, err := state.DomainUsers.Find(tx, state.IndexMemberByUser, u.Key())
		if err != nil {
			return err
		}
		address = len(members) > 0
		row = replyRow(u.Name, r)
		diffRows(c, replyDiff(u.Name, old), replyDiff(u.Name, r))
		return state.AutoReplies.Put(tx, r)
	})
	if err == nil && !address {
		c.Warn("%s has no address, so nobody gets the reply", name)
	}
	return row, err
}

// setTimes reads the first and the last day. A last day counts whole.
func setTimes(r *model.AutoReply, in *api.ReplySetting) error {
	for _, x := range []struct {
		to   *int64
		text *string
		last bool
	}{{&r.From, in.From, false}, {&r.Until, in.Until, true}} {
		switch {
		case x.text == nil:
			continue
		case *x.text == "":
			*x.to = 0
			continue
		}
		if t, err := time.ParseInLocation(time.DateOnly, *x.text, time.Local); err == nil {
			if x.last {
				t = t.AddDate(0, 0, 1)
			}
			*x.to = t.Unix()
			continue
		}
		t, err := time.Parse(time.RFC3339, *x.text)
		if err != nil {
			return op.Errorf(op.Usage, "%q is no time; write 2026-01-31 or 2026-01-31T15:04:05Z", *x.text)
		}
		*x.to = t.Unix()
	}
	return nil
}

func (s *Server) userReplyDelete(ctx context.Context, c *Call, in *api.UserIn) (op.None, error) {
	return s.deleteReply(ctx, c, in.Name, "mpctl user autoreply show "+in.Name)
}

func (s *Server) meReplyDelete(ctx context.Context, c *Call, _ *op.None) (op.None, error) {
	a, err := s.me(c)
	if err != nil {
		return op.None{}, err
	}
	return s.deleteReply(ctx, c, a.Name, "mpctl me autoreply show")
}

func (s *Server) deleteReply(ctx context.Context, c *Call, name, show string) (op.None, error) {
	return op.None{}, s.change(ctx, c, func(tx *state.Tx) error {
		u, err := getUser(tx, name)
		if err != nil {
			return err
		}
		r, err := found(tx, state.AutoReplies, u.Key())
		if err != nil {
			return err
		}
		if r == nil {
			return notFound("automatic reply of", u.Name, show)
		}
		diffRows(c, replyDiff(u.Name, r), nil)
		return state.AutoReplies.Delete(tx, r.User)
	})
}
